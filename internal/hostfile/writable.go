package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// maxLinks limits consecutive links, as the kernel does.
const maxLinks = 40

// A WritableError means that another user can change what a name leads to.
type WritableError struct {
	Path  string      // the file, link or directory that they can change
	Owner int         // its owner, -1 if the mode is the problem
	Mode  fs.FileMode // its permissions
	// Link is the first link on the way to Path, "" for none. The link's target may
	// rightly belong to another user, so the remedy is to replace the link.
	Link string
}

func (e *WritableError) Error() string {
	if e.Link != "" {
		what := fmt.Sprintf("others can write to (mode %04o)", unixMode(e.Mode))
		if e.Owner >= 0 {
			what = fmt.Sprintf("belongs to user %d, who is neither root nor the user that runs this", e.Owner)
		}
		return fmt.Sprintf("the link %s leads to %s, which %s: replace the link with something that only root can change", e.Link, e.Path, what)
	}
	if e.Owner >= 0 {
		return fmt.Sprintf("%s belongs to user %d, who is neither root nor the user that runs this: have root own it (chown)", e.Path, e.Owner)
	}
	return fmt.Sprintf("others can write to %s (mode %04o): remove that permission (chmod go-w)", e.Path, unixMode(e.Mode))
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

// CheckOwn returns an error unless only root, the running user and the trusted users
// can change what name leads to, as sshd and sudo require for their files. It checks
// the file or directory itself, each directory above it, and each link on the way
// with the directories above that. The error is a [*WritableError], or says what
// could not be examined. A name that leads to nothing is no error if nobody else can
// create it.
//
// In a directory with the sticky bit, such as /tmp, others can't replace root's
// files; but if name is itself a directory, others must not be able to write to it at
// all. Access control lists show in the mode, as the group's permissions.
func CheckOwn(name string, trusted ...int) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	at, todo := "/", strings.Split(path, "/")
	links, first := 0, ""
	by := func(err error) error {
		if writable := (*WritableError)(nil); errors.As(err, &writable) {
			writable.Link = first
		}
		return err
	}
	// The root directory first, then one name after the other.
	if err := checkNode(at, len(strings.Trim(path, "/")) == 0, trusted); err != nil {
		return err
	}
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at) // which has no link
			continue
		}
		here := filepath.Join(at, next)
		info, err := os.Lstat(here)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			last := !slices.ContainsFunc(todo, func(s string) bool { return s != "" && s != "." })
			if err := checkNode(here, last, trusted); err != nil {
				return by(err)
			}
			at = here
			continue
		}
		if links++; links > maxLinks {
			return &fs.PathError{Op: "follow", Path: name, Err: syscall.ELOOP}
		}
		if err := checkOwner(here, info, trusted); err != nil {
			return by(err)
		}
		if first == "" {
			first = here
		}
		target, err := os.Readlink(here)
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return nil
}

// checkNode checks a path that is not a link; last means that it is the requested
// name.
func checkNode(path string, last bool, trusted []int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeDevice != 0 {
		return nil // a terminal, or /dev/null: nothing is stored in it
	}
	if err := checkOwner(path, info, trusted); err != nil {
		return err
	}
	const others = 0o022
	if info.Mode().Perm()&others == 0 || !last && info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	return &WritableError{Path: path, Owner: -1, Mode: info.Mode()}
}

func checkOwner(path string, info fs.FileInfo, trusted []int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return &fs.PathError{Op: "stat", Path: path, Err: errors.New("its owner is not known")}
	}
	owner := int(st.Uid)
	if owner == 0 || owner == os.Geteuid() || slices.Contains(trusted, owner) || owner == unmapped() {
		return nil
	}
	return &WritableError{Path: path, Owner: owner, Mode: info.Mode()}
}

// unmapped returns the ID that stands for unknown users in a user namespace, such as
// that of a Nix build; root outside is one of them. It is -1 if all users are known.
var unmapped = sync.OnceValue(func() int {
	const overflow, all = 65534, "4294967295"
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return -1
	}
	if f := strings.Fields(string(data)); len(f) >= 3 && f[0] == "0" && f[2] == all {
		return -1
	}
	return overflow
})
