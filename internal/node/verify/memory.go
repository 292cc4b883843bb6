package verify

import (
	"runtime/debug"

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
		limit += 4 * nixstore.Cost(p)
	}
	if limit > runMemory+fewPaths {
		collectUsual()
	}
	before := debug.SetMemoryLimit(-1)
	if before <= limit {
		return func() {}
	}
	debug.SetMemoryLimit(limit)
	return func() { debug.SetMemoryLimit(before) }
}

// fewPaths is the share of a limit up to which late collection is harmless.
const fewPaths = 4 << 20

// collectUsual has Go's collector let the heap double at most, for the rest of the
// program.
func collectUsual() {
	const usual = 100
	if was := debug.SetGCPercent(usual); was >= 0 && was < usual {
		debug.SetGCPercent(was)
	}
}
