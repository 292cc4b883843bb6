package filediff

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Compare says what differs between two versions of the file called name. The only error
// is ctx's.
func Compare(ctx context.Context, name string, a, b []byte, limits Limits) (*Result, error) {
	d := DefaultLimits()
	if limits == (Limits{}) {
		limits = d
	}
	c := &comparison{ctx: ctx, limits: limits, left: limits.Bytes}
	r := c.compare(name, a, b, 0)
	return r, ctx.Err()
}

// comparison is the state of one comparison.
type comparison struct {
	ctx    context.Context
	limits Limits
	left   int64 // of limits.Bytes
	// built are the directories in which the two were built, according to the compilers.
	built directories
}

// take counts n bytes towards the limit.
func (c *comparison) take(n int64) bool {
	if n < 0 || c.left < n {
		return false
	}
	c.left -= n
	return true
}

func (c *comparison) compare(name string, a, b []byte, depth int) *Result {
	r := measure(a, b)
	if r.Count == 0 || c.ctx.Err() != nil {
		r.Explained = r.Count == 0
		return r
	}
	if depth < c.limits.Depth && c.byFormat(r, name, a, b, depth) {
		return r
	}
	// The incomplete result of a reader that gave up is dropped.
	*r = Result{Format: Binary, First: r.First, Count: r.Count, SizeA: r.SizeA, SizeB: r.SizeB, Notes: r.Notes}
	c.binary(r, a, b)
	return r
}

// byFormat compares the two by their common format, and reports whether that gave a
// result.
func (c *comparison) byFormat(r *Result, name string, a, b []byte, depth int) (told bool) {
	// The standard library's readers are not made for hostile files. If one panics, the
	// files are compared as bytes.
	defer func() {
		if p := recover(); p != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("it was compared byte by byte: reading it as %s failed", r.Format))
			told = false
		}
	}()
	both := func(is func([]byte) bool) bool { return is(a) && is(b) }
	switch {
	case both(isELF):
		r.Format = ELF
		return c.elf(r, a, b)
	case both(isGzip):
		r.Format = Gzip
		return c.gzip(r, name, a, b, depth)
	case both(isAr):
		r.Format = Ar
		return c.members(r, readAr, a, b, depth)
	case both(isZip):
		r.Format = Zip
		return c.members(r, c.readZip, a, b, depth)
	case both(isExt4):
		r.Format = Ext4
		return c.ext4(r, a, b)
	case strings.HasSuffix(name, ".pyc") && both(isPyc):
		r.Format = Pyc
		return c.pyc(r, a, b)
	case both(isText):
		r.Format = Text
		return c.text(r, a, b)
	case both(isPacked):
		r.Format = Packed
		return c.packed(r, name, a, b, depth)
	}
	return c.image(r, name, a, b, depth)
}

// measure finds the bytes that differ.
func measure(a, b []byte) *Result {
	r := &Result{Format: Binary, First: -1, SizeA: int64(len(a)), SizeB: int64(len(b))}
	common := min(len(a), len(b))
	for i := 0; i < common; {
		if end := min(i+4096, common); bytes.Equal(a[i:end], b[i:end]) {
			i = end
			continue
		}
		for end := min(i+4096, common); i < end; i++ {
			if a[i] != b[i] {
				if r.First < 0 {
					r.First = int64(i)
				}
				r.Count++
			}
		}
	}
	if longer := max(len(a), len(b)); longer > common {
		if r.First < 0 {
			r.First = int64(common)
		}
		r.Count += int64(longer - common)
	}
	return r
}

// isText reports whether data is text: UTF-8 without control characters other than those
// of a text.
func isText(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	return bytes.IndexFunc(data, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\r\f\x1b", r) }) < 0
}

// window returns the bytes around the offset at.
func window(a, b []byte, at int64) *Window {
	const before, length = 16, 64
	from := max(0, at-before) &^ 15
	cut := func(data []byte) []byte {
		if from >= int64(len(data)) {
			return nil
		}
		return bytes.Clone(data[from:min(from+length, int64(len(data)))])
	}
	return &Window{At: from, A: cut(a), B: cut(b)}
}
