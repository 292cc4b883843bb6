package image

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"math"
)

// Hash returns a writer for a [Visit] to return. At the end of a member, it calls done with
// the SHA-256 of the member's contents.
func Hash(done func(sum [sha256.Size]byte)) io.WriteCloser { return HashFirst(math.MaxInt64, done) }

// HashFirst is [Hash], but only hashes the first n bytes of a member.
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

// Keep returns a writer for a [Visit] to return. At the end of a member, it calls done with
// the member's contents. A member of more than limit bytes causes [ErrTooLarge].
func Keep(limit int, done func([]byte)) io.WriteCloser { return &keeping{limit: limit, done: done} }

type keeping struct {
	bytes.Buffer
	limit int
	done  func([]byte)
}

func (k *keeping) Write(p []byte) (int, error) {
	if k.Len()+len(p) > k.limit {
		return 0, tooLarge("a file has more than the allowed %d bytes", k.limit)
	}
	return k.Buffer.Write(p)
}

func (k *keeping) Close() error {
	k.done(k.Bytes())
	return nil
}

// To returns a writer for a [Visit] to return. It writes the contents of a member to w.
func To(w io.Writer) io.WriteCloser { return nopCloser{w} }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
