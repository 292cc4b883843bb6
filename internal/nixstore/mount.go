package nixstore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel's lists of the mounts that a process sees; see proc_pid_mountinfo(5).
const (
	mountInfo     = "/proc/self/mountinfo"
	mountInfoInit = "/proc/1/mountinfo" // of the first process
)

const (
	// maxMountLine limits a line of it, in bytes: two paths and the options.
	maxMountLine = 64 << 10
	// maxStacked limits the mounts above the directories of one machine: real ones have
	// fewer than ten.
	maxStacked = 1000
)

// Mount is one line of a process's list of mounts. Everything but the numbers is
// untrusted.
type Mount struct {
	ID, Parent int    // Parent is the mount that it is mounted on
	Device     string // of the file system, as "8:1"
	Root       string // the directory of the file system that is shown
	Point      string // where it is shown, an absolute path without links
	Type       string // "ext4"
	Source     string // "/dev/sda1", "tmpfs"
	Options    string // of the file system, not of the mount
}

// Mounts returns the mount points below the store directory, in ascending order and by
// the store's own name wherever it is mounted. What is seen there is not what the store
// has, and need not even behave like a file on a disk: a file in /proc has size 0,
// whatever it contains.
func (s *Store) Mounts() ([]string, error) { return mountsBelow(s.file, string(s.dir)) }

// mountsBelow is [Store.Mounts] of an open directory whose own name is dir.
func mountsBelow(f *os.File, dir string) ([]string, error) {
	// The kernel names mount points by their real paths.
	here, err := realPath(f)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []string
	top := strings.TrimSuffix(here, "/") + "/"
	below := func(point string) bool { return strings.HasPrefix(point, top) && point != top }
	err = eachMount(mountInfo, below, func(m Mount) error {
		found = append(found, path.Join(dir, m.Point[len(top):]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// eachMount calls do for each line of a list of mounts with a point that keep wants; nil
// wants all.
func eachMount(name string, keep func(point string) bool, do func(Mount) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := checkProc(f); err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxMountLine)
	for lines.Scan() {
		// There may be thousands of them, in each of hundreds of namespaces.
		if point, ok := pointOf(lines.Bytes()); ok && keep != nil && !keep(unescapeMount(string(point))) {
			continue
		}
		m, err := parseMount(lines.Text())
		if err != nil {
			return err
		}
		if err := do(m); err != nil {
			return err
		}
	}
	return lines.Err()
}

// pointOf returns the fifth field of a line of a list of mounts.
func pointOf(line []byte) ([]byte, bool) {
	for range 4 {
		var ok bool
		if _, line, ok = bytes.Cut(line, []byte{' '}); !ok {
			return nil, false
		}
	}
	point, _, ok := bytes.Cut(line, []byte{' '})
	return point, ok
}

// CheckProc returns an error unless /proc shows this process: mounts and access control
// lists cannot be read without it.
func CheckProc() error {
	return eachMount(mountInfo, func(string) bool { return false }, func(Mount) error { return nil })
}

// checkProc returns an error unless f is in a real /proc: a list of mounts from elsewhere
// could be forged.
func checkProc(f *os.File) error {
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &vfs); err != nil {
		return &fs.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	if vfs.Type != unix.PROC_SUPER_MAGIC {
		return &fs.PathError{Op: "read", Path: f.Name(), Err: errors.New("not in a file system of type proc")}
	}
	return nil
}

// parseMount parses a line "36 35 98:0 /root /point opts shared:1 - type source opts".
// There may be any number of fields between the sixth and the dash.
func parseMount(line string) (Mount, error) {
	before, after, _ := strings.Cut(line, " - ")
	first, last := strings.Split(before, " "), strings.SplitN(after, " ", 3)
	malformed := fmt.Errorf("the list of mounts has the line %q", clip(line))
	if len(first) < 6 || len(last) < 3 || !strings.HasPrefix(first[4], "/") {
		return Mount{}, malformed
	}
	id, err := strconv.Atoi(first[0])
	parent, err2 := strconv.Atoi(first[1])
	if err != nil || err2 != nil {
		return Mount{}, malformed
	}
	return Mount{
		ID: id, Parent: parent, Device: first[2],
		Root: unescapeMount(first[3]), Point: unescapeMount(first[4]),
		Type: unescapeMount(last[0]), Source: unescapeMount(last[1]), Options: unescapeMount(last[2]),
	}, nil
}

// unescapeMount reverts the kernel's escapes of separators.
func unescapeMount(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	return mountEscapes.Replace(field)
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

// covers reports whether the directory dir is at or beneath point.
func covers(point, dir string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// realPath returns the path of an open file as this process sees it.
func realPath(f *os.File) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}
