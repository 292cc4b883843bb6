package nar

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpenDirs limits the open directories of one walk. Those above are closed and
// reopened through "..", so that deep trees do not exhaust descriptors; deeper trees
// are rare in a store.
const maxOpenDirs = 16

// MaxOpen is how many files and directories a walk has open at most.
const MaxOpen = maxOpenDirs + 1 + maxUndropped + maxAhead

// A walker is the state of a walk over one tree: its position, as a stack of
// directories. It does not recurse, because the tree determines the depth.
type walker struct {
	done    <-chan struct{} // of the context; nil if it cannot be cancelled
	ctx     context.Context // for its error only
	path    []byte          // of the current node, the root's name first
	rootLen int             // length of the root's name in path
	frames  []frame         // directories from the root to the current node
	names   []dirent        // entries of those directories, end to end
	held    int64           // bytes that names takes
	hasTurn bool            // whether the walk has its Turn
	listing []byte          // buffer for getdents
	target  []byte          // buffer for readlinkat
	stat    unix.Stat_t
	ahead   []aheadFile

	listings int // how many times a directory was listed, for tests
}

// A frame is one directory on the way to the current node.
type frame struct {
	fd       int // -1 while closed
	dev, ino uint64
	stamp    stamp
	pathLen  int // length of the walker's path up to here
	first    int // its entries are names[first:end]
	next     int
	ahead    int // the first entry that openAhead has not considered
	end      int
	held     int64 // bytes that they take
	more     bool  // more entries come after those; the directory is listed again
}

// walk sends the NAR of an entry of the directory dirfd to the stream.
func (h *Hasher) walk(ctx context.Context, dirfd int, root string) error {
	h.ctx, h.done = ctx, ctx.Done()
	h.path = append(h.path[:0], root...)
	h.rootLen = len(root)
	h.frames, h.names, h.held = h.frames[:0], h.names[:0], 0
	defer h.closeAll()

	h.out.put(tokMagic)
	if err := h.node(dirfd, dirent{name: root, typ: unix.DT_UNKNOWN}); err != nil {
		return err
	}
	for len(h.frames) > 0 {
		f := &h.frames[len(h.frames)-1]
		if f.next == f.end {
			end := h.leave
			if f.more {
				end = h.relist
			}
			if err := end(); err != nil {
				return err
			}
			continue
		}
		n := h.names[f.next]
		f.next++
		h.out.put(tokEntry)
		h.out.putString(n.name)
		h.out.put(tokNode)
		h.path = append(h.path[:f.pathLen], '/')
		h.path = append(h.path, n.name...)
		if len(h.path)-h.rootLen > maxPath {
			return h.fail("hash", fmt.Errorf("%w: its path has more than %d bytes", ErrTooLarge, maxPath))
		}
		if n.typ == unix.DT_REG {
			h.openAhead()
		}
		if err := h.node(f.fd, n); err != nil {
			return err
		}
	}
	return nil
}

// node sends one node. For a directory it sends the beginning; its entries follow
// from the frame that enter adds, and its end from leave.
func (h *Hasher) node(dirfd int, n dirent) error {
	select {
	case <-h.done:
		return h.ctx.Err()
	default:
	}
	if h.out.err != nil {
		return h.out.err
	}
	if err := h.fits(0); err != nil {
		return err
	}
	typ := n.typ
	if typ == unix.DT_UNKNOWN {
		// For the root, and on file systems without types in their directories.
		if err := fstatat(dirfd, n.name, &h.stat); err != nil {
			return h.fail("stat", err)
		}
		typ = uint8(h.stat.Mode & unix.S_IFMT >> 12) // DT_ and S_IF agree
	}
	var err error
	switch typ {
	case unix.DT_DIR:
		return h.enter(dirfd, n.name)
	case unix.DT_REG:
		err = h.regular(dirfd, n.name)
	case unix.DT_LNK:
		err = h.symlink(dirfd, n.name)
	default:
		return h.fail("hash", fmt.Errorf("%w: %s", ErrUnsupported, typeName(typ)))
	}
	if err != nil {
		return err
	}
	h.closeNode()
	return nil
}

