package verify

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// How much memory the contents tier has Go use, in bytes. A run on an honest machine takes
// less than runMemory, unless a manifest has more than 15,000 paths, or many workers read
// from the disk. Each path is in use for some 500 bytes, and 16 for each reference; the
// buffers of a worker take up to 400 KiB, and twice as much with [nar.ReadDisk].
const (
	runMemory    = 24 << 20
	baseMemory   = 12 << 20
	pathMemory   = 600
	refMemory    = 16
	workerMemory = 512 << 10
	diskMemory   = 1 << 20 // of a worker with ReadDisk
	goMemory     = 6 << 20 // what Go has beside the heap
)

// limitMemory limits Go's heap to little more than what is in use, because garbage would
// otherwise pile up: with a hostile store, and beside a large manifest. The returned
// function removes the limit. A lower limit that was set before stays.
func limitMemory(paths []closure.PathInfo, workers int, read nar.ReadMode) (undo func()) {
	least := leastMemory(paths, workers, read)
	before := debug.SetMemoryLimit(-1)
	if before <= least {
		return func() {}
	}
	l := &memoryLimit{least: least, most: before, limit: least}
	debug.SetMemoryLimit(least)
	l.follow()
	return func() {
		l.end()
		if metric("/memory/classes/heap/objects:bytes") > runMemory/2 {
			// Or the heap would double from here, although the tier's data is unused now.
			runtime.GC()
		}
		debug.SetMemoryLimit(before)
	}
}

// leastMemory returns what a run with so many workers may take at least.
func leastMemory(paths []closure.PathInfo, workers int, read nar.ReadMode) int64 {
	least := baseMemory + int64(workers)*workerMemory
	if read == nar.ReadDisk {
		least = baseMemory + int64(workers)*diskMemory
	}
	for _, p := range paths {
		least += pathMemory + refMemory*int64(len(p.References))
	}
	return max(least, runMemory)
}

// A memoryLimit is a limit that rises where more is in use than was expected. Go would
// otherwise collect without end: at a limit below what is in use, after each allocation.
type memoryLimit struct {
	least, most int64

	mu    sync.Mutex
	limit int64 // 0 at the end
}

// follow has each collection call adjust: what nothing refers to is cleaned up by the next
// one.
func (l *memoryLimit) follow() {
	unused := new([64]byte)
	runtime.AddCleanup(unused, (*memoryLimit).adjust, l)
}

// adjust sets the limit by what the last collection left.
func (l *memoryLimit) adjust() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 {
		return
	}
	inUse := metric("/gc/heap/live:bytes")
	if limit := min(max(l.least, inUse+inUse/4+goMemory), l.most); limit != l.limit {
		l.limit = limit
		debug.SetMemoryLimit(limit)
	}
	l.follow()
}

func (l *memoryLimit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = 0
}

// metric returns one of Go's own metrics, in bytes. [runtime.ReadMemStats] stops the
// program for as long as reading a small path takes.
func metric(name string) int64 {
	now := []metrics.Sample{{Name: name}}
	metrics.Read(now)
	return int64(now[0].Value.Uint64()) //nolint:gosec // less than the memory of any machine
}
