package compare

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// maxDetailed limits the members of one image whose bytes are compared: each is
// written to a temporary file.
const maxDetailed = 50

// maxInventory limits the memory for the members of one image, in bytes. An image of
// a system with 100,000 files takes some 40 MB.
const maxInventory = 128 << 20

// member is the recorded data of one member of an image.
type member struct {
	image.Member
	sha [sha256.Size]byte
}

// key identifies a member; no name contains a NUL.
func key(m image.Member) string { return strings.Join(append(slices.Clone(m.Inside), m.Path), "\x00") }

// member is the key of the member that differs.
func (d *Difference) member() string { return joinRaw(append(slices.Clone(d.Inside), *d.File)) }

func joinRaw(names []excerpt.Raw) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte(0)
		}
		b.WriteString(string(name))
	}
	return b.String()
}

// images compares two images member by member.
func (c *comparison) images(ctx context.Context, p pair) {
	f := c.r.in(p.name)
	whole := p.contents()
	formatA, a, errA := c.inventory(ctx, p.a, p.name)
	formatB, b, errB := c.inventory(ctx, p.b, p.name)
	if errA != nil {
		c.r.fail(p.name, "A", errA)
	}
	if errB != nil {
		c.r.fail(p.name, "B", errB)
	}
	if errA != nil || errB != nil || formatA != formatB || len(a)+len(b) == 0 {
		f.add(whole)
		return
	}
	differing := c.compareMembers(a, b)
	if len(differing) == 0 {
		whole.Field = "packing"
		f.add(whole)
		c.r.note("%s: every member is the same; the image is put together otherwise (order, compression or padding)", p.name)
		return
	}
	whole.Follows = true
	f.add(whole)
	c.detail(ctx, p, differing)
	for _, d := range differing {
		f.add(*d)
	}
}

func (c *comparison) walk(ctx context.Context, f *os.File, name string, visit image.Visit) (image.Format, error) {
	info, err := f.Stat()
	if err != nil {
		return image.Opaque, err
	}
	return image.Walk(ctx, f, info.Size(), name, image.Options{TempDir: c.opts.TempDir, Limits: c.opts.Limits}, visit)
}

// inventory returns the members of an image by their keys.
func (c *comparison) inventory(ctx context.Context, f *os.File, name string) (image.Format, map[string]member, error) {
	all := make(map[string]member)
	held := 0
	format, err := c.walk(ctx, f, name, func(m image.Member) (io.WriteCloser, error) {
		const cost = 320 // memory for a member in a map
		k := key(m)
		if held += cost + 2*len(k) + len(m.Target); held > maxInventory {
			return nil, fmt.Errorf("%w: the list of its members takes more than %d bytes", image.ErrTooLarge, maxInventory)
		}
		if m.Type != nar.Regular {
			all[k] = member{Member: m}
			return nil, nil
		}
		return image.Hash(func(sum [sha256.Size]byte) { all[k] = member{m, sum} }), nil
	})
	c.r.Members += len(all)
	return format, all, err
}

