package sha256pair

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
)

// noise returns bytes that no two tests' faults are likely to hide in.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// standard is what crypto/sha256 says of b, in the form of Sum(nil).
func standard(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// without repeats a test as on a processor without the instructions.
func without(t *testing.T, test func(t *testing.T)) {
	t.Run("as this processor does", test)
	was := available
	available = false
	defer func() { available = was }()
	t.Run("as crypto/sha256 does", test)
}

// TestDigest writes messages of all lengths around whole blocks, each in two
// pieces split everywhere, from every alignment.
func TestDigest(t *testing.T) {
	without(t, func(t *testing.T) {
		all := noise(4*blockSize + 16)
		d := New()
		for length := range 3*blockSize + 2 {
			want := standard(all[:length])
			for split := range length + 1 {
				d.Reset()
				d.Write(all[:split])
				d.Write(all[split:length])
				if got := d.Sum(nil); !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, split at %d: %x, want %x", length, split, got, want)
				}
			}
			at := length % 16
			d.Reset()
			d.Write(all[at : at+length])
			if got, want := d.Sum([]byte("x")), append([]byte("x"), standard(all[at:at+length])...); !bytes.Equal(got, want) {
				t.Fatalf("%d bytes at %d: %x, want %x", length, at, got, want)
			}
		}
		if d.Size() != 32 || d.BlockSize() != 64 {
			t.Errorf("sizes %d and %d", d.Size(), d.BlockSize())
		}
	})
}

// TestWriteBoth writes two messages of unequal lengths to two digests in unequal
// pieces, so that each has anything between 0 and 63 bytes of a block begun.
func TestWriteBoth(t *testing.T) {
	without(t, func(t *testing.T) {
		p, q := noise(5*blockSize), noise(5*blockSize+1)
		a, b := New(), New()
		for x := range 2*blockSize + 2 {
			for y := range 2*blockSize + 2 {
				a.Reset()
				b.Reset()
				WriteBoth(a, b, p[:x], q[:y])
				WriteBoth(a, b, p[x:x+y], q[y:y+x])
				if got, want := a.Sum(nil), standard(p[:x+y]); !bytes.Equal(got, want) {
					t.Fatalf("first of pieces of %d and %d bytes: %x, want %x", x, y, got, want)
				}
				if got, want := b.Sum(nil), standard(q[:x+y]); !bytes.Equal(got, want) {
					t.Fatalf("second of pieces of %d and %d bytes: %x, want %x", x, y, got, want)
				}
			}
		}
	})
}

// TestTogether gives one call messages of other lengths than the other, so that
// either ends early, and asks for sums in between.
func TestTogether(t *testing.T) {
	without(t, func(t *testing.T) {
		for _, lengths := range [][2][]int{
			{{0}, {0}},
			{{}, {1000}},
			{{1 << 20}, {}},
			{{1, 55, 56, 63, 64, 65, 119, 120, 128}, {3}},
			{{7}, {100_000, 1, 100_001}},
			{{64, 64, 64}, {64, 64, 64, 64, 64}},
		} {
			calls := 0
			Together(func(h hash.Hash) {
				mine := lengths[calls]
				calls++
				for _, n := range mine {
					message := noise(n)
					h.Reset()
					h.Write(message[:n/3])
					if got, want := h.Sum(nil), standard(message[:n/3]); !bytes.Equal(got, want) {
						t.Errorf("%v: a third of %d: %x, want %x", lengths, n, got, want)
					}
					h.Write(message[n/3:])
					if got, want := h.Sum(nil), standard(message); !bytes.Equal(got, want) {
						t.Errorf("%v: %d bytes: %x, want %x", lengths, n, got, want)
					}
				}
			})
			if want := 1 + map[bool]int{true: 1}[available]; calls != want {
				t.Errorf("work is called %d times, want %d", calls, want)
			}
		}
	})
}

// TestTogetherPanics sees a panic of one call reach the caller, and the other end
// although it would write for ever.
func TestTogetherPanics(t *testing.T) {
	if !available {
		t.Skip("this processor hashes one stream at a time")
	}
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first=%v", first), func(t *testing.T) {
			calls, ended := 0, false
			defer func() {
				if got := recover(); got != "thrown" || !ended {
					t.Errorf("recovered %v, the other ended: %v", got, ended)
				}
			}()
			Together(func(h hash.Hash) {
				calls++
				if (calls == 1) == first {
					h.Write(noise(1000))
					panic("thrown")
				}
				for {
					if _, err := h.Write(noise(100)); err != nil {
						break
					}
				}
				ended = bytes.Equal(h.Sum(nil), make([]byte, sha256.Size))
			})
		})
	}
}

