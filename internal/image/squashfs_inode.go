package image

import (
	"every.channel/ec-verify/pkg/nar"
)

// node is one inode.
type node struct {
	m Member
	// of a directory
	dirBlock  uint32
	dirOffset uint16
	dirSize   uint32
	indices   uint16
	index     *metaReader // its index follows
	// of a file
	start    int64
	fragment uint32
	fragOff  uint32
	blocks   *metaReader // its list of block sizes follows
}

// inode reads the inode at ref: the offset of its block, and the offset within the block.
func (s *squashfs) inode(ref uint64) (*node, error) {
	block := s.inodeTable + int64(ref>>16&0xffffffff)
	r, err := s.metaAt(block, int(ref&0xffff))
	if err != nil {
		return nil, err
	}
	h, err := r.take(16)
	if err != nil {
		return nil, err
	}
	n := &node{m: Member{Inside: s.inside, In: Squashfs, Mode: uint32(le.Uint16(h[2:])) & 0o7777, MTime: int64(le.Uint32(h[8:]))}}
	uid, gid := int(le.Uint16(h[4:])), int(le.Uint16(h[6:]))
	if uid >= len(s.ids) || gid >= len(s.ids) {
		return nil, malformed("a file of a squashfs has an owner that is not in its table")
	}
	n.m.UID, n.m.GID = s.ids[uid], s.ids[gid]
	switch kind := le.Uint16(h); kind {
	case 1, 8:
		return n, n.readDir(r, kind == 8)
	case 2, 9:
		return n, n.readFile(r, kind == 9)
	case 3, 10:
		return n, n.readLink(r, kind == 10)
	case 4, 5, 6, 7, 11, 12, 13, 14: // devices, FIFOs, sockets
		return n, nil
	default:
		return nil, malformed("an inode of type %d in a squashfs", kind)
	}
}

func (n *node) readDir(r *metaReader, extended bool) error {
	n.m.Type = nar.Directory
	if !extended {
		b, err := r.take(16)
		if err != nil {
			return err
		}
		n.dirBlock, n.dirSize, n.dirOffset = le.Uint32(b), uint32(le.Uint16(b[8:])), le.Uint16(b[10:])
		return nil
	}
	b, err := r.take(24)
	if err != nil {
		return err
	}
	n.dirSize, n.dirBlock, n.dirOffset = le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint16(b[18:])
	n.indices, n.index = le.Uint16(b[16:]), r
	n.m.Xattrs = le.Uint32(b[20:]) != noXattr
	return nil
}

func (n *node) readFile(r *metaReader, extended bool) error {
	n.m.Type = nar.Regular
	if !extended {
		b, err := r.take(16)
		if err != nil {
			return err
		}
		n.start, n.fragment, n.fragOff, n.m.Size = int64(le.Uint32(b)), le.Uint32(b[4:]), le.Uint32(b[8:]), int64(le.Uint32(b[12:]))
		n.blocks = r
		return nil
	}
	b, err := r.take(40)
	if err != nil {
		return err
	}
	n.start, n.m.Size = int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	n.fragment, n.fragOff = le.Uint32(b[28:]), le.Uint32(b[32:])
	n.m.Xattrs = le.Uint32(b[36:]) != noXattr
	n.blocks = r
	if n.start < 0 || n.m.Size < 0 {
		return malformed("a file of a squashfs has %d bytes at %d", n.m.Size, n.start)
	}
	return nil
}

func (n *node) readLink(r *metaReader, extended bool) error {
	n.m.Type = nar.Symlink
	b, err := r.take(8)
	if err != nil {
		return err
	}
	size := le.Uint32(b[4:])
	if size > maxTarget {
		return malformed("the target of a link has %d bytes", size)
	}
	target, err := r.take(int(size))
	if err != nil {
		return err
	}
	n.m.Target = string(target)
	if extended {
		if b, err = r.take(4); err != nil {
			return err
		}
		n.m.Xattrs = le.Uint32(b) != noXattr
	}
	return nil
}
