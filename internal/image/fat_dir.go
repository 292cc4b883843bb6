package image

import (
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"unicode/utf16"
)

// fatNode is a file or directory in a FAT.
type fatNode struct {
	name  string // the long name, if there is one
	short string // the name of eight and three letters
	isDir bool
	size  int64
	at    fatPlace
}

// The attributes of a directory record.
const (
	fatVolume    = 0x08
	fatDirectory = 0x10
	fatLongName  = 0x0f
	fatUnknown   = 0xc0 // GRUB skips a record with one of these, and Linux does not
)

// list reads a directory.
func (f *FAT) list(dir fatNode) ([]fatNode, error) {
	if nodes, has := f.listed[dir.at]; has {
		return nodes, nil
	}
	parts := []extent{dir.at.fixed}
	if dir.at.fixed.size == 0 {
		var err error
		if parts, err = f.chain(dir.at.cluster, min(maxFATDir*fatRecord, f.left), false); err != nil {
			return nil, err
		}
	}
	var d fatListing
	for _, p := range parts {
		if f.left -= p.size; f.left < 0 {
			return nil, tooLarge("the directories of a FAT have more than %d bytes", maxFATRead)
		}
		data := make([]byte, p.size)
		if err := readAt(f.r, data, p.off); err != nil {
			return nil, err
		}
		for ; len(data) >= fatRecord; data = data[fatRecord:] {
			if err := d.record(data[:fatRecord], f.entry == 32); err != nil {
				return nil, err
			}
		}
	}
	if err := d.complete(); err != nil {
		return nil, err
	}
	f.listed[dir.at] = d.nodes
	return d.nodes, nil
}

// fatListing is the state of reading a directory.
type fatListing struct {
	nodes []fatNode
	ended bool
	// long is the part of a long name that was read so far; its end is read first. left is
	// the number of its records that follow, and sum the checksum of its short name.
	long []uint16
	left int
	sum  byte
}

// record reads a record. The records of a long name precede that of its file, the last part
// of the name first.
func (d *fatListing) record(b []byte, wide bool) error {
	pending := d.long != nil
	switch {
	case b[0] == 0:
		d.ended = true
		return nil
	case b[0] == 0xe5: // deleted
		if pending {
			return malformed("a long name in a FAT belongs to no file")
		}
		return nil
	case d.ended: // Linux reads on, and a firmware does not
		return malformed("a directory in a FAT goes on behind its end")
	case b[11]&fatUnknown != 0:
		return unsupported("a file in a FAT with the attributes %#x", b[11])
	case b[11] == fatLongName:
		return d.longName(b)
	case b[11]&fatVolume != 0:
		if pending {
			return malformed("a long name in a FAT belongs to no file")
		}
		return nil
	}
	n := fatNode{short: shortName(b), isDir: b[11]&fatDirectory != 0, at: fatPlace{cluster: int64(le.Uint16(b[26:]))}}
	if high := int64(le.Uint16(b[20:])); wide {
		n.at.cluster |= high << 16
	} else if high != 0 { // GRUB reads it as a part of the number, and Linux does not
		return unsupported("a FAT with large numbers of clusters")
	}
	if !n.isDir {
		n.size = int64(le.Uint32(b[28:]))
	}
	n.name = n.short
	if pending {
		if d.left != 0 || d.sum != shortSum(b[:11]) {
			return malformed("a long name in a FAT belongs to no file")
		}
		n.name = string(utf16.Decode(d.long))
		d.long = nil
	} else if n.name == "." || n.name == ".." {
		return nil
	}
	if n.name == "" || n.name == "." || n.name == ".." || strings.ContainsAny(n.name, "/\\\x00") {
		return malformed("a file in a FAT has the name %s", quote(n.name))
	}
	d.nodes = append(d.nodes, n)
	return nil
}

// longName reads a record of a long name: thirteen units of UTF-16. All units after a zero
// are 0xffff.
func (d *fatListing) longName(b []byte) error {
	const last, perRecord, most = 0x40, 13, 20
	number := int(b[0] &^ last)
	if b[0]&last != 0 {
		if d.long != nil || number == 0 || number > most {
			return malformed("a long name in a FAT belongs to no file")
		}
		d.long, d.left, d.sum = []uint16{}, number, b[13]
	}
	if d.long == nil || number != d.left || b[13] != d.sum || b[12] != 0 || le.Uint16(b[26:]) != 0 {
		return malformed("a long name in a FAT is incomplete")
	}
	d.left--
	var units []uint16
	for _, at := range [perRecord]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		units = append(units, le.Uint16(b[at:]))
	}
	if end := slices.Index(units, 0); end >= 0 {
		if b[0]&last == 0 || end == 0 || slices.ContainsFunc(units[end+1:], func(u uint16) bool { return u != 0xffff }) {
			return malformed("a long name in a FAT ends too early")
		}
		units = units[:end]
	}
	d.long = append(units, d.long...)
	return nil
}

