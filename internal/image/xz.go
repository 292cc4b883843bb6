package image

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// newXz decompresses the xz stream at the start of r. If one is set, it ends with that
// stream and leaves r after it.
func newXz(r *bufio.Reader, one bool, window int64) (io.Reader, error) {
	// The decoder's minimum; a block that asks for more gets more.
	config := xz.ReaderConfig{DictCap: lzma.MinDictCap}
	x := &xzBlocks{framed: framed{r: r}, one: one, window: window}
	x.next = x.head
	return config.NewReader(x)
}

const (
	// maxXzBlocks limits the blocks of a stream; the decoder keeps 16 bytes for each. xz
	// itself writes blocks of 24 MiB and more.
	maxXzBlocks = 1 << 20
	xzHead      = 12   // bytes that begin a stream
	xzFoot      = 12   // bytes that end it
	xzHeader    = 1024 // bytes of the longest header of a block
)

// xzBlocks reads the bytes of xz streams for a decoder that allocates whatever dictionary
// a block asks for, up to 4 GiB: a dictionary of more than window bytes gives
// [ErrTooLarge]. If one is set, it ends with the stream, of which the decoder would read
// one byte more. See https://tukaani.org/xz/xz-file-format.txt.
type xzBlocks struct {
	framed
	one    bool
	window int64

	check  int64  // bytes behind each block
	data   int64  // bytes of the block that there were, or of the index
	blocks int    // so far in this stream
	fields uint64 // that the index still has
}

func (x *xzBlocks) head() error {
	head, err := x.r.Peek(xzHead)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF):
		x.ended = true
		return nil
	case len(head) >= 4 && string(head[:4]) == "\x00\x00\x00\x00": // between two streams
		x.left = 4
		return nil
	case len(head) < xzHead:
		return noEOF(err)
	}
	// None; then three kinds each of 4, 8, 16, 32 and 64 bytes.
	if kind := head[7] & 0xf; kind > 0 {
		x.check = 4 << ((kind - 1) / 3)
	} else {
		x.check = 0
	}
	x.left, x.blocks, x.next = xzHead, 0, x.block
	return nil
}

func (x *xzBlocks) block() error {
	head, err := x.r.Peek(1)
	if err != nil {
		return noEOF(err)
	}
	if head[0] == 0 {
		return x.index()
	}
	if x.blocks++; x.blocks > maxXzBlocks {
		return tooLarge("a stream of xz with more than %d blocks", maxXzBlocks)
	}
	size := 4 * (int(head[0]) + 1)
	if head, err = x.r.Peek(size); err != nil {
		return noEOF(err)
	}
	flags, filter := head[1], head[2:]
	for _, present := range []byte{0x40, 0x80} { // sizes
		if flags&present == 0 {
			continue
		}
		_, n := binary.Uvarint(filter)
		if n <= 0 {
			return malformed("a block of xz whose size is no number")
		}
		filter = filter[n:]
	}
	if flags&3 != 0 || len(filter) < 3 || filter[0] != 0x21 || filter[1] != 1 {
		return unsupported("xz with another filter than LZMA2")
	}
	window, err := lzma.DecodeDictCap(filter[2])
	if err != nil {
		return asMalformed(err)
	}
	if window > x.window {
		return tooLarge("expanding it takes %d bytes of memory", window)
	}
	x.left, x.data, x.next = int64(size), 0, x.chunk
	return nil
}

// chunk reads the header of an LZMA2 chunk.
func (x *xzBlocks) chunk() error {
	head, err := x.r.Peek(1)
	if err != nil {
		return noEOF(err)
	}
	control := head[0]
	var size int
	switch {
	case control == 0:
		x.data++
		x.left, x.next = 1+padding4(x.data)+x.check, x.block
		return nil
	case control >= 0xc0: // properties behind the sizes
		size = 6
	case control >= 0x80:
		size = 5
	case control <= 2: // not compressed
		size = 3
	default:
		return malformed("a part of LZMA2 of the kind %d", control)
	}
	if head, err = x.r.Peek(size); err != nil {
		return noEOF(err)
	}
	stored := head[1:3]
	if control >= 0x80 {
		stored = head[3:5]
	}
	x.left = int64(size) + int64(binary.BigEndian.Uint16(stored)) + 1
	x.data += x.left
	return nil
}

// index starts the list of blocks: a zero, their number, two numbers for each.
func (x *xzBlocks) index() error {
	head, err := x.r.Peek(1 + binary.MaxVarintLen64)
	if len(head) == 0 {
		return noEOF(err)
	}
	blocks, n := binary.Uvarint(head[1:])
	if n <= 0 || blocks != uint64(x.blocks) {
		return malformed("the index of a stream of xz has %d blocks, not %d", blocks, x.blocks)
	}
	x.left, x.fields, x.next = int64(1+n), 2*blocks, x.field
	x.data = x.left
	return nil
}

func (x *xzBlocks) field() error {
	if x.fields == 0 {
		x.left, x.next = padding4(x.data)+4+xzFoot, x.end
		return nil
	}
	head, err := x.r.Peek(binary.MaxVarintLen64)
	if len(head) == 0 {
		return noEOF(err)
	}
	_, n := binary.Uvarint(head)
	if n <= 0 {
		return malformed("the index of a stream of xz is cut short")
	}
	x.fields--
	x.left = int64(n)
	x.data += x.left
	return nil
}

func (x *xzBlocks) end() error {
	x.ended, x.next = x.one, x.head
	return nil
}

// padding4 returns the number of bytes up to the next multiple of four.
func padding4(n int64) int64 { return (4 - n%4) % 4 }