// A long message, with a length that takes more than 32 bits in bits.
func TestLong(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	piece := noise(1 << 20)
	a, b, want := New(), New(), sha256.New()
	for range 600 {
		WriteBoth(a, b, piece, piece)
		want.Write(piece)
	}
	for _, d := range []*Digest{a, b} {
		if got := d.Sum(nil); !bytes.Equal(got, want.Sum(nil)) {
			t.Errorf("%x, want %x", got, want.Sum(nil))
		}
	}
}

func TestGodebug(t *testing.T) {
	for value, want := range map[string]bool{
		"":                               true,
		"cpu.sha=off":                    false,
		"gctrace=1,cpu.sha=off":          false,
		"cpu.sha=off,cpu.sha=on":         true,
		"cpu.all=off":                    false,
		"cpu.all=off,cpu.sha=on":         true,
		"cpu.sha=off,cpu.all=on":         true,
		"cpu.sha":                        true,
		"cpu.sha=no":                     true,
		"cpu.sha512=off,sha=off,cpu.sha": true,
	} {
		if got := godebug(value)("sha"); got != want {
			t.Errorf("GODEBUG=%s leaves it on: %v, want %v", value, got, want)
		}
	}
}

// FuzzPair compares all ways of hashing with crypto/sha256: two messages, cut out of one
// input at any place, each written in pieces whose lengths come from the input too.
func FuzzPair(f *testing.F) {
	f.Add(noise(1000), uint16(100), uint16(3), []byte{1, 200, 64, 0, 63})
	f.Add(noise(200), uint16(0), uint16(64), []byte{64})
	f.Add([]byte{}, uint16(9), uint16(1), []byte{})
	f.Fuzz(func(t *testing.T, message []byte, cut, at uint16, pieces []byte) {
		p := message[:min(int(cut), len(message))]
		q := message[min(int(at), len(message)):]
		a, b := New(), New()
		restP, restQ := p, q
		for i := 0; i+1 < len(pieces); i += 2 {
			x, y := min(int(pieces[i]), len(restP)), min(int(pieces[i+1]), len(restQ))
			WriteBoth(a, b, restP[:x], restQ[:y])
			restP, restQ = restP[x:], restQ[y:]
		}
		WriteBoth(a, b, restP, restQ)
		if got, want := a.Sum(nil), standard(p); !bytes.Equal(got, want) {
			t.Errorf("WriteBoth, first: %x, want %x", got, want)
		}
		if got, want := b.Sum(nil), standard(q); !bytes.Equal(got, want) {
			t.Errorf("WriteBoth, second: %x, want %x", got, want)
		}
		messages := [2][]byte{p, q}
		calls := 0
		Together(func(h hash.Hash) {
			whole := messages[calls]
			rest := whole
			for i := calls; i < len(pieces); i += 2 {
				n := min(int(pieces[i]), len(rest))
				h.Write(rest[:n])
				rest = rest[n:]
			}
			calls++
			h.Write(rest)
			if got, want := h.Sum(nil), standard(whole); !bytes.Equal(got, want) {
				t.Errorf("Together: %x, want %x", got, want)
			}
		})
	})
}

// BenchmarkHash is the floor of this processor: how much faster two hashes at
// once are than one after the other, out of the second-level cache.
//
//	go test -run '^$' -bench Hash ./pkg/sha256pair
func BenchmarkHash(b *testing.B) {
	const size = 128 << 10
	p, q := noise(size), noise(size + 1)[:size]
	b.Run("one=crypto", func(b *testing.B) {
		h := sha256.New()
		b.SetBytes(size)
		for b.Loop() {
			h.Write(p)
		}
	})
	b.Run("one", func(b *testing.B) {
		d := New()
		b.SetBytes(size)
		for b.Loop() {
			d.Write(p)
		}
	})
	b.Run("two", func(b *testing.B) {
		x, y := New(), New()
		b.SetBytes(2 * size)
		for b.Loop() {
			WriteBoth(x, y, p, q)
		}
	})
	b.Run("together", func(b *testing.B) {
		b.SetBytes(2 * size)
		n := b.N
		Together(func(h hash.Hash) {
			for range n {
				h.Write(p)
			}
		})
	})
}
