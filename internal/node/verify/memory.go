package verify

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"every.channel/ec-verify/pkg/closure"
)

// How much memory the contents tier has Go use, in bytes. A run on an honest machine takes
// less than runMemory, unless a manifest has more than 15,000 paths. Each of these is in
// use for some 500 bytes, and 16 for each reference.
const (
	runMemory  = 24 << 20
	baseMemory = 12 << 20
	pathMemory = 600
	refMemory  = 16
)

// limitMemory limits Go's heap to little more than what is in use, because garbage would
// otherwise pile up: with a hostile store, and beside a large manifest. The returned
// function removes the limit. A lower limit that was set before stays.
func limitMemory(paths []closure.PathInfo) (undo func()) {
	limit := int64(baseMemory)
	for _, p := range paths {
		limit += pathMemory + refMemory*int64(len(p.References))
	}
	limit = max(limit, runMemory)
	before := debug.SetMemoryLimit(-1)
	if before <= limit {
		return func() {}
	}
	debug.SetMemoryLimit(limit)
	return func() {
		if heapBytes() > runMemory/2 {
			// Or the heap would double from here, although the tier's data is unused now.
			runtime.GC()
		}
		debug.SetMemoryLimit(before)
	}
}

// heapBytes returns how much memory objects take. [runtime.ReadMemStats], which counts
// more, stops the program for as long as reading a small path takes.
func heapBytes() uint64 {
	now := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(now)
	return now[0].Value.Uint64()
}
