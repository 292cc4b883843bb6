package ledger

import (
	"testing"
)

// benchPaths is the size of the closure of a small system, some times over.
const benchPaths = 5000

// BenchmarkRecord records 5,000 paths of a manifest that is known already, as
// most runs do, and waits for the disk.
func BenchmarkRecord(b *testing.B) {
	dir := b.TempDir()
	items := makeItems(benchPaths)
	l := open(b, dir)
	expectItems(b, begin(b, l), items)
	for b.Loop() {
		r := begin(b, l)
		expectItems(b, r, items)
		for _, item := range items {
			r.Record(Contents, item, Outcome{Result: Verified})
		}
		end(b, r)
	}
	b.ReportMetric(float64(fileSize(b, l))/benchPaths, "bytes/path")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/benchPaths, "µs/path")
}

// BenchmarkFirstRun makes a ledger and records 5,000 paths in it.
func BenchmarkFirstRun(b *testing.B) {
	items := makeItems(benchPaths)
	for b.Loop() {
		l := open(b, b.TempDir())
		r := begin(b, l)
		expectItems(b, r, items)
		for _, item := range items {
			r.Record(Contents, item, Outcome{Result: Verified})
		}
		end(b, r)
	}
}

// BenchmarkOpen opens a ledger of 5,000 paths, which checks all of it.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, benchPaths)
	for b.Loop() {
		l, err := Open(b.Context(), dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

// BenchmarkSelect chooses a tenth of 5,000 paths.
func BenchmarkSelect(b *testing.B) {
	items := makeItems(benchPaths)
	records := make(Records)
	for i, item := range items {
		records[item.Key()] = Record{Last: Check{Run: int64(1 + i*7%10)}}
	}
	for b.Loop() {
		Select(items, records, 100*benchPaths/10)
	}
}
