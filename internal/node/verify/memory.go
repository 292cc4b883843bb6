package verify

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// runMemory is how much memory the contents tier has Go use in bytes, without what
// the manifests take. A run on an honest machine takes less.
const runMemory = 24 << 20

// limitMemory limits Go's heap to little more than the manifests' data on paths takes,
// because garbage would otherwise pile up with a hostile store. The returned function
// removes the limit. A lower limit that was set before stays.
func limitMemory(paths []closure.PathInfo) (undo func()) {
	limit := int64(runMemory)
	for _, p := range paths {
		limit += nixstore.Cost(p)
	}
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