// closeNode ends a node and, unless it was the root, the entry around it.
func (h *Hasher) closeNode() {
	h.out.put(tokClose)
	if len(h.frames) > 0 {
		h.out.put(tokClose)
	}
}

// enter opens and lists a directory and makes it the current one.
func (h *Hasher) enter(dirfd int, name string) error {
	fd, err := h.open(dirfd, name, unix.O_DIRECTORY)
	if err != nil {
		return h.fail("open", swapped(err))
	}
	// From here on closeAll takes care of fd.
	h.frames = append(h.frames, frame{
		fd: fd, pathLen: len(h.path), first: len(h.names), next: len(h.names),
	})
	f := &h.frames[len(h.frames)-1]
	if err := fstat(fd, &h.stat); err != nil {
		return h.fail("stat", err)
	}
	f.dev, f.ino, f.stamp = h.stat.Dev, h.stat.Ino, stampOf(&h.stat)
	h.out.put(tokDirectory)
	h.reportMetadata(&h.stat)
	if err := h.reportAttributes(fd); err != nil {
		return err
	}
	if err := h.reportEntry(Entry{Type: Directory}); err != nil {
		return err
	}
	if err := h.list(f, ""); err != nil {
		return err
	}
	if i := len(h.frames) - 1 - maxOpenDirs; i >= 0 {
		unix.Close(h.frames[i].fd)
		h.frames[i].fd = -1
	}
	return nil
}

// minEntrySize is what each entry of a directory takes at least: all but the
// name, the type and the contents, which differ.
var minEntrySize = int64(len(tokEntry) + len(tokNode) + 2*len(tokClose))

// fits returns an error if the NAR would exceed the limit with more bytes.
func (h *Hasher) fits(more int64) error {
	if limit := h.opts.MaxSize; limit > 0 && more > limit-h.out.sent() {
		return h.fail("hash", fmt.Errorf("%w: its NAR has more than %d bytes", ErrTooLarge, limit))
	}
	return nil
}

// leave ends the current directory and makes its parent the current one.
func (h *Hasher) leave() error {
	f := &h.frames[len(h.frames)-1]
	h.closeAhead(len(h.frames) - 1)
	h.path = h.path[:f.pathLen]
	if err := fstat(f.fd, &h.stat); err != nil {
		return h.fail("stat", err)
	}
	if err := f.stamp.check(&h.stat); err != nil {
		return h.fail("list", err)
	}
	if len(h.frames) > 1 {
		if err := h.reopen(&h.frames[len(h.frames)-2], f.fd); err != nil {
			return err
		}
	}
	unix.Close(f.fd)
	clear(h.names[f.first:]) // they keep the text of the whole listing in memory
	h.names = h.names[:f.first]
	h.held -= f.held
	h.frames = h.frames[:len(h.frames)-1]
	h.closeNode()
	return nil
}

// reopen opens the directory of f again if it was closed, through ".." of a directory
// in it. It must be the same inode: a directory moved away has another parent now.
func (h *Hasher) reopen(f *frame, child int) error {
	if f.fd >= 0 {
		return nil
	}
	fd, err := h.open(child, "..", unix.O_DIRECTORY)
	if err != nil {
		return h.fail("open", err)
	}
	f.fd = fd
	if err := fstat(fd, &h.stat); err != nil {
		return h.fail("stat", err)
	}
	if h.stat.Dev != f.dev || h.stat.Ino != f.ino {
		return h.fail("open", fmt.Errorf("%w: moved to another directory", ErrChanged))
	}
	return nil
}

