package sha256pair

import (
	"crypto/sha256"
	"errors"
	"hash"
	"iter"
)

// Together calls work twice, and lets the two calls take turns in this goroutine:
// one goes on while what the other wrote to its hash waits for a partner. The
// hash may be used by the goroutine of its call only. When one call returns, the
// other has the goroutine to itself. Where pairs are not available, work is
// called once, with a hash of crypto/sha256.
//
// A call that waits, for a read or a lock, holds up the other; they must not wait
// for each other.
//
// Together returns when both calls have. A panic in one of them goes on in the
// caller, after the other was ended: what it writes to its hash fails from then on.
func Together(work func(h hash.Hash)) {
	if !available {
		work(sha256.New())
		return
	}
	nextA, stopA := iter.Pull(lanes(work))
	defer stopA()
	nextB, stopB := iter.Pull(lanes(work))
	defer stopB()
	a, okA := nextA()
	b, okB := nextB()
	for okA && okB {
		n := hashTwo(&a.state, &b.state, a.blocks, b.blocks)
		if a.blocks = a.blocks[n:]; len(a.blocks) == 0 {
			a, okA = nextA()
		}
		if b.blocks = b.blocks[n:]; len(b.blocks) == 0 {
			b, okB = nextB()
		}
	}
	for okA {
		hashOne(&a.state, a.blocks)
		a, okA = nextA()
	}
	for okB {
		hashOne(&b.state, b.blocks)
		b, okB = nextB()
	}
}

// lanes calls work with a lane, and yields that each time it has blocks.
func lanes(work func(hash.Hash)) iter.Seq[*lane] {
	return func(yield func(*lane) bool) {
		l := &lane{yield: yield}
		l.Reset()
		work(l)
	}
}

// A lane is the hash of one of two calls. It waits with each Write until the bytes
// were hashed beside those of the other.
type lane struct {
	Digest
	yield  func(*lane) bool
	blocks []byte // whole blocks that are to be hashed
	end    [2 * blockSize]byte
	ended  bool
}

var errEnded = errors.New("the call that hashes beside this one has panicked")

// hash has blocks hashed into the state.
func (l *lane) hash(blocks []byte) {
	if len(blocks) == 0 || l.ended {
		return
	}
	l.blocks = blocks
	l.ended = !l.yield(l)
}

// Write adds bytes to the hash.
func (l *lane) Write(p []byte) (int, error) {
	first, rest := l.split(p)
	l.hash(first)
	l.hash(rest)
	if l.ended {
		return 0, errEnded
	}
	return len(p), nil
}

// Sum appends the hash of what was written to b; zeros after a panic of the other.
func (l *lane) Sum(b []byte) []byte {
	before := l.state
	var n int
	l.end, n = l.ending()
	l.hash(l.end[:n])
	sum := l.state
	l.state = before
	if l.ended {
		sum = state{}
	}
	return sum.appendTo(b)
}