// compareMembers returns the differences, in the order of names.
func (c *comparison) compareMembers(a, b map[string]member) []*Difference {
	keys := slices.Sorted(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []*Difference
	for _, k := range keys {
		inA, okA := a[k]
		inB, okB := b[k]
		m := inA.Member
		if !okA {
			m = inB.Member
		}
		d := &Difference{Inside: excerpt.NewRaws(m.Inside), File: new(excerpt.Raw(m.Path)), A: inA.describe(), B: inB.describe()}
		switch {
		case !okB:
			d.Kind, d.B = OnlyA, ""
		case !okA:
			d.Kind, d.A = OnlyB, ""
		case inA.Type != inB.Type:
			d.Kind = Type
		case inA.Target != inB.Target:
			d.Kind = Target
		case inA.sha != inB.sha || inA.Size != inB.Size:
			d.Kind = Contents
		case inA.metadata() != inB.metadata():
			d.Kind, d.A, d.B = Metadata, inA.metadata(), inB.metadata()
		default:
			continue
		}
		out = append(out, d)
	}
	// A nested image that contains a differing member differs for that reason.
	within := make(map[string]bool)
	for _, d := range out {
		for i := range d.Inside {
			within[joinRaw(d.Inside[:i+1])] = true
		}
	}
	for _, d := range out {
		d.Follows = d.Kind == Contents && within[d.member()]
	}
	return out
}

func (m member) describe() excerpt.Raw {
	return describe(nar.Entry{Type: m.Type, Executable: m.Executable(), Size: m.Size, SHA256: nar.Hash(m.sha), Target: m.Target})
}

func (m member) metadata() excerpt.Raw {
	s := fmt.Sprintf("mode %04o, owner %d:%d, time %d", m.Mode, m.UID, m.GID, m.MTime)
	if m.Xattrs {
		s += ", extended attributes"
	}
	return excerpt.Raw(s)
}

// detail finds the differing bytes of members: those of A are written to temporary
// files, and those of B compared with them.
func (c *comparison) detail(ctx context.Context, p pair, differing []*Difference) {
	d := details{wanted: make(map[string]*Difference), kept: make(map[string]*os.File)}
	for _, follows := range []bool{false, true} { // explaining differences come first
		for _, one := range differing {
			if one.Kind == Contents && one.Follows == follows && len(d.wanted) < maxDetailed {
				d.wanted[one.member()] = one
			}
		}
	}
	if len(d.wanted) == 0 {
		return
	}
	var err error
	if d.dir, err = os.MkdirTemp(c.opts.TempDir, ".ec-verify-compare-*"); err != nil {
		c.r.fail(p.name, "", err)
		return
	}
	defer d.close()
	if _, err = c.walk(ctx, p.a, p.name, d.keep); err == nil {
		_, err = c.walk(ctx, p.b, p.name, d.compare)
	}
	if err != nil && ctx.Err() == nil {
		c.r.fail(p.name, "", fmt.Errorf("it is unknown which bytes differ: %w", err))
	}
}

// details are the members of an image whose differing bytes are to be found.
type details struct {
	dir    string // of the files that are kept
	wanted map[string]*Difference
	kept   map[string]*os.File // of A
}

func (d *details) close() {
	for _, f := range d.kept {
		f.Close()
	}
	os.RemoveAll(d.dir)
}

// keep returns the file that keeps a member of A, if its bytes are wanted.
func (d *details) keep(m image.Member) (io.WriteCloser, error) {
	k := key(m)
	if d.wanted[k] == nil || m.Type != nar.Regular || d.kept[k] != nil {
		return nil, nil
	}
	f, err := os.CreateTemp(d.dir, "*")
	if err != nil {
		return nil, err
	}
	d.kept[k] = f
	return image.To(f), nil
}

// compare returns what compares a member of B with that of A, if it was kept.
func (d *details) compare(m image.Member) (io.WriteCloser, error) {
	k := key(m)
	f := d.kept[k]
	if m.Type != nar.Regular || f == nil {
		return nil, nil
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &differ{a: f, left: size, bytes: Bytes{First: -1}, done: func(b Bytes) { d.wanted[k].Bytes = &b }}, nil
}

// differ compares the bytes written to it with a file.
type differ struct {
	a     io.ReaderAt
	left  int64 // bytes of a not yet compared
	buf   []byte
	bytes Bytes
	done  func(Bytes)
}

func (d *differ) Write(p []byte) (int, error) {
	n := min(int64(len(p)), d.left)
	if int64(cap(d.buf)) < n {
		d.buf = make([]byte, n)
	}
	got, err := d.a.ReadAt(d.buf[:n], d.bytes.SizeA)
	if int64(got) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	d.left -= n
	d.bytes.diff(d.buf[:n], p)
	return len(p), nil
}

func (d *differ) Close() error {
	if d.left > 0 {
		d.bytes.count(d.bytes.SizeB, d.left)
		d.bytes.SizeA += d.left
	}
	d.done(d.bytes)
	return nil
}

// named rewrites the paths of image members in store paths to the usual form, adds
// the bytes that an image showed to files that listings found to differ, and marks
// the consequences of a differing store path.
func (c *comparison) named() {
	files := make(map[string]*Bytes)
	differing := make(map[closure.StorePath]bool)
	for i := range c.r.Differences {
		d := &c.r.Differences[i]
		switch {
		case d.Path != "" && d.File == nil:
			differing[d.Path] = d.Kind != Derivation
		case d.isMember() && d.nameInStore() && d.Bytes != nil:
			files[d.inStore()] = d.Bytes
		}
	}
	for i := range c.r.Differences {
		d := &c.r.Differences[i]
		if d.File == nil {
			continue
		}
		if *d.File == registration && len(differing) > 0 {
			d.Follows = true
		}
		if d.Path == "" {
			continue
		}
		d.Follows = d.Follows || differing[d.Path]
		if d.Bytes == nil && d.Kind == Contents {
			d.Bytes = files[d.inStore()]
		}
	}
}

// isMember reports whether d is about a member of an image.
func (d *Difference) isMember() bool {
	return d.Path == "" && d.File != nil && d.Kind != Checksum && d.Kind != FalseChecksum
}

// nameInStore names a member by the store path that it is in, and the rest; false if it is
// in none.
func (d *Difference) nameInStore() bool {
	base, file, _ := strings.Cut(string(*d.File), "/")
	p, err := closure.DefaultStoreDir.ParseBase(base)
	if err == nil {
		d.Path, d.File = p, new(excerpt.Raw(file))
	}
	return err == nil
}

// inStore identifies a file of a store path.
func (d *Difference) inStore() string { return string(d.Path) + "\x00" + string(*d.File) }

// registration is the file beside an image's store paths from which Nix registers
// them, with their hashes.
const registration = "nix-path-registration"
