package nar

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	gonix "github.com/nix-community/go-nix/pkg/nar"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The benchmarks hash the same bytes in different ways, so that one run shows
// what the walk costs on top of SHA-256. Next to the throughput in NAR bytes
// they report processor time: cpu-ns/KiB, over all threads, user and system.
//
//	go test -run '^$' -bench . -count 6 ./pkg/nar

// benchTrees are the shapes that matter: many small files cost system calls,
// large ones cost hashing, a store has both.
var benchTrees = []struct {
	name string
	make func(b *testing.B, dir string)
}{
	{"small", func(b *testing.B, dir string) { // 10,000 files of 2 KiB
		fillTree(b, dir, 10_000, func(*rand.Rand) int { return 2 << 10 })
	}},
	{"store", func(b *testing.B, dir string) { // 4,000 files, 62 KB on average
		fillTree(b, dir, 4_000, func(r *rand.Rand) int {
			// Most files are small, most bytes are in few files.
			return int(min(math.Exp(r.NormFloat64()*2.2+8.7), 16<<20))
		})
	}},
	{"large", func(b *testing.B, dir string) { // 1 file of 256 MiB
		fillTree(b, dir, 1, func(*rand.Rand) int { return 256 << 20 })
	}},
}

// fillTree makes files in directories of 100 each.
func fillTree(b *testing.B, dir string, files int, size func(*rand.Rand) int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		data := make([]byte, size(r))
		for j := 0; j < len(data); j += 512 {
			data[j] = byte(r.Uint32())
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%d", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime returns the processor time of this process in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}

// measure runs one way of hashing size bytes.
func measure(b *testing.B, size int64, hash func() error) {
	b.Helper()
	b.SetBytes(size)
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		if err := hash(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N)/float64(size)*1024, "cpu-ns/KiB")
}

func BenchmarkSum(b *testing.B) {
	for _, tree := range benchTrees {
		b.Run(tree.name, func(b *testing.B) {
			dir := b.TempDir()
			tree.make(b, dir)
			parent, name, err := openParent(dir)
			if err != nil {
				b.Fatal(err)
			}
			defer parent.Close()
			unix.Sync() // else the first direct read of a file waits for its writing
			sum, err := NewHasher(Options{}).Sum(b.Context(), parent, name)
			if err != nil {
				b.Fatal(err)
			}

			sumWith := func(opts Options) func(*testing.B) {
				return func(b *testing.B) {
					h := NewHasher(opts)
					measure(b, sum.Size, func() error {
						_, err := h.Sum(b.Context(), parent, name)
						return err
					})
				}
			}
			b.Run("Sum", sumWith(Options{}))
			b.Run("SumDropBehind", sumWith(Options{DropBehind: true}))
			b.Run("SumListing", sumWith(Options{OnEntry: func(Entry) error { return nil }}))
			b.Run("SumDisk", sumWith(Options{Read: ReadDisk}))
			b.Run("SumTwoWorkers", func(b *testing.B) {
				hashers := []*Hasher{NewHasher(Options{}), NewHasher(Options{})}
				measure(b, 2*sum.Size, func() error {
					var g errgroup.Group
					for _, h := range hashers {
						g.Go(func() error {
							_, err := h.Sum(context.Background(), parent, name)
							return err
						})
					}
					return g.Wait()
				})
			})
			b.Run("peer=go-nix", func(b *testing.B) {
				measure(b, sum.Size, func() error { return gonix.DumpPath(sha256.New(), dir) })
			})
			b.Run("peer=sha256", func(b *testing.B) {
				data := make([]byte, 64<<10)
				measure(b, sum.Size, func() error {
					d := sha256.New()
					for left := sum.Size; left > 0; left -= int64(len(data)) {
						d.Write(data[:min(left, int64(len(data)))])
					}
					return nil
				})
			})
			b.Run("peer=walk", func(b *testing.B) { // the walk without the hash
				measure(b, sum.Size, func() error { return Dump(b.Context(), io.Discard, dir, Options{}) })
			})
		})
	}
}
