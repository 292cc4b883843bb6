package running

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// maxStoreNames limits the entries of the store directory.
	maxStoreNames = 1_000_000
	// maxLinked limits the names of files with several links, 24 bytes each.
	maxLinked = 1_000_000
	// maxStrays limits the findings of a kind that are listed one by one.
	maxStrays = 20
)

// Link is one name of a store file that has several.
type Link struct {
	Dev, Ino uint64
	Names    uint32 // how many
}

// checkStore finds what no hash of the release's paths shows: store paths that Nix has
// not registered, and store files with a name outside.
func (m *Machine) checkStore(ctx context.Context, l *look) error {
	dir := string(m.Store.Dir())
	entries, err := m.Store.List(dir, maxStoreNames)
	if err != nil {
		return err
	}
	strays, err := m.unregistered(ctx, entries)
	if err != nil {
		return fmt.Errorf("the paths that Nix has registered: %w", err)
	}
	top, err := m.Store.Stat(dir)
	if err != nil {
		return err
	}
	overlay := m.onOverlay()
	if overlay {
		l.notSeen = append(l.notSeen, "hard links into the store (it is on an overlay)")
	}
	sizes := make(map[string]*fold, len(strays))
	for _, name := range strays {
		sizes[name] = new(fold)
	}
	var names links
	var checked atomic.Int64
	read := m.Linked
	m.Linked = nil // the second look reads it again
	err = m.Store.WalkApart(ctx, dir, func(e *nixstore.Entry) error {
		checked.Add(1)
		if len(read) > 0 && !overlay && e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			if linked, ok := read[closure.StorePath(dir+"/"+e.Name())]; ok {
				names.add(top.Dev, linked...)
				return fs.SkipDir
			}
		}
		if overlay || len(sizes) > 0 {
			first, _, _ := strings.Cut(e.Name(), "/")
			size := sizes[first]
			switch {
			case size == nil && overlay && e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR:
				return fs.SkipDir // it is not judged
			case size != nil && e.Stat.Mode&unix.S_IFMT == unix.S_IFREG:
				size.files++
				size.bytes += e.Stat.Size
			}
		}
		if !overlay && e.Stat.Mode&unix.S_IFMT == unix.S_IFREG && e.Stat.Nlink > 1 {
			names.add(top.Dev, Link{e.Stat.Dev, e.Stat.Ino, uint32(e.Stat.Nlink)}) //nolint:gosec // Linux counts in 32 bits
		}
		return nil
	})
	l.checked += int(checked.Load())
	if err != nil {
		return err
	}
	l.tellStrays(strays, sizes)
	if names.more {
		l.notSeen = append(l.notSeen, fmt.Sprintf("hard links into the store (more than %d of its files have some)", maxLinked))
		return nil
	}
	return m.tellLinked(ctx, l, outside(names.all), top.Dev)
}

// links collects the names of files that have several. It is safe for concurrent use.
type links struct {
	lock sync.Mutex
	all  []Link
	more bool // than maxLinked
}

// add adds those of the file system dev.
func (n *links) add(dev uint64, links ...Link) {
	n.lock.Lock()
	defer n.lock.Unlock()
	for _, link := range links {
		if n.more = n.more || len(n.all) == maxLinked; !n.more && link.Dev == dev {
			n.all = append(n.all, link)
		}
	}
}

