package filediff

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"strings"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/pkg/excerpt"
)

func isGzip(data []byte) bool { return len(data) > 18 && data[0] == 0x1f && data[1] == 0x8b }

func isPacked(data []byte) bool {
	return bytes.HasPrefix(data, []byte{0xfd, '7', 'z', 'X', 'Z', 0}) || bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// gzip compares the headers, and then the decompressed contents.
func (c *comparison) gzip(r *Result, name string, a, b []byte, depth int) bool {
	plainA, headA, okA := c.gunzip(a)
	plainB, headB, okB := c.gunzip(b)
	if !okA || !okB {
		r.Notes = append(r.Notes, "it can't be decompressed, or expands to too much")
		return false
	}
	// Seconds since 1970; 0 for none. RFC 1952, section 2.3.
	timeA, timeB := binary.LittleEndian.Uint32(a[4:]), binary.LittleEndian.Uint32(b[4:])
	headers := timeA == timeB
	if timeA != timeB {
		wordsA, wordsB := when(int64(timeA)), when(int64(timeB))
		r.part(Part{Kind: "field", Name: "time in the header", Change: "changed", A: excerpt.Raw(wordsA), B: excerpt.Raw(wordsB)}, c.limits)
		r.caused(Cause{Name: Date, Where: "header", A: excerpt.Raw(wordsA), B: excerpt.Raw(wordsB)})
		headers = true
	}
	if headA.Name != headB.Name {
		headers = false
		r.part(Part{Kind: "field", Name: "name in the header", Change: "changed", A: excerpt.Raw(headA.Name), B: excerpt.Raw(headB.Name)}, c.limits)
	}
	if headA.Comment != headB.Comment {
		headers = false
		r.part(Part{Kind: "field", Name: "comment in the header", Change: "changed", A: excerpt.Raw(headA.Comment), B: excerpt.Raw(headB.Comment)}, c.limits)
	}
	rest := func(data []byte) []byte { out := bytes.Clone(data); copy(out[4:8], make([]byte, 4)); return out }
	switch {
	case bytes.Equal(plainA, plainB) && bytes.Equal(rest(a), rest(b)):
		r.Explained = true
	case bytes.Equal(plainA, plainB):
		if headers {
			r.caused(Cause{Name: Compression, A: excerpt.Raw(size(len(a))), B: excerpt.Raw(size(len(b)))})
		}
		r.Explained = headers
	default:
		c.inner(r, strings.TrimSuffix(path.Base(name), ".gz"), plainA, plainB, depth)
		r.Explained = r.Explained && headers
	}
	return true
}

// inner compares the decompressed contents.
func (c *comparison) inner(r *Result, name string, a, b []byte, depth int) {
	within := c.compare(name, a, b, depth+1)
	r.part(Part{Kind: "contents", Name: "decompressed", Change: "changed", A: excerpt.Raw(size(len(a))), B: excerpt.Raw(size(len(b))), Within: within}, c.limits)
	r.adopt(within, "decompressed")
	r.Explained = within.Explained
}

func (c *comparison) gunzip(data []byte) (plain []byte, head gzip.Header, ok bool) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, head, false
	}
	head = z.Header
	plain, ok = c.readAll(z)
	return plain, head, ok
}

// readAll reads r to its end, if that is within the limits.
func (c *comparison) readAll(r io.Reader) ([]byte, bool) {
	most := min(c.left, MaxSize)
	data, err := io.ReadAll(io.LimitReader(&ending{c.ctx, r}, most+1))
	if err != nil || int64(len(data)) > most || !c.take(int64(len(data))) {
		return nil, false
	}
	return data, true
}

// packed compares the decompressed contents of two xz or zstd files.
func (c *comparison) packed(r *Result, name string, a, b []byte, depth int) bool {
	unpack := func(data []byte) ([]byte, bool) {
		z, err := image.Decompress(bytes.NewReader(data))
		if err != nil {
			return nil, false
		}
		defer z.Close()
		return c.readAll(z)
	}
	plainA, okA := unpack(a)
	plainB, okB := unpack(b)
	if !okA || !okB {
		r.Notes = append(r.Notes, "it can't be decompressed, or expands to too much")
		return false
	}
	if bytes.Equal(plainA, plainB) {
		r.caused(Cause{Name: Compression, A: excerpt.Raw(size(len(a))), B: excerpt.Raw(size(len(b)))})
		r.Explained = true
		return true
	}
	c.inner(r, strings.TrimSuffix(path.Base(name), path.Ext(name)), plainA, plainB, depth)
	return true
}

func isPyc(data []byte) bool { return len(data) >= 16 && data[2] == '\r' && data[3] == '\n' }

// pyc compares the header of compiled Python, and then the code. PEP 552 describes the
// form.
func (c *comparison) pyc(r *Result, a, b []byte) bool {
	field := func(name string, at int, word func(uint32) string) (same bool, wordA, wordB string) {
		x, y := binary.LittleEndian.Uint32(a[at:]), binary.LittleEndian.Uint32(b[at:])
		if x == y {
			return true, "", ""
		}
		wordA, wordB = word(x), word(y)
		r.part(Part{Kind: "field", Name: excerpt.Raw(name), Change: "changed", A: excerpt.Raw(wordA), B: excerpt.Raw(wordB)}, c.limits)
		return false, wordA, wordB
	}
	hex := func(n uint32) string { return fmt.Sprintf("%08x", n) }
	r.Explained = true
	for name, at := range map[string]int{"version of Python": 0, "flags": 4} {
		if same, _, _ := field(name, at, hex); !same {
			r.Explained = false
		}
	}
	if binary.LittleEndian.Uint32(a[4:]) == 0 && binary.LittleEndian.Uint32(b[4:]) == 0 {
		if same, x, y := field("time of the source", 8, func(n uint32) string { return when(int64(n)) }); !same {
			r.caused(Cause{Name: Date, Where: "time of the source", A: excerpt.Raw(x), B: excerpt.Raw(y)})
		}
		if same, _, _ := field("size of the source", 12, func(n uint32) string { return size(int(n)) }); !same {
			r.Explained = false
		}
	} else if !bytes.Equal(a[8:16], b[8:16]) {
		r.Explained = false
		r.part(Part{Kind: "field", Name: "hash of the source", Change: "changed", A: excerpt.Raw(fmt.Sprintf("%x", a[8:16])), B: excerpt.Raw(fmt.Sprintf("%x", b[8:16]))}, c.limits)
	}
	if !bytes.Equal(a[16:], b[16:]) {
		within := measure(a[16:], b[16:])
		c.binary(within, a[16:], b[16:])
		r.part(Part{Kind: "contents", Name: "code", Change: "changed", A: excerpt.Raw(size(len(a) - 16)), B: excerpt.Raw(size(len(b) - 16)), Within: within}, c.limits)
		r.adopt(within, "code")
		r.Explained = r.Explained && within.Explained
	}
	return true
}
