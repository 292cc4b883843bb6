package image

import (
	"io"
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

const (
	sector     = 2048
	isoStart   = 16 * sector // the first volume descriptor
	isoHead    = isoStart + 6
	maxVolumes = 64 // volume descriptors that are read
	maxSystem  = 64 << 10
)

func isISO(head []byte) bool {
	return len(head) >= isoHead && string(head[isoStart+1:isoStart+6]) == "CD001"
}

// iso9660 is an ISO 9660 file system. The primary volume is read with its Rock Ridge
// names; the Joliet names of the same files are ignored.
type iso9660 struct {
	w      *walker
	r      io.ReaderAt
	size   int64
	inside []string
	skip   int // bytes before the system use entries; -1 where there are none
	seen   map[int64]bool
}

// isoNode is a directory record.
type isoNode struct {
	m      Member
	name   string
	parts  []extent
	isDir  bool
	more   bool // another record of the same file follows
	hidden bool // a directory that was moved here to be less deep
}

type extent struct{ off, size int64 }

func (w *walker) walkISO(r io.ReaderAt, size int64, inside []string) error {
	f := &iso9660{w: w, r: r, size: size, inside: inside, skip: -1, seen: make(map[int64]bool)}
	var d [sector]byte
	joliet, err := f.volumes(d[:])
	if err != nil {
		return err
	}
	if size := le.Uint16(d[128:]); size != sector {
		return unsupported("an ISO image with blocks of %d bytes", size)
	}
	root, err := f.record(d[156:190])
	if err != nil {
		return err
	}
	if !root.isDir {
		return malformed("the root of an ISO image is no directory")
	}
	if err := f.findSystemUse(root); err != nil {
		return err
	}
	if joliet && f.skip < 0 {
		// Linux and boot loaders would then use the Joliet names, which may name other
		// files.
		return unsupported("an ISO image with Joliet names and without Rock Ridge ones")
	}
	root.m.Path, root.m.Type, root.m.Inside, root.m.In = "", nar.Directory, inside, ISO
	return f.walk(root, "", 0)
}

// volumes reads the primary volume descriptor into d, and reports whether there is a
// supplementary one, as Joliet has.
func (f *iso9660) volumes(d []byte) (joliet bool, err error) {
	var primary, b [sector]byte
	for i := range maxVolumes {
		if err := readAt(f.r, b[:], isoStart+int64(i)*sector); err != nil {
			return false, err
		}
		if string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && primary[0] == 0:
			primary = b
		case b[0] == 1:
			return false, unsupported("an ISO image with two primary volumes")
		case b[0] == 2:
			joliet = true
		}
	}
	if primary[0] == 0 {
		return false, malformed("an ISO image without a primary volume")
	}
	copy(d, primary[:])
	return joliet, nil
}

// findSystemUse reads the root's own entry, which says whether there are Rock Ridge
// entries.
func (f *iso9660) findSystemUse(root isoNode) error {
	var b [sector]byte
	if err := readAt(f.r, b[:], root.parts[0].off); err != nil {
		return err
	}
	length := int(b[0])
	if length < 34 {
		return malformed("the root of an ISO image does not list itself")
	}
	use := b[34:length]
	if len(use) >= 7 && string(use[:2]) == "SP" && use[4] == 0xbe && use[5] == 0xef {
		f.skip = int(use[6])
	}
	return nil
}

// record reads a directory record without its system use area.
func (f *iso9660) record(b []byte) (isoNode, error) {
	if len(b) < 34 || int(b[32])+33 > len(b) {
		return isoNode{}, malformed("a directory record of %d bytes", len(b))
	}
	off, size := int64(le.Uint32(b[2:]))*sector, int64(le.Uint32(b[10:]))
	flags := b[25]
	// Linux takes these as another file, or other bytes, than is read here.
	switch {
	case b[26] != 0 || b[27] != 0:
		return isoNode{}, unsupported("an interleaved file in an ISO image")
	case b[1] != 0:
		return isoNode{}, unsupported("an extended attribute record in an ISO image")
	case flags&4 != 0:
		return isoNode{}, unsupported("an associated file in an ISO image")
	}
	if size > 0 && (off < isoStart || off > f.size-size) {
		return isoNode{}, malformed("%d bytes at %d are outside an ISO image of %d", size, off, f.size)
	}
	n := isoNode{parts: []extent{{off, size}}, isDir: flags&2 != 0, more: flags&0x80 != 0}
	n.name = string(b[33 : 33+int(b[32])])
	n.m = Member{Inside: f.inside, In: ISO, Type: nar.Regular, Mode: 0o444, Size: size}
	if n.isDir {
		n.m.Type, n.m.Mode, n.m.Size = nar.Directory, 0o555, 0
	}
	return n, nil
}

