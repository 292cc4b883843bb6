package compare

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"every.channel/ec-verify/internal/release"
)

const chunk = 256 << 10

// pairSum is the result of reading two files side by side.
type pairSum struct {
	digestA, digestB release.Digest
	bytes            Bytes
}

func (p pairSum) equal() bool { return p.bytes.Count == 0 }

// readPair reads both to their ends. side names the side of an error.
func readPair(ctx context.Context, a, b io.Reader) (p pairSum, side string, err error) {
	sums := [2]hash.Hash{sha256.New(), sha256.New()}
	p.bytes.First = -1
	bufA, bufB := make([]byte, chunk), make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return p, "", err
		}
		nA, err := fill(a, bufA)
		if err != nil {
			return p, "A", err
		}
		nB, err := fill(b, bufB)
		if err != nil {
			return p, "B", err
		}
		sums[0].Write(bufA[:nA])
		sums[1].Write(bufB[:nB])
		p.bytes.diff(bufA[:nA], bufB[:nB])
		if nA < chunk && nB < chunk {
			sums[0].Sum(p.digestA[:0])
			sums[1].Sum(p.digestB[:0])
			return p, "", nil
		}
	}
}

// fill reads until buf is full or r ends.
func fill(r io.Reader, buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// diff compares the next bytes of both sides.
func (d *Bytes) diff(a, b []byte) {
	at := max(d.SizeA, d.SizeB) // up to here, both sides have the same length
	d.SizeA += int64(len(a))
	d.SizeB += int64(len(b))
	if bytes.Equal(a, b) {
		return
	}
	common := min(len(a), len(b))
	for i := range common {
		if a[i] != b[i] {
			d.count(at+int64(i), 1)
		}
	}
	if longer := max(len(a), len(b)); longer > common {
		d.count(at+int64(common), int64(longer-common))
	}
}

func (d *Bytes) count(at, n int64) {
	if d.First < 0 {
		d.First = at
	}
	d.Count += n
}
