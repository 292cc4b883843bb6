package image

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"math"
)

// Hash returns what a [Visit] may return: at the end of a member, done is called with the
// SHA-256 of its contents.
func Hash(done func(sum [sha256.Size]byte)) io.WriteCloser { return HashFirst(math.MaxInt64, done) }

// HashFirst is [Hash] of the first n bytes of a member.
func HashFirst(n int64, done func(sum [sha256.Size]byte)) io.WriteCloser {
	return &hashing{sha256.New(), n, done}
}

type hashing struct {
	hash hash.Hash
	left int64
	done func([sha256.Size]byte)
}

func (h *hashing) Write(p []byte) (int, error) {
	n := min(int64(len(p)), h.left)
	h.left -= n
	h.hash.Write(p[:n])
	return len(p), nil
}

func (h *hashing) Close() error {
	h.done([sha256.Size]byte(h.hash.Sum(nil)))
	return nil
}

// Keep returns what a [Visit] may return: at the end of a member, done is called with its
// contents. One of more than limit bytes gives [ErrTooLarge].
func Keep(limit int, done func([]byte)) io.WriteCloser { return &keeping{limit: limit, done: done} }

type keeping struct {
	bytes.Buffer
	limit int
	done  func([]byte)
}

func (k *keeping) Write(p []byte) (int, error) {
	if k.Len()+len(p) > k.limit {
		return 0, tooLarge("a file that is to have at most %d bytes has more", k.limit)
	}
	return k.Buffer.Write(p)
}

func (k *keeping) Close() error {
	k.done(k.Bytes())
	return nil
}

// To returns what a [Visit] may return for the contents of a member to be written to w.
func To(w io.Writer) io.WriteCloser { return nopCloser{w} }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
