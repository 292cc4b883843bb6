package hostfile

import "os"

// SyncDir brings the names in the directory dir to the disk, so that a file that
// was renamed there keeps its name after a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
