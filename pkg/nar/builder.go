package nar

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strings"
)

// A Builder computes the hash of a NAR from nodes that are added one by one, for
// trees in images instead of a file system. The zero value is not usable; see
// [NewBuilder].
type Builder struct {
	digest  hash.Hash
	out     *bufio.Writer
	size    int64
	content hash.Hash
	open    []string // names of the directories from the root to the last node
	last    string   // path of the last node
	begun   bool     // there is a root
	isDir   bool     // the root is a directory
	file    Entry    // the regular file being written
	missing int64    // bytes of it still to come
	onEntry func(Entry)
}

// NewBuilder returns a Builder without nodes; the root must be added first. onEntry,
// when not nil, is called for each node like [Options.OnEntry].
func NewBuilder(onEntry func(Entry)) *Builder {
	if onEntry == nil {
		onEntry = func(Entry) {}
	}
	b := &Builder{digest: sha256.New(), content: sha256.New(), onEntry: onEntry}
	b.out = bufio.NewWriterSize(b.digest, bufferSize)
	b.put(tokMagic)
	return b
}

// ErrOrder is wrapped by [Builder.Add] for a node that is out of order: the order of
// a NAR has one place for each.
var ErrOrder = errors.New("not in the order of a NAR")

// Add adds the next node, in the order of the NAR: the root, with the empty Path,
// first; a directory before its entries; the entries of one directory by the bytes of
// their names. The contents of a regular file, e.Size bytes, are then written with
// Write; e.SHA256 is ignored. After an error the Builder must not be used.
func (b *Builder) Add(e Entry) error {
	if b.missing > 0 {
		return fmt.Errorf("%q has %d bytes more to come", clip(b.file.Path), b.missing)
	}
	b.finishFile()
	if e.Path == "" {
		if b.begun {
			return fmt.Errorf("%w: a second root", ErrOrder)
		}
	} else if err := b.descend(e.Path); err != nil {
		return err
	}
	b.begun, b.last = true, e.Path
	switch e.Type {
	case Directory:
		b.put(tokDirectory)
		b.isDir = true
		if e.Path != "" {
			b.open = append(b.open, e.Path[strings.LastIndexByte(e.Path, '/')+1:])
		}
		b.onEntry(Entry{Path: e.Path, Type: Directory})
	case Symlink:
		b.put(tokSymlink)
		b.putString(e.Target)
		b.closeNode(e.Path)
		b.onEntry(Entry{Path: e.Path, Type: Symlink, Target: e.Target})
	case Regular:
		if e.Size < 0 {
			return fmt.Errorf("%q has the size %d", clip(e.Path), e.Size)
		}
		if e.Executable {
			b.put(tokExecutable)
		} else {
			b.put(tokRegular)
		}
		b.putLength(e.Size)
		b.content.Reset()
		b.file = Entry{Path: e.Path, Type: Regular, Executable: e.Executable, Size: e.Size}
		b.missing = e.Size
	default:
		return fmt.Errorf("%q: %w", clip(e.Path), ErrUnsupported)
	}
	return nil
}

// descend makes the directory of path the current one.
func (b *Builder) descend(path string) error {
	if !b.begun || !b.isDir {
		return fmt.Errorf("%w: %q is in no directory", ErrOrder, clip(path))
	}
	parts := strings.Split(path, "/")
	dirs, name := parts[:len(parts)-1], parts[len(parts)-1]
	if name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("%q: not a name", clip(path))
	}
	if len(dirs) > len(b.open) {
		return fmt.Errorf("%w: %q comes before its directory", ErrOrder, clip(path))
	}
	for i, dir := range dirs {
		if b.open[i] != dir {
			return fmt.Errorf("%w: %q comes outside its directory", ErrOrder, clip(path))
		}
	}
	// The name of the last node in that directory, even if it is closed.
	if before := strings.Split(b.last, "/"); b.last != "" && len(before) > len(dirs) && before[len(dirs)] >= name {
		return fmt.Errorf("%w: %q is doubled or comes too late", ErrOrder, clip(path))
	}
	for len(b.open) > len(dirs) {
		b.closeNode("x") // any path except the root's
		b.open = b.open[:len(b.open)-1]
	}
	b.put(tokEntry)
	b.putString(name)
	b.put(tokNode)
	return nil
}

// Write adds the next bytes of the last added file.
func (b *Builder) Write(p []byte) (int, error) {
	if int64(len(p)) > b.missing {
		return 0, fmt.Errorf("%q has more than its %d bytes", clip(b.file.Path), b.file.Size)
	}
	b.missing -= int64(len(p))
	b.content.Write(p)
	b.size += int64(len(p))
	return b.out.Write(p)
}

func (b *Builder) finishFile() {
	if b.file.Type != Regular {
		return
	}
	b.put(padding(b.file.Size))
	b.content.Sum(b.file.SHA256[:0])
	b.onEntry(b.file)
	b.closeNode(b.file.Path)
	b.file = Entry{}
}

// Size returns the size of the NAR so far, in bytes.
func (b *Builder) Size() int64 { return b.size }

// Sum ends the tree and returns the hash and size of its NAR.
func (b *Builder) Sum() (Sum, error) {
	if !b.begun || b.missing > 0 {
		return Sum{}, errors.New("the tree is not complete")
	}
	b.finishFile()
	for range b.open {
		b.closeNode("x")
	}
	b.open = nil
	if b.isDir {
		b.closeNode("")
		b.isDir = false
	}
	if err := b.out.Flush(); err != nil {
		return Sum{}, err
	}
	s := Sum{Size: b.size}
	b.digest.Sum(s.Hash[:0])
	return s, nil
}

// closeNode ends a node and, unless it is the root, the entry around it.
func (b *Builder) closeNode(path string) {
	b.put(tokClose)
	if path != "" {
		b.put(tokClose)
	}
}

func (b *Builder) put(s string) {
	b.size += int64(len(s))
	_, _ = b.out.WriteString(s) // into a hash.Hash, which never fails
}

func (b *Builder) putLength(n int64) {
	var length [8]byte
	for i := range length {
		length[i] = byte(uint64(n) >> (8 * i))
	}
	b.put(string(length[:]))
}

func (b *Builder) putString(s string) {
	b.putLength(int64(len(s)))
	b.put(s)
	b.put(padding(int64(len(s))))
}
