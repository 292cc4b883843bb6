package filediff

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// member is one member of an archive or image.
type member struct {
	name     string
	data     []byte
	target   string
	whole    bool // data is all of its contents
	seconds  int64
	uid, gid uint64
	mode     uint64
	other    string // other properties
}

// maxMembers limits the members of an archive.
const maxMembers = 200_000

var errMembers = errors.New("it has too many members, or expands to too much")

// members compares the two results of read, member by member.
func (c *comparison) members(r *Result, read func(data []byte) ([]member, error), a, b []byte, depth int) bool {
	inA, err := read(a)
	if err != nil {
		r.Notes = append(r.Notes, "its members were not compared: "+err.Error())
		return false
	}
	inB, err := read(b)
	if err != nil {
		r.Notes = append(r.Notes, "its members were not compared: "+err.Error())
		return false
	}
	return c.compareMembers(r, inA, inB, depth)
}

func (c *comparison) compareMembers(r *Result, a, b []member, depth int) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	numbered(a)
	numbered(b)
	byName := make(map[string]*member, len(b))
	for i := range b {
		byName[b[i].name] = &b[i]
	}
	inA := make(map[string]bool, len(a))
	all, differing := true, 0
	for i := range a {
		x := &a[i]
		inA[x.name] = true
		y := byName[x.name]
		if y == nil {
			differing, all = differing+1, false
			r.part(Part{Kind: "member", Name: excerpt.Raw(x.name), Change: "removed", A: excerpt.Raw(size(len(x.data)))}, c.limits)
			continue
		}
		if same, explained := c.member(r, x, y, depth); !same {
			differing++
			all = all && explained
		}
	}
	for i := range b {
		if !inA[b[i].name] {
			differing, all = differing+1, false
			r.part(Part{Kind: "member", Name: excerpt.Raw(b[i].name), Change: "added", B: excerpt.Raw(size(len(b[i].data)))}, c.limits)
		}
	}
	if len(a) == len(b) && !slices.EqualFunc(a, b, func(x, y member) bool { return x.name == y.name }) && !slices.ContainsFunc(a, func(m member) bool { return byName[m.name] == nil }) {
		differing++
		r.caused(Cause{Name: Order, A: "members", B: "the same members in another order"})
	}
	r.Explained = all && differing > 0
	return differing > 0
}

