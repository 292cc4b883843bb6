package nixstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

const (
	maxLinks   = 40   // as the kernel itself has it
	maxPathLen = 4096 // PATH_MAX
)

var (
	// ErrNotLink is wrapped by [Store.ResolveLink] for a path that exists outside the
	// store and is not reached through a link.
	ErrNotLink = errors.New("not a link")
	// ErrOutsideStore is wrapped by [Store.ResolveLink] for a link that does not end in a
	// store object.
	ErrOutsideStore = errors.New("leads outside the store")
	// ErrLinkLoop is wrapped by [Store.ResolveLink] for a chain of more than 40 links.
	ErrLinkLoop = errors.New("too many links")
	// ErrProcessLink is wrapped by [Store.ResolveLink] for a link of a process in /proc to
	// something of it, such as an open file. What it says is not where it leads.
	ErrProcessLink = errors.New("leads to something of a process")
)

// ResolveLink follows the absolute path name, such as /run/current-system, to its end as
// the machine under examination would, through links within the store too. It returns the
// store object in which it ends and the path within it, "" or "/…".
//
// The error wraps [fs.ErrNotExist] if something on the way does not exist. If that is the
// store object itself, or something within it, the object is returned with the error: the
// link says which one it should be.
func (s *Store) ResolveLink(name string) (closure.StorePath, string, error) {
	p, rest, err := s.resolve(name)
	if err != nil {
		return p, rest, fmt.Errorf("resolve %q: %w", clip(name), err)
	}
	return p, rest, nil
}

// Follow returns the end of the links of the absolute path name, for the machine under
// examination. The error is one of [Store.ResolveLink].
func (s *Store) Follow(name string) (string, error) {
	at, _, _, err := s.follow(name)
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", clip(name), err)
	}
	return at, nil
}

func (s *Store) resolve(name string) (closure.StorePath, string, error) {
	at, todo, links, err := s.follow(name)
	if err != nil {
		return s.missing(at, todo, err)
	}
	p, rest, err := s.dir.Within(at)
	switch {
	case err == nil:
		return p, rest, nil
	case links == 0:
		return "", "", ErrNotLink
	}
	return "", "", fmt.Errorf("%w: at %q", ErrOutsideStore, clip(at))
}

// follow returns the end of the links of name, and how many there are. With an error it
// returns where it came, and what was to come.
func (s *Store) follow(name string) (at string, todo []string, links int, err error) {
	if !path.IsAbs(name) || strings.ContainsRune(name, 0) {
		return "", nil, 0, errors.New("not an absolute path")
	}
	at = "/"                        // what is resolved: no component of it is a link
	todo = strings.Split(name, "/") // what is to come, "" and "." among it
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			// Correct because at contains no link; "/.." is "/".
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, next)
		if len(here) > maxPathLen {
			return here, todo, links, unix.ENAMETOOLONG
		}
		target, isLink, err := s.readlink(here)
		if err != nil {
			return here, todo, links, err
		}
		if !isLink {
			at = here
			continue
		}
		if links++; links > maxLinks {
			return here, todo, links, ErrLinkLoop
		}
		if len(target)+len(strings.Join(todo, "/")) > maxPathLen {
			return here, todo, links, unix.ENAMETOOLONG
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil, links, nil
}

// missing returns the store object that contains a path which does not exist.
func (s *Store) missing(here string, todo []string, err error) (closure.StorePath, string, error) {
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	p, rest, outside := s.dir.Within(here)
	if outside != nil {
		return "", "", err
	}
	for _, next := range todo {
		switch next {
		case "", ".":
		case "..":
			return "", "", err
		default:
			rest += "/" + next
		}
	}
	return p, rest, err
}

// readlink reads one path whose parent contains no link. The store directory is where
// OpenStore found it, even if a link led there: links refer to it by its own name.
func (s *Store) readlink(name string) (target string, isLink bool, err error) {
	if name == string(s.dir) || strings.HasPrefix(string(s.dir), name+"/") {
		return "", false, nil
	}
	base, rel := s.tree.dir, relative(name)
	if below, ok := strings.CutPrefix(name, string(s.dir)+"/"); ok {
		base, rel = s.file, below
	}
	// With O_PATH and O_NOFOLLOW, a link as the last component is opened itself.
	f, err := openBelow(base, rel, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", false, &fs.PathError{Op: "open", Path: clip(name), Err: err}
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", false, &fs.PathError{Op: "stat", Path: clip(name), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, nil
	}
	buf := make([]byte, maxPathLen)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", false, &fs.PathError{Op: "readlink", Path: clip(name), Err: err}
	}
	if n == 0 || n == len(buf) {
		return "", false, &fs.PathError{Op: "readlink", Path: clip(name), Err: errors.New("malformed target")}
	}
	target = string(buf[:n])
	if ofProcess(f, target) {
		return "", false, &fs.PathError{Op: "readlink", Path: clip(name), Err: ErrProcessLink}
	}
	return target, true, nil
}

// ofProcess reports whether the kernel follows an open link in its own way: the others in
// /proc, such as /proc/self, are relative.
func ofProcess(link *os.File, target string) bool {
	var st unix.Statfs_t
	return (path.IsAbs(target) || strings.Contains(target, ":")) &&
		unix.Fstatfs(int(link.Fd()), &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
}