// isoNodeCost is twice the memory of an isoNode without its strings, in bytes.
const isoNodeCost = 512

// list reads a directory. The result counts as held bytes until the caller drops it.
func (f *iso9660) list(n isoNode) (_ []isoNode, held int64, err error) {
	var out []isoNode
	err = f.eachRecord(n.parts[0], func(record []byte) error {
		child, err := f.record(record)
		if err != nil {
			return err
		}
		if child.name == "\x00" || child.name == "\x01" {
			return nil // the directory itself, and the one that it is in
		}
		if err := f.systemUse(&child, record); err != nil || child.hidden {
			return err
		}
		cost := int64(isoNodeCost + len(child.name) + len(child.m.Target))
		held += cost
		if err := f.w.hold(cost); err != nil {
			return err
		}
		if out, err = addISONode(out, child); err != nil {
			return err
		}
		if int64(len(out)) > f.w.left.Members {
			return tooLarge("it has more than %d members", f.w.limits.Members)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortStableFunc(out, func(a, b isoNode) int { return strings.Compare(a.name, b.name) })
	for i := range out {
		if err := checkName(out[i].name); err != nil {
			return nil, 0, err
		}
		if out[i].more || i > 0 && out[i].name == out[i-1].name {
			return nil, 0, malformed("%s is twice in one directory, or incomplete", quote(out[i].name))
		}
	}
	return out, held, nil
}

// eachRecord calls do for the records of the directory at, sector by sector: a record never
// continues in the next one.
func (f *iso9660) eachRecord(at extent, do func(record []byte) error) error {
	if at.size > maxDirSize {
		return tooLarge("a directory of %d bytes", at.size)
	}
	var b [sector]byte
	for off := int64(0); off < at.size; off += sector {
		rest := b[:min(sector, at.size-off)]
		if err := readAt(f.r, rest, at.off+off); err != nil {
			return err
		}
		for len(rest) > 0 && rest[0] != 0 {
			length := int(rest[0])
			if length > len(rest) {
				return malformed("a directory record does not end in its sector")
			}
			if err := do(rest[:length]); err != nil {
				return err
			}
			rest = rest[length:]
		}
	}
	return nil
}

// addISONode adds a node to those of a directory. A file larger than 4 GiB has a record
// for each part.
func addISONode(nodes []isoNode, n isoNode) ([]isoNode, error) {
	k := len(nodes) - 1
	if k < 0 || !nodes[k].more || nodes[k].name != n.name {
		return append(nodes, n), nil
	}
	if nodes[k].m.Size%sector != 0 {
		return nil, unsupported("a file in an ISO image whose first parts do not fill their sectors")
	}
	nodes[k].parts, nodes[k].more = append(nodes[k].parts, n.parts...), n.more
	nodes[k].m.Size += n.m.Size
	return nodes, nil
}

// systemUse reads the Rock Ridge entries of a record: its name, mode and target.
func (f *iso9660) systemUse(n *isoNode, record []byte) error {
	start := 33 + int(record[32])
	start += start % 2 // padded to an even offset
	n.name = plainISOName(n.name)
	if f.skip < 0 || start+f.skip > len(record) {
		return nil
	}
	var e isoExtensions
	area := record[start+f.skip:]
	for areas := 0; ; areas++ {
		if areas > 64 {
			return malformed("too many continued entries in an ISO image")
		}
		next, err := e.read(n, area)
		if err != nil {
			return err
		}
		if next.size == 0 {
			break
		}
		if next.size > maxSystem || next.off < isoStart || next.off > f.size-next.size {
			return malformed("a continued entry is outside an ISO image")
		}
		area = make([]byte, next.size)
		if err := readAt(f.r, area, next.off); err != nil {
			return err
		}
	}
	if e.named {
		n.name = e.name.String()
	}
	if e.linked && n.m.Type == nar.Symlink {
		n.m.Target, n.m.Size = e.target.String(), 0
	}
	return nil
}

// isoExtensions accumulates the system use areas of one directory record: a name or a
// target can continue from one area to the next.
type isoExtensions struct {
	name, target strings.Builder
	named        bool
	linked       bool
	targetGoesOn bool
}

// read applies the entries of one area to n, and returns the area that continues it; its
// size is 0 if there is none.
func (x *isoExtensions) read(n *isoNode, area []byte) (next extent, err error) {
	for len(area) >= 4 {
		sig, length := string(area[:2]), int(area[2])
		if length < 4 || length > len(area) {
			return next, nil // padding
		}
		e := area[4:length]
		switch {
		case sig == "CE" && len(e) >= 24:
			next = extent{int64(le.Uint32(e))*sector + int64(le.Uint32(e[8:])), int64(le.Uint32(e[16:]))}
		case sig == "NM" && len(e) >= 1:
			if e[0]&^1 != 0 { // Linux takes the name without Rock Ridge then
				return next, unsupported("a Rock Ridge name with flags %#x", e[0])
			}
			x.named = true
			x.name.Write(e[1:])
		case sig == "PX" && len(e) >= 32:
			mode := le.Uint32(e)
			n.m.Mode, n.m.UID, n.m.GID = mode&0o7777, le.Uint32(e[16:]), le.Uint32(e[24:])
			if t := typeOf(mode); t != n.m.Type && (t == nar.Directory) == n.isDir {
				n.m.Type = t
			}
		case sig == "SL" && len(e) >= 1:
			x.linked = true
			if err := appendTarget(&x.target, e[1:], &x.targetGoesOn); err != nil {
				return next, err
			}
		case sig == "RE":
			n.hidden = true
		case sig == "CL", sig == "ZF":
			return next, unsupported("an ISO image with moved directories or compressed files (%s)", sig)
		case sig == "ST":
			return next, nil
		}
		area = area[length:]
	}
	return next, nil
}

// appendTarget appends the components of a link's target: flag, length, text.
func appendTarget(b *strings.Builder, parts []byte, goesOn *bool) error {
	for len(parts) >= 2 {
		flags, length := parts[0], int(parts[1])
		if len(parts) < 2+length || b.Len() > maxTarget {
			return malformed("the target of a link in an ISO image")
		}
		if s := b.String(); s != "" && !*goesOn && !strings.HasSuffix(s, "/") {
			b.WriteByte('/')
		}
		switch {
		case flags&2 != 0:
			b.WriteByte('.')
		case flags&4 != 0:
			b.WriteString("..")
		case flags&8 != 0:
			b.WriteByte('/')
		default:
			b.Write(parts[2 : 2+length])
		}
		*goesOn = flags&1 != 0
		parts = parts[2+length:]
	}
	return nil
}

// plainISOName returns a name without Rock Ridge, without its version.
func plainISOName(s string) string {
	s, _, _ = strings.Cut(s, ";")
	return strings.TrimSuffix(s, ".")
}

func (f *iso9660) walk(n isoNode, path string, depth int) error {
	n.m.Path = path
	if n.m.Type != nar.Directory {
		parts := make([]io.Reader, 0, len(n.parts))
		for _, p := range n.parts {
			parts = append(parts, &contextReader{f.w.ctx, io.NewSectionReader(f.r, p.off, p.size)})
		}
		if n.m.Type != nar.Regular {
			n.m.Size = 0
		}
		return f.w.member(n.m, io.MultiReader(parts...), n.m.Size)
	}
	if err := f.w.member(n.m, strings.NewReader(""), 0); err != nil {
		return err
	}
	if err := enter(f.w, f.seen, n.parts[0].off, depth); err != nil {
		return err
	}
	children, held, err := f.list(n)
	if err != nil {
		return err
	}
	defer f.w.drop(held)
	for _, c := range children {
		sub, err := within(path, c.name)
		if err != nil {
			return err
		}
		if err := f.walk(c, sub, depth+1); err != nil {
			return err
		}
	}
	return nil
}
