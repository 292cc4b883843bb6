package nixstore

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountInfo lists what is mounted where this process can see it; see
// proc_pid_mountinfo(5).
const mountInfo = "/proc/self/mountinfo"

// maxMountLine bounds one line of it: two paths and the options.
const maxMountLine = 64 << 10

// Mounts returns where something is mounted beneath the store directory, in
// ascending order and by the store's own name wherever it lies. What is seen
// there is not what the store holds, and need not even behave as a file of a
// disk does: the size of one in /proc is 0, whatever it gives.
func (s *Store) Mounts() ([]string, error) {
	// The kernel names the mount points by their real paths.
	here, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	f, err := os.Open(mountInfo)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	if err := checkProc(f); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxMountLine)
	for lines.Scan() {
		point, err := mountPoint(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("list mounts: %w", err)
		}
		if below, ok := strings.CutPrefix(point, strings.TrimSuffix(here, "/")+"/"); ok && below != "" {
			found = append(found, path.Join(string(s.dir), below))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// checkProc reports whether f is in a real /proc: a list of mounts from
// elsewhere would be anybody's.
func checkProc(f *os.File) error {
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &vfs); err != nil {
		return &fs.PathError{Op: "statfs", Path: mountInfo, Err: err}
	}
	if vfs.Type != unix.PROC_SUPER_MAGIC {
		return &fs.PathError{Op: "read", Path: mountInfo, Err: errors.New("not in a file system of type proc")}
	}
	return nil
}

// mountPoint returns the fifth field of a line: "36 35 98:0 /root /mount …".
func mountPoint(line string) (string, error) {
	fields := strings.SplitN(line, " ", 6)
	if len(fields) < 6 || !strings.HasPrefix(fields[4], "/") {
		return "", fmt.Errorf("%s has the line %q", mountInfo, clip(line))
	}
	return unescapeMount.Replace(fields[4]), nil
}

// unescapeMount undoes what the kernel does to the bytes that separate.
var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")
