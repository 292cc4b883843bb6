package image

type dirEntry struct {
	name   string
	ref    uint64
	number uint32 // of the inode
}

// dirHeader is where in a directory names begin that share a header.
type dirHeader struct {
	block int64 // the metadata block that it is in, from the table on
	first string
}

// list returns the entries of a directory by the bytes of their names.
func (s *squashfs) list(n *node) ([]dirEntry, error) {
	// An empty directory has a size of 3, for "." and "..", which are not there.
	left := int64(n.dirSize) - 3
	if left <= 0 {
		return nil, nil
	}
	if left > maxDirSize {
		return nil, tooLarge("a directory of %d bytes", left)
	}
	r, err := s.metaAt(s.dirTable+int64(n.dirBlock), int(n.dirOffset))
	if err != nil {
		return nil, err
	}
	var out []dirEntry
	headers := make(map[int64]dirHeader)
	whole := left
	for left > 0 {
		at, block := whole-left, r.block()-s.dirTable
		h, err := r.take(12)
		if err != nil {
			return nil, err
		}
		count, start, number := le.Uint32(h)+1, le.Uint32(h[4:]), le.Uint32(h[8:])
		if count > 256 || count == 0 {
			return nil, malformed("a directory lists %d files at once", count)
		}
		left -= 12
		for range count {
			h, err := r.take(8)
			if err != nil {
				return nil, err
			}
			size := int(le.Uint16(h[6:])) + 1
			if size > 256 {
				return nil, malformed("a name of %d bytes", size)
			}
			name, err := r.take(size)
			if err != nil {
				return nil, err
			}
			if left -= 8 + int64(size); left < 0 {
				return nil, malformed("a directory is longer than it says")
			}
			if err := checkName(string(name)); err != nil {
				return nil, err
			}
			if _, ok := headers[at]; !ok {
				headers[at] = dirHeader{block, string(name)}
			}
			out = append(out, dirEntry{string(name), uint64(start)<<16 | uint64(le.Uint16(h)), number + uint32(int16(le.Uint16(h[2:])))})
			if int64(len(out)) > s.w.left.Members {
				return nil, tooLarge("it has more than %d members", s.w.limits.Members)
			}
		}
	}
	for i := 1; i < len(out); i++ {
		if out[i].name == out[i-1].name {
			return nil, malformed("%s is twice in one directory", quote(out[i].name))
		}
		if out[i].name < out[i-1].name { // Linux would list it, and not find it
			return nil, malformed("%s is out of order in its directory", quote(out[i].name))
		}
	}
	return out, n.checkIndex(headers)
}

// checkIndex holds the index of a directory to its listing: Linux looks names
// up from where the index says, and could be led to another list of names.
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
