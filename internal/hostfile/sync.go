package hostfile

import "os"

// SyncDir syncs the directory dir to disk, so that a file renamed there keeps its
// name after a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
