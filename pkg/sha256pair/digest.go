package sha256pair

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

const blockSize = sha256.BlockSize

// state is the chaining value of SHA-256, the words a to h of FIPS 180-4.
type state [8]uint32

var initial = state{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

// Digest is one SHA-256 hash. Its methods are those of [hash.Hash]; Write never
// fails. It comes from New, and is not safe for concurrent use.
type Digest struct {
	other hash.Hash // crypto/sha256, where pairs are not available; else nil

	state  state
	length uint64          // bytes written
	begun  [blockSize]byte // a block of which begun[:length%blockSize] is there
	whole  [blockSize]byte // that block once it is whole, until it is hashed
}

var _ hash.Hash = (*Digest)(nil)

// New returns a Digest of nothing so far.
func New() *Digest {
	d := &Digest{state: initial}
	if !available {
		d.other = sha256.New()
	}
	return d
}

// Size returns 32.
func (d *Digest) Size() int { return sha256.Size }

// BlockSize returns 64.
func (d *Digest) BlockSize() int { return blockSize }

// Reset forgets what was written.
func (d *Digest) Reset() {
	if d.other != nil {
		d.other.Reset()
		return
	}
	d.state, d.length = initial, 0
}

// Write adds bytes to the hash.
func (d *Digest) Write(p []byte) (int, error) {
	if d.other != nil {
		return d.other.Write(p)
	}
	first, rest := d.split(p)
	hashOne(&d.state, first)
	hashOne(&d.state, rest)
	return len(p), nil
}

// Sum appends the hash of what was written to b. More can be written afterwards.
func (d *Digest) Sum(b []byte) []byte {
	if d.other != nil {
		return d.other.Sum(b)
	}
	s := d.state
	end, n := d.ending()
	hashOne(&s, end[:n])
	return s.appendTo(b)
}

func (s *state) appendTo(b []byte) []byte {
	for _, word := range s {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}

// split takes p in and returns the whole blocks that are to be hashed now, those
// of first before those of rest; either may be empty. They are valid until the
// next split, and while p does not change.
func (d *Digest) split(p []byte) (first, rest []byte) {
	had := int(d.length % blockSize)
	d.length += uint64(len(p))
	if had > 0 {
		n := copy(d.begun[had:], p)
		if p = p[n:]; had+n < blockSize {
			return nil, nil
		}
		d.whole = d.begun
		first = d.whole[:]
	}
	whole := len(p) &^ (blockSize - 1)
	copy(d.begun[:], p[whole:])
	return first, p[:whole]
}

// ending returns the last blocks of the hash, one or two in end[:n]: what is left
// of the message, a bit that is set, zeros, and the message's length in bits.
func (d *Digest) ending() (end [2 * blockSize]byte, n int) {
	had := copy(end[:], d.begun[:d.length%blockSize])
	end[had] = 0x80
	if n = blockSize; had >= blockSize-8 {
		n = 2 * blockSize
	}
	binary.BigEndian.PutUint64(end[n-8:], d.length*8)
	return end, n
}