// onOverlay reports whether the store is on an overlay, where the link count of a file
// differs from its number of names.
func (m *Machine) onOverlay() bool {
	var vfs unix.Statfs_t
	err := unix.Fstatfs(int(m.Store.File().Fd()), &vfs)
	return err != nil || vfs.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// registration is the list of an image's store paths. NixOS images have it in their stores
// and register the paths from it at boot.
const registration = "nix-path-registration"

// unregistered returns the entries of the store that Nix has neither registered nor is
// working on.
func (m *Machine) unregistered(ctx context.Context, entries []string) ([]string, error) {
	has := make(map[string]bool, len(entries))
	for _, name := range entries {
		has[name] = true
	}
	strays := make(map[string]bool)
	for _, name := range entries {
		// Nix's own: links for files with the same contents, and temporary files of a
		// build. Only the path that is being built is beside its lock.
		own := name == ".links" || name == registration && m.isList(name) || strings.HasPrefix(name, ".tmp-link") || strings.HasSuffix(name, ".lock") || strings.HasSuffix(name, ".chroot") || has[name+".lock"]
		if !own {
			strays[name] = true
		}
	}
	// Most often, all of them were registered when the run began.
	for _, now := range []bool{false, true} {
		for p, err := range m.Registered(ctx, now) {
			var row *nixstore.RowError
			if errors.As(err, &row) {
				continue
			}
			if err != nil {
				return nil, err
			}
			delete(strays, p.Base())
		}
		if len(strays) == 0 {
			return nil, nil
		}
	}
	out := make([]string, 0, len(strays))
	for name := range strays {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// isList reports whether an entry of the store is a regular file that is not executable.
func (m *Machine) isList(name string) bool {
	st, err := m.Store.Stat(path.Join(string(m.Store.Dir()), name))
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 == 0
}

// tellStrays reports store paths that are not registered, the largest first.
func (l *look) tellStrays(names []string, sizes map[string]*fold) {
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(sizes[b].bytes, sizes[a].bytes) })
	var rest fold
	for i, name := range names {
		if i >= maxStrays {
			rest.files += sizes[name].files
			rest.bytes += sizes[name].bytes
			continue
		}
		l.find(report.Finding{
			Cause: report.PathUnregistered, Path: path.Join(string(l.m.Store.Dir()), name),
			Got: sizes[name].size(),
		})
	}
	if more := len(names) - maxStrays; more > 0 {
		l.find(report.Finding{
			Cause: report.PathUnregistered, Path: string(l.m.Store.Dir()),
			Got: fmt.Sprintf("%d more, with %s", more, rest.size()),
		})
	}
}

// count is the number of names of a file that were seen in the store, and the number that it
// has.
type count struct{ seen, has uint32 }

// outside returns, by number, the files with more names than were seen.
func outside(names []Link) map[uint64]count {
	slices.SortFunc(names, func(a, b Link) int { return cmp.Or(cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Names, b.Names)) })
	out := make(map[uint64]count)
	for i := 0; i < len(names); {
		n := i
		for n < len(names) && names[n].Ino == names[i].Ino {
			n++
		}
		// The highest number: a link may have been added meanwhile.
		if seen := uint32(n - i); seen < names[n-1].Names { //nolint:gosec // bounded by maxLinked
			out[names[i].Ino] = count{seen, names[n-1].Names}
		}
		i = n
	}
	return out
}

// tellLinked reports the files that have a name outside the store.
func (m *Machine) tellLinked(ctx context.Context, l *look, files map[uint64]count, dev uint64) error {
	if len(files) == 0 {
		return nil
	}
	total, told := len(files), 0
	err := m.Store.Walk(ctx, string(m.Store.Dir()), func(e *nixstore.Entry) error {
		f, ok := files[e.Stat.Ino]
		if !ok || e.Stat.Dev != dev || e.Stat.Mode&unix.S_IFMT != unix.S_IFREG || strings.HasPrefix(e.Name(), ".links/") && len(files) > maxStrays {
			return nil
		}
		delete(files, e.Stat.Ino)
		if told++; told > maxStrays {
			return fs.SkipAll
		}
		l.find(report.Finding{
			Cause: report.LinkedOutside, Path: path.Join(string(m.Store.Dir()), e.Name()),
			Want: fmt.Sprintf("%d links, as many as the store has", f.seen), Got: fmt.Sprintf("%d links", f.has),
		})
		return nil
	})
	if errors.Is(err, fs.SkipAll) {
		l.find(report.Finding{
			Cause: report.LinkedOutside, Path: string(m.Store.Dir()), Got: fmt.Sprintf("%d more files", total-maxStrays),
		})
		err = nil
	}
	return err
}
