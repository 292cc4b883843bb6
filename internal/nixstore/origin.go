package nixstore

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// Origin is the file system from which a directory of the machine is read.
type Origin struct {
	// Dir is the machine's own name of the directory, Path its real path as this process
	// sees it.
	Dir, Path string
	// Mounts are the mounts on the way from "/" to Path, each on the previous one. The
	// last has Path on it.
	Mounts []Mount
	// Init are the mounts on the same way as the machine's first process sees them; nil
	// if they are unknown.
	Init []Mount
}

// Place is a directory of a file system, by whatever path it is seen.
type Place struct{ Device, Dir string }

// At returns the place of dir, which is on the last of mounts.
func At(mounts []Mount, dir string) Place {
	m := &mounts[len(mounts)-1]
	below := dir
	if m.Point != "/" {
		below = dir[len(m.Point):]
	}
	return Place{m.Device, path.Join(m.Root, below)}
}

// ErrUnlisted is wrapped if the list of mounts does not contain the mount that is read:
// another one has been mounted over it since, several are stacked, or it belongs to
// another mount namespace.
var ErrUnlisted = errors.New("the list of mounts does not say which mount it is on: something was mounted over it meanwhile, or several mounts cover one another")

// Origins returns the origins of directories; the store is called by its own name.
// Directories that do not exist are left out.
func (s *Store) Origins(dirs ...string) ([]Origin, error) {
	return s.origins(dirs, unix.O_PATH|unix.O_DIRECTORY)
}

// OriginsBelow is [Store.Origins] for all mounts below dir, which need not be
// directories: a file, or a link, can be a mount point too.
func (s *Store) OriginsBelow(dir string) ([]Origin, error) {
	f, err := s.tree.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the mounts in %s: %w", dir, err)
	}
	defer f.Close()
	names, err := mountsBelow(f, dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return s.origins(names, unix.O_PATH|unix.O_NOFOLLOW)
}

func (s *Store) origins(dirs []string, flags uint64) ([]Origin, error) {
	out, mounted := make([]Origin, 0, len(dirs)), make([]uint64, 0, len(dirs))
	for _, dir := range dirs {
		f := s.file
		if dir != string(s.dir) {
			var err error
			if f, err = s.tree.open(dir, flags); errors.Is(err, unix.ENOENT) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("find the mount of %s: %w", dir, err)
			}
			defer f.Close()
		}
		real, err := realPath(f)
		if err != nil {
			return nil, fmt.Errorf("find the mount of %s: %w", dir, err)
		}
		// Some emulators do not report it; 0 is in no list.
		mount, err := hostfile.MountOf(int(f.Fd()))
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, fmt.Errorf("find the mount of %s: %w", dir, err)
		}
		out, mounted = append(out, Origin{Dir: dir, Path: real}), append(mounted, mount)
	}
	table, err := mountsAbove(mountInfo, out)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	// The first process may be hidden from this one.
	first, _ := mountsAbove(mountInfoInit, out)
	for i := range out {
		o := &out[i]
		o.Mounts, o.Init = chain(table, o.Path), chain(first, o.Path)
		if len(o.Mounts) == 0 {
			return nil, fmt.Errorf("find the mount of %s: the list of mounts has no root directory", o.Dir)
		}
		if id := mounted[i]; id != 0 && id != uint64(o.Mounts[len(o.Mounts)-1].ID) {
			return nil, fmt.Errorf("find the mount of %s: %w", o.Dir, ErrUnlisted)
		}
	}
	return out, nil
}

// maxMounts limits the mounts of one process that are kept.
const maxMounts = 50_000

// FirstMounts returns the mounts of the machine's first process.
func FirstMounts() ([]Mount, error) {
	out, err := mountsIn(mountInfoInit, nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return out, nil
}

// MountsOf returns the mounts that a process sees, whose directory in /proc is dir, as
// far as keep wants those at a point. A process with a root directory of its own may
// see none at "/".
func MountsOf(dir string, keep func(point string) bool) ([]Mount, error) {
	return mountsIn(path.Join(dir, "mountinfo"), keep)
}

func mountsIn(name string, keep func(point string) bool) ([]Mount, error) {
	var out []Mount
	err := eachMount(name, keep, func(m Mount) error {
		if len(out) == maxMounts {
			return fmt.Errorf("%s: more than %d mounts", name, maxMounts)
		}
		out = append(out, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Way returns the mounts of a process that are crossed on the way to dir, which contains
// no link, beginning with the root's; nil if the root is not among them.
func Way(mounts []Mount, dir string) []Mount { return chain(mounts, dir) }

// Layers returns the directories of an overlay that an option of it names, such as
// "upperdir", by the paths at which they are seen after the initrd; none if the option is
// not there.
func (m *Mount) Layers(option string) []string {
	var out []string
	for _, o := range strings.Split(m.Options, ",") {
		value, ok := strings.CutPrefix(o, option+"=")
		if !ok {
			value, ok = strings.CutPrefix(o, option+"+=")
		}
		if !ok {
			continue
		}
		for _, dir := range strings.Split(value, ":") {
			for _, stage := range []string{"/sysroot/", "/mnt-root/"} {
				if rest, ok := strings.CutPrefix(dir, stage); ok {
					dir = "/" + rest
				}
			}
			out = append(out, path.Clean(dir))
		}
	}
	return out
}

// mountsAbove returns the mounts of a list at or above the origins' paths.
func mountsAbove(name string, origins []Origin) ([]Mount, error) {
	var out []Mount
	above := func(point string) bool {
		return slices.ContainsFunc(origins, func(o Origin) bool { return covers(point, o.Path) })
	}
	err := eachMount(name, above, func(m Mount) error {
		if len(out) == maxStacked {
			return fmt.Errorf("more than %d are mounted over each other", maxStacked)
		}
		out = append(out, m)
		return nil
	})
	return out, err
}

// chain returns the mounts that the kernel crosses on the way to dir, the root's first;
// nil if the table has no root.
func chain(table []Mount, dir string) []Mount {
	byID := make(map[int]bool, len(table))
	for _, m := range table {
		byID[m.ID] = true
	}
	at := slices.IndexFunc(table, func(m Mount) bool { return m.Point == "/" && (!byID[m.Parent] || m.Parent == m.ID) })
	var out []Mount
	for at >= 0 && len(out) <= len(table) {
		here := table[at]
		out = append(out, here)
		// The mount on this one that is closest to its root is crossed first; it hides
		// mounts further down.
		at = -1
		for i, m := range table {
			if m.Parent == here.ID && m.ID != here.ID && covers(m.Point, dir) && (at < 0 || len(m.Point) < len(table[at].Point)) {
				at = i
			}
		}
	}
	return out
}