// numbered makes the names of members unique.
func numbered(list []member) {
	seen := make(map[string]int, len(list))
	for i := range list {
		name := list[i].name
		if seen[name]++; seen[name] > 1 {
			list[i].name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
	}
}

// member compares two members with the same name.
func (c *comparison) member(r *Result, x, y *member, depth int) (same, explained bool) {
	same, explained = true, true
	field := func(what, a, b string, cause CauseName) {
		if a == b {
			return
		}
		same = false
		r.part(Part{Kind: "member", Name: excerpt.Raw(x.name), Change: what, A: excerpt.Raw(a), B: excerpt.Raw(b)}, c.limits)
		if cause == "" {
			explained = false
			return
		}
		r.caused(Cause{Name: cause, Where: excerpt.Raw(x.name), A: excerpt.Raw(a), B: excerpt.Raw(b)})
	}
	field("time", when(x.seconds), when(y.seconds), Date)
	field("owner", fmt.Sprintf("%d:%d", x.uid, x.gid), fmt.Sprintf("%d:%d", y.uid, y.gid), Owner)
	field("mode", strconv.FormatUint(x.mode, 8), strconv.FormatUint(y.mode, 8), "")
	field("target", x.target, y.target, "")
	field("attributes", x.other, y.other, "")
	if bytes.Equal(x.data, y.data) && x.whole && y.whole {
		return same, explained
	}
	if !x.whole || !y.whole {
		r.Notes = append(r.Notes, "the contents of "+strconv.Quote(x.name)+" are too large to be compared here")
		return false, false
	}
	within := c.compare(path.Base(x.name), x.data, y.data, depth+1)
	r.part(Part{Kind: "member", Name: excerpt.Raw(x.name), Change: "changed", A: excerpt.Raw(size(len(x.data))), B: excerpt.Raw(size(len(y.data))), Within: within}, c.limits)
	r.adopt(within, excerpt.Raw(x.name))
	return false, explained && within.Explained
}

const arMagic = "!<arch>\n"

func isAr(data []byte) bool { return bytes.HasPrefix(data, []byte(arMagic)) }

const arHead = 60 // bytes of the header of a member

var errAr = errors.New("it is malformed")

// readAr reads a static library: headers of 60 bytes, each before its contents, which
// start at even offsets. Long names are in the member "//".
func readAr(data []byte) ([]member, error) {
	var list []member
	var long []byte
	for rest := data[len(arMagic):]; len(rest) > 0; {
		m, err := arMember(rest)
		if err != nil {
			return nil, err
		}
		if m.name == "//" {
			long = m.data
		} else if m.name, err = arName(m.name, long); err != nil {
			return nil, err
		}
		if list = append(list, m); len(list) > maxMembers {
			return nil, errMembers
		}
		n := len(m.data)
		rest = rest[min(arHead+n+(n&1), len(rest)):]
	}
	return list, nil
}

// arMember reads the header at the beginning of data, and the contents behind it.
func arMember(data []byte) (m member, err error) {
	if len(data) < arHead || data[58] != '`' || data[59] != '\n' {
		return m, errAr
	}
	text := func(from, to int) string { return strings.TrimRight(string(data[from:to]), " ") }
	n, err := strconv.ParseInt(text(48, 58), 10, 64)
	if err != nil || n < 0 || n > int64(len(data)-arHead) {
		return m, errors.New("it is malformed, or thin")
	}
	m = member{name: text(0, 16), data: data[arHead : arHead+int(n)], whole: true}
	for at, field := range map[[2]int]*uint64{{28, 34}: &m.uid, {34, 40}: &m.gid} {
		if s := text(at[0], at[1]); s != "" {
			if *field, err = strconv.ParseUint(s, 10, 64); err != nil {
				return m, errAr
			}
		}
	}
	m.seconds, _ = strconv.ParseInt(text(16, 28), 10, 64)
	m.mode, _ = strconv.ParseUint(text(40, 48), 8, 64)
	return m, nil
}

// arName returns the name that a header's field means: "/" and an offset in long, or the
// name itself, which ends with "/". The tables of symbols have the names "/" and "/SYM64/".
func arName(field string, long []byte) (string, error) {
	switch {
	case field == "/", field == "/SYM64/":
		return field, nil
	case !strings.HasPrefix(field, "/"):
		return strings.TrimSuffix(field, "/"), nil
	}
	at, err := strconv.Atoi(field[1:])
	if err != nil || at < 0 || at >= len(long) {
		return "", errAr
	}
	name, _, _ := strings.Cut(string(long[at:min(at+4096, len(long))]), "/\n")
	return name, nil
}

func isZip(data []byte) bool { return bytes.HasPrefix(data, []byte("PK\x03\x04")) }

func (c *comparison) readZip(data []byte) ([]member, error) {
	// An entry of the directory takes some 500 bytes of memory, and 46 of the file.
	if bytes.Count(data, []byte("PK\x01\x02")) > maxMembers {
		return nil, errMembers
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	var list []member
	for _, f := range z.File {
		m := member{
			name: f.Name, whole: true, seconds: f.Modified.Truncate(time.Second).Unix(), mode: uint64(f.Mode()),
			other: fmt.Sprintf("method %d, version %d, flags %04x, comment %q", f.Method, f.CreatorVersion, f.Flags, f.Comment),
		}
		in, err := f.Open()
		if err != nil {
			return nil, err
		}
		var ok bool
		m.data, ok = c.readAll(in)
		in.Close()
		if !ok {
			return nil, errMembers
		}
		list = append(list, m)
	}
	return list, nil
}

// image compares the members of an image that package image reads.
func (c *comparison) image(r *Result, name string, a, b []byte, depth int) bool {
	formatA, inA, err := c.readImage(name, a)
	if err != nil || formatA == image.Opaque {
		return false
	}
	formatB, inB, err := c.readImage(name, b)
	if err != nil || formatA != formatB {
		return false
	}
	r.Format = Format(formatA)
	told := c.compareMembers(r, inA, inB, depth)
	if formatA == image.Squashfs {
		// The time of creation, in seconds since 1970; the kernel's
		// Documentation/filesystems/squashfs.rst.
		x, y := when(littleEndian32(a, 8)), when(littleEndian32(b, 8))
		if x != y {
			r.part(Part{Kind: "field", Name: "time of the image", Change: "changed", A: excerpt.Raw(x), B: excerpt.Raw(y)}, c.limits)
			r.caused(Cause{Name: Date, Where: "superblock", A: excerpt.Raw(x), B: excerpt.Raw(y)})
			if !told { // nothing but that, or the order and packing as well
				r.Explained = r.Count <= 4 && r.First >= 8 && r.First < 12
			}
			told = true
		}
	}
	return told
}

func (c *comparison) readImage(name string, data []byte) (image.Format, []member, error) {
	var list []member
	limits := image.Limits{Members: maxMembers, Bytes: max(c.left, 1), Spool: max(c.left, 1), Held: 64 << 20}
	format, err := image.Walk(c.ctx, bytes.NewReader(data), int64(len(data)), name, image.Options{Limits: limits}, func(m image.Member) (io.WriteCloser, error) {
		kept := member{name: m.Name(), target: m.Target, whole: true, seconds: m.MTime, uid: uint64(m.UID), gid: uint64(m.GID), mode: uint64(m.Mode)}
		if m.Type != nar.Regular {
			kept.other = fmt.Sprintf("type %d", m.Type)
			list = append(list, kept)
			return nil, nil
		}
		if !c.take(m.Size) {
			return nil, errMembers
		}
		at := len(list)
		list = append(list, kept)
		return image.Keep(int(m.Size), func(data []byte) { list[at].data = data }), nil
	})
	return format, list, err
}

// ending ends with the context.
type ending struct {
	ctx context.Context
	r   io.Reader
}

func (e *ending) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}
