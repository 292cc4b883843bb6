package filediff_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/filediff"
)

// TestBombs: what expands to more than the limit is compared by its bytes.
func TestBombs(t *testing.T) {
	bomb := func(last byte) []byte {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		io.CopyN(z, zeros{}, 3<<20)
		z.Write([]byte{last})
		z.Close()
		return b.Bytes()
	}
	limits := filediff.DefaultLimits()
	limits.Bytes = 1 << 20
	r, err := filediff.Compare(t.Context(), "x.gz", bomb(1), bomb(2), limits)
	if err != nil || r.Format != filediff.Binary || r.Window == nil || len(r.Notes) == 0 || r.Explained {
		t.Errorf("%v\n%s", err, dump(r, ""))
	}
	nested := func(s string) []byte {
		data := []byte(s)
		for range 20 {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(data)
			z.Close()
			data = b.Bytes()
		}
		return data
	}
	if r, err = filediff.Compare(t.Context(), "x.gz", nested("one"), nested("two"), filediff.Limits{}); err != nil || r.Explained {
		t.Errorf("%v\n%s", err, dump(r, ""))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDamaged: whatever a file claims, it is compared and nothing is explained that
// was not.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"/bin/true", "/usr/share/doc/bash/changelog.Debian.gz"} {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Logf("%v", err)
			continue
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			a, b := bytes.Clone(whole), bytes.Clone(whole)
			for _, side := range [][]byte{a, b} {
				for range 4 {
					side[random.IntN(min(len(side), 4096))] = byte(random.IntN(256))
				}
			}
			if r, err := filediff.Compare(t.Context(), name, a, b, filediff.Limits{}); err != nil || r.Count > 0 && r.Format == "" {
				t.Fatal(err)
			}
		}
	}
}

// TestMemory: what holds many small things takes no more memory than a file that holds
// one large thing, by some factor.
func TestMemory(t *testing.T) {
	const size = 8 << 20
	repeat := func(s string) []byte { return bytes.Repeat([]byte(s), size/len(s)) }
	elf64 := func(number byte) []byte {
		data := make([]byte, size)
		copy(data, "\x7fELF\x02\x01\x01")
		data[0x10], data[0x12], data[0x14] = 2, 62, 1
		data[0x28], data[0x34], data[0x3a], data[0x3c] = 64, 64, 64, number
		data[64+32+2] = 1 // the first section says that there are 65,536 of them
		return data
	}
	for name, data := range map[string][]byte{
		"lines": repeat("\n"), "texts": repeat("abcdef\x00"), "a zip": append([]byte("PK\x03\x04"), repeat("PK\x01\x02"+strings.Repeat("\x00", 42))...),
		"members of ar": append([]byte("!<arch>\n"), repeat(fmt.Sprintf("%-48s%-10d`\n", "x", 0))...), "sections": elf64(0), "more sections": elf64(255), "dates": repeat("2026-01-01 "),
	} {
		other := append(bytes.Clone(data), "x\n"...)
		other[len(other)/2] ^= 1
		for _, b := range [][]byte{other, other[:len(data)]} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := filediff.Compare(t.Context(), "x", data, b, filediff.Limits{}); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			// All that was ever allocated, so that it never took more at a time.
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 40*(size>>20) {
				t.Errorf("%s: %d MiB allocated", name, allocated)
			}
		}
	}
}

// TestManyDifferences: what is kept is bounded, and what is not is counted.
func TestManyDifferences(t *testing.T) {
	a, b := strings.Repeat("a\n", 5000), strings.Repeat("b\n", 5000)
	r, err := filediff.Compare(t.Context(), "x", []byte(a), []byte(b), filediff.Limits{})
	if err != nil || len(r.Diff) != filediff.DefaultLimits().Lines || r.MoreDiff < 9000 {
		t.Errorf("%d lines, %d more, %v", len(r.Diff), r.MoreDiff, err)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add("x.gz", []byte("\x1f\x8b"), []byte("\x1f\x8c"))
	f.Add("x.a", []byte("!<arch>\n"), []byte("!<arch>\nx"))
	f.Add("x", []byte("2026-01-01"), []byte("2026-01-02"))
	f.Fuzz(func(t *testing.T, name string, a, b []byte) {
		limits := filediff.DefaultLimits()
		limits.Bytes = 1 << 20
		if r, err := filediff.Compare(t.Context(), name, a, b, limits); err != nil || bytes.Equal(a, b) != (r.Count == 0) {
			t.Errorf("%v, %d differ", err, r.Count)
		}
	})
}