// closeAll closes the directories that a failed walk leaves open, and the last files.
func (h *Hasher) closeAll() {
	for _, f := range h.frames {
		if f.fd >= 0 {
			unix.Close(f.fd)
		}
	}
	h.closeAhead(0)
	h.undropped.drop()
	clear(h.names)
	h.endTurn()
	h.frames, h.names, h.held, h.ctx, h.done = h.frames[:0], h.names[:0], 0, nil, nil
}

// symlink sends the node of a symbolic link but for its end.
func (h *Hasher) symlink(dirfd int, name string) error {
	if h.target == nil {
		h.target = make([]byte, targetSize)
	}
	n, err := readlinkat(dirfd, name, h.target)
	if errors.Is(err, unix.EINVAL) {
		return h.fail("readlink", fmt.Errorf("%w: no longer a symbolic link", ErrChanged))
	}
	if err != nil {
		return h.fail("readlink", swapped(err))
	}
	if n == len(h.target) {
		return h.fail("readlink", unix.ENAMETOOLONG) // may have been cut short
	}
	target := string(h.target[:n])
	h.out.put(tokSymlink)
	h.out.putString(target)
	return h.reportEntry(Entry{Type: Symlink, Target: target})
}

// fail returns a PathError about the current node.
func (h *Hasher) fail(op string, err error) error {
	return &PathError{Path: string(h.path), Op: op, Err: err}
}

// relative returns the path of the current node in the form of an Entry.
func (h *Hasher) relative() string {
	if len(h.path) == h.rootLen {
		return ""
	}
	return string(h.path[h.rootLen+1:])
}

func (h *Hasher) reportEntry(e Entry) error {
	if h.opts.OnEntry == nil {
		return nil
	}
	e.Path = h.relative()
	return h.opts.OnEntry(e)
}

// reportMetadata calls the callbacks for metadata that Nix does not set.
func (h *Hasher) reportMetadata(st *unix.Stat_t) {
	if h.opts.OnMode != nil && !isNixMode(st.Mode) {
		h.opts.OnMode(h.relative(), st.Mode)
	}
	if h.opts.OnOwner != nil && (st.Uid != 0 && st.Uid != h.opts.Owner || st.Gid != 0 && st.Gid != h.opts.Group) {
		h.opts.OnOwner(h.relative(), st.Uid, st.Gid)
	}
	if h.opts.OnTime != nil && st.Mtim != (unix.Timespec{Sec: 1}) {
		h.opts.OnTime(h.relative(), st.Mtim.Sec, st.Mtim.Nsec)
	}
	if h.opts.OnLinks != nil && st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		h.opts.OnLinks(st.Dev, st.Ino, uint64(st.Nlink)) //nolint:unconvert // 32 bits on arm64
	}
}

// isNixMode reports whether Nix sets this mode in its store.
func isNixMode(mode uint32) bool {
	switch mode &^ unix.S_IFMT {
	case 0o555:
		return true
	case 0o444:
		return mode&unix.S_IFMT == unix.S_IFREG
	}
	return false
}

// reportAttributes reports extended attributes of the open file fd.
func (h *Hasher) reportAttributes(fd int) error {
	if h.opts.OnAttributes == nil {
		return nil
	}
	var few [512]byte
	list := few[:]
	n, err := listXattr(fd, list)
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, maxAttributes)
		n, err = listXattr(fd, list)
	}
	switch {
	case errors.Is(err, unix.ENOTSUP), err == nil && n == 0:
		return nil
	case err != nil:
		return h.fail("listxattr", err)
	}
	h.opts.OnAttributes(h.relative(), strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00"))
	return nil
}

// typeName names a type that is not supported in a NAR.
func typeName(typ uint8) string {
	switch typ {
	case unix.DT_FIFO:
		return "FIFO"
	case unix.DT_SOCK:
		return "socket"
	case unix.DT_CHR:
		return "character device"
	case unix.DT_BLK:
		return "block device"
	}
	return fmt.Sprintf("type %d", typ)
}
