package main

import (
	"crypto/sha256"
	"time"

	"every.channel/ec-verify/pkg/sha256pair"
)

// floor is how fast this processor hashes, from its second-level cache, in bytes
// a second: the best of several tries.
type floor struct{ One, Two float64 }

// gain is how much faster two hashes at once are than one after the other.
func (f floor) gain() float64 { return f.Two / f.One }

func measureFloor() (f floor) {
	const size, times = 128 << 10, 64
	p, q := make([]byte, size), make([]byte, size)
	one, a, b := sha256.New(), sha256pair.New(), sha256pair.New()
	best := func(bytes int, hash func()) float64 {
		start := time.Now()
		for range times {
			hash()
		}
		return float64(bytes) * times / time.Since(start).Seconds()
	}
	for range 50 {
		f.One = max(f.One, best(size, func() { one.Write(p) }))
		f.Two = max(f.Two, best(2*size, func() { sha256pair.WriteBoth(a, b, p, q) }))
	}
	return f
}
