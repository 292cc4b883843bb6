package image

type dirEntry struct {
	name   string
	ref    uint64
	number uint32 // of the inode
}

// dirHeader is a place in a directory at which names with a common header begin.
type dirHeader struct {
	block int64 // the metadata block that it is in, from the table on
	first string
}

// entryCost and headerCost are the memory for a dirEntry, and for a dirHeader in a map,
// beside their names, in bytes. A growing slice exists twice for a moment.
const entryCost, headerCost = 32, 384

// list returns the entries of a directory sorted by the bytes of their names, and how
// many bytes they hold until the caller drops them.
func (s *squashfs) list(n *node) (_ []dirEntry, held int64, err error) {
	// An empty directory has a size of 3, for "." and "..", which are not stored.
	left := int64(n.dirSize) - 3
	if left <= 0 {
		return nil, 0, nil
	}
	if left > maxDirSize {
		return nil, 0, tooLarge("a directory of %d bytes", left)
	}
	r, err := s.metaAt(s.dirTable+int64(n.dirBlock), int(n.dirOffset))
	if err != nil {
		return nil, 0, err
	}
	var out []dirEntry
	headers := make(map[int64]dirHeader)
	whole := left
	for left > 0 {
		at, block := whole-left, r.block()-s.dirTable
		h, err := r.take(12)
		if err != nil {
			return nil, 0, err
		}
		count, start, number := le.Uint32(h)+1, le.Uint32(h[4:]), le.Uint32(h[8:])
		if count > 256 || count == 0 {
			return nil, 0, malformed("a directory lists %d files at once", count)
		}
		left -= 12
		for range count {
			e, err := r.takeEntry(start, number)
			if err != nil {
				return nil, 0, err
			}
			if left -= 8 + int64(len(e.name)); left < 0 {
				return nil, 0, malformed("a directory is longer than it says")
			}
			if err := checkName(e.name); err != nil {
				return nil, 0, err
			}
			cost := int64(2*entryCost + len(e.name))
			if _, ok := headers[at]; !ok {
				cost += headerCost
				headers[at] = dirHeader{block, e.name}
			}
			out = append(out, e)
			held += cost
			if err := s.w.hold(cost); err != nil {
				return nil, 0, err
			}
			if int64(len(out)) > s.w.left.Members {
				return nil, 0, tooLarge("it has more than %d members", s.w.limits.Members)
			}
		}
	}
	for i := 1; i < len(out); i++ {
		if out[i].name == out[i-1].name {
			return nil, 0, malformed("%s is twice in one directory", quote(out[i].name))
		}
		if out[i].name < out[i-1].name { // Linux would list it, and not find it
			return nil, 0, malformed("%s is out of order in its directory", quote(out[i].name))
		}
	}
	return out, held, n.checkIndex(headers)
}

// takeEntry reads an entry of a directory below a header with a start and a number.
func (r *metaReader) takeEntry(start, number uint32) (dirEntry, error) {
	h, err := r.take(8)
	if err != nil {
		return dirEntry{}, err
	}
	size := int(le.Uint16(h[6:])) + 1
	if size > 256 {
		return dirEntry{}, malformed("a name of %d bytes", size)
	}
	ref, number := uint64(start)<<16|uint64(le.Uint16(h)), number+uint32(int16(le.Uint16(h[2:])))
	name, err := r.take(size)
	return dirEntry{string(name), ref, number}, err
}

// checkIndex compares the index of a directory with its listing: Linux looks names up by
// the index, which could lead to another list of names.
func (n *node) checkIndex(headers map[int64]dirHeader) error {
	for range n.indices {
		b, err := n.index.take(12)
		if err != nil {
			return err
		}
		size := int64(le.Uint32(b[8:])) + 1
		if size > 256 {
			return malformed("a name of %d bytes in the index of a directory", size)
		}
		name, err := n.index.take(int(size))
		if err != nil {
			return err
		}
		h, ok := headers[int64(le.Uint32(b))]
		if !ok || h.block != int64(le.Uint32(b[4:])) || h.first != string(name) {
			return malformed("the index of a directory does not agree with its list")
		}
	}
	return nil
}