// complete returns an error if two files have the same name, or a long name belongs to no
// file.
func (d *fatListing) complete() error {
	if d.long != nil {
		return malformed("a long name in a FAT belongs to no file")
	}
	seen := make(map[string]bool)
	for _, n := range d.nodes {
		name, short := foldFAT(n.name), foldFAT(n.short)
		if seen[name] || seen[short] {
			return malformed("%s is twice in one directory", quote(n.name))
		}
		seen[name], seen[short] = true, true
	}
	return nil
}

// foldFAT returns the same text for all names that some reader takes for the same one.
func foldFAT(name string) string {
	return strings.ToLower(strings.ToUpper(strings.TrimRight(name, ". ")))
}

// equalInASCII reports whether names are one name to every reader.
func equalInASCII(a, b string) bool {
	lower := func(s string) string {
		return strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, s)
	}
	return lower(a) == lower(b)
}

// shortName returns the name of eight and three letters in a record, in lower case if the
// record says so.
func shortName(b []byte) string {
	const smallName, smallExtension = 0x08, 0x10
	part := func(b []byte, small bool) string {
		s := strings.TrimRight(string(b), " ")
		if small {
			s = strings.ToLower(s)
		}
		return s
	}
	name, extension := part(b[:8], b[12]&smallName != 0), part(b[8:11], b[12]&smallExtension != 0)
	if name != "" && name[0] == 0x05 { // stands for 0xe5, which marks a deleted record
		name = "\xe5" + name[1:]
	}
	if extension != "" {
		name += "." + extension
	}
	return name
}

// shortSum returns the checksum of a short name, which the records of its long name contain.
func shortSum(b []byte) (sum byte) {
	for _, c := range b {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// find returns the file or directory at a path.
func (f *FAT) find(name string) (fatNode, error) {
	if !fs.ValidPath(name) || len(name) > maxPath {
		return fatNode{}, fs.ErrInvalid
	}
	n := f.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.isDir {
			return fatNode{}, syscall.ENOTDIR
		}
		nodes, err := f.list(n)
		if err != nil {
			return fatNode{}, err
		}
		folded := foldFAT(part)
		i := slices.IndexFunc(nodes, func(n fatNode) bool { return foldFAT(n.name) == folded || foldFAT(n.short) == folded })
		if i < 0 {
			return fatNode{}, fs.ErrNotExist
		}
		if n = nodes[i]; !equalInASCII(n.name, part) {
			// By its short name, for instance, a firmware finds it and GRUB does not.
			return fatNode{}, unsupported("%s is called %s to some readers only", quote(n.name), quote(part))
		}
	}
	return n, nil
}

// Names returns the names in the directory at a path with slashes, "." for the root, in no
// particular order; an error if there are more than most. It wraps [fs.ErrNotExist] if there
// is no such directory, and [syscall.ENOTDIR] if it is a file.
func (f *FAT) Names(name string, most int) ([]string, error) {
	n, err := f.find(name)
	if err == nil && !n.isDir {
		err = syscall.ENOTDIR
	}
	var nodes []fatNode
	if err == nil {
		nodes, err = f.list(n)
	}
	if err == nil && len(nodes) > most {
		err = tooLarge("more than %d entries", most)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: err}
	}
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.name
	}
	return names, nil
}

// Open returns the file at a path with slashes. The error wraps [fs.ErrNotExist] if there
// is none.
func (f *FAT) Open(name string) (*FATFile, error) {
	n, err := f.find(name)
	if err == nil && n.isDir {
		err = syscall.EISDIR
	}
	var parts []extent
	if err == nil {
		parts, err = f.chain(n.at.cluster, n.size, true)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &FATFile{r: f.r, name: name, size: n.size, parts: parts}, nil
}

// ReadFile returns the contents of the file at a path with slashes, at most limit bytes.
func (f *FAT) ReadFile(name string, limit int64) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	if file.size > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: tooLarge("%d bytes; at most %d can be read", file.size, limit)}
	}
	data := make([]byte, file.size)
	_, err = io.ReadFull(io.NewSectionReader(file, 0, file.size), data)
	return data, err
}
