package image

import (
	"encoding/binary"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/nar"
)

var le = binary.LittleEndian

const (
	squashfsMagic = "hsqs"
	superSize     = 96
	metaSize      = 8192 // bytes of a metadata block, expanded
	maxBlock      = 1 << 20
	noFragment    = 0xffffffff
	noXattr       = 0xffffffff
	noTable       = 0xffffffffffffffff
	maxCached     = 1024 // metadata blocks that are kept: 8 MiB
	maxFragments  = 16   // fragment blocks that are kept: at most 16 MiB
	maxDirSize    = 64 << 20
)

func isSquashfs(head []byte) bool {
	return len(head) >= superSize && string(head[:4]) == squashfsMagic
}

// squashfs is a squashfs file system. Field names are those of the kernel's
// documentation.
type squashfs struct {
	w      *walker
	r      io.ReaderAt
	size   int64
	inside []string

	blockSize             uint32
	compressor            uint16
	inodeTable, dirTable  int64
	fragTable, bytesUsed  int64
	fragments, inodeCount uint32
	ids                   []uint32

	zstd   *zstd.Decoder
	meta   map[int64]metaBlock
	pieces map[uint32][]byte // fragment blocks by index
	seen   map[uint64]bool   // directories by their inode's place
	places map[uint32]uint64 // of inodes, by their numbers
}

func (w *walker) walkSquashfs(r io.ReaderAt, size int64, inside []string) error {
	s := &squashfs{
		w: w, r: r, size: size, inside: inside,
		meta: make(map[int64]metaBlock), pieces: make(map[uint32][]byte), seen: make(map[uint64]bool),
		places: make(map[uint32]uint64),
	}
	before := w.left.Held
	defer func() { w.left.Held = before }()
	root, err := s.open()
	if s.zstd != nil {
		defer s.zstd.Close()
	}
	if err != nil {
		return err
	}
	node, err := s.inode(root)
	if err != nil {
		return err
	}
	if node.m.Type != nar.Directory {
		return malformed("the root of a squashfs is no directory")
	}
	return s.walk(node, "", root, 0)
}

func (s *squashfs) open() (root uint64, err error) {
	var b [superSize]byte
	if err := readAt(s.r, b[:], 0); err != nil {
		return 0, err
	}
	s.inodeCount = le.Uint32(b[4:])
	s.blockSize = le.Uint32(b[12:])
	s.fragments = le.Uint32(b[16:])
	s.compressor = le.Uint16(b[20:])
	idCount := le.Uint16(b[26:])
	if major, minor := le.Uint16(b[28:]), le.Uint16(b[30:]); major != 4 || minor != 0 {
		return 0, unsupported("squashfs %d.%d", major, minor)
	}
	if s.blockSize < 4096 || s.blockSize > maxBlock || s.blockSize&(s.blockSize-1) != 0 {
		return 0, malformed("a squashfs with blocks of %d bytes", s.blockSize)
	}
	s.bytesUsed = int64(le.Uint64(b[40:]))
	if s.bytesUsed < superSize || s.bytesUsed > s.size {
		return 0, malformed("a squashfs of %d bytes in %d", s.bytesUsed, s.size)
	}
	s.inodeTable, s.dirTable, s.fragTable = int64(le.Uint64(b[64:])), int64(le.Uint64(b[72:])), int64(le.Uint64(b[80:]))
	if !s.holds(s.inodeTable) || !s.holds(s.dirTable) || s.fragments > 0 && !s.holds(s.fragTable) {
		return 0, malformed("a table of a squashfs is outside it")
	}
	switch s.compressor {
	case 1, 4:
	case 6:
		if s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
			return 0, err
		}
	default:
		return 0, unsupported("squashfs compressed by method %d (gzip, xz and zstd are read)", s.compressor)
	}
	return le.Uint64(b[32:]), s.readIDs(int64(le.Uint64(b[48:])), int(idCount))
}

// once refuses an inode number at a second place: Linux caches inodes by number, and
// would use the first one for both.
func (s *squashfs) once(e dirEntry) error {
	if at, ok := s.places[e.number]; ok && at != e.ref {
		return malformed("two files of a squashfs have the inode number %d", e.number)
	} else if !ok {
		if err := s.w.hold(mapCost); err != nil {
			return err
		}
	}
	s.places[e.number] = e.ref
	return nil
}

// walk visits n, which is at ref, and its entries.
func (s *squashfs) walk(n *node, path string, ref uint64, depth int) error {
	n.m.Path = path
	if n.m.Type == nar.Regular {
		return s.w.member(n.m, &fileReader{s: s, n: n, left: n.m.Size}, n.m.Size)
	}
	if err := s.w.member(n.m, strings.NewReader(""), 0); err != nil {
		return err
	}
	if n.m.Type != nar.Directory {
		return nil
	}
	if err := enter(s.w, s.seen, ref, depth); err != nil {
		return err
	}
	entries, held, err := s.list(n)
	if err != nil {
		return err
	}
	defer s.w.drop(held)
	for _, e := range entries {
		if err := s.once(e); err != nil {
			return err
		}
		child, err := s.inode(e.ref)
		if err != nil {
			return err
		}
		sub, err := within(path, e.name)
		if err != nil {
			return err
		}
		if err := s.walk(child, sub, e.ref, depth+1); err != nil {
			return err
		}
	}
	return nil
}
