package verify

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"every.channel/ec-verify/pkg/nar"
)

// TestMemoryInUse: with more in use than the limit of the memory expects, the limit
// follows, or Go would collect what is unused after each allocation.
func TestMemoryInUse(t *testing.T) {
	const inUse = 2 * runMemory
	before := debug.SetMemoryLimit(-1)
	undo := limitMemory(nil, 1, nar.ReadCached)
	// reaches waits for a limit that a collection sets soon after its end.
	reaches := func(ok func(limit int64) bool) bool {
		for range 1000 {
			if runtime.GC(); ok(debug.SetMemoryLimit(-1)) {
				return true
			}
			time.Sleep(time.Millisecond)
		}
		return false
	}
	kept := make([]byte, inUse)
	if !reaches(func(limit int64) bool { return limit > inUse && limit < 2*inUse }) {
		t.Errorf("the limit is %d, with %d in use", debug.SetMemoryLimit(-1), inUse)
	}
	runtime.KeepAlive(kept)
	if !reaches(func(limit int64) bool { return limit < inUse }) {
		t.Errorf("the limit is %d, with next to nothing in use", debug.SetMemoryLimit(-1))
	}
	undo()
	runtime.GC()
	if now := debug.SetMemoryLimit(-1); now != before {
		t.Errorf("the limit is %d afterwards, and was %d", now, before)
	}
}

// TestMemoryOfWorkers: the limit leaves room for garbage beside the buffers of all workers.
// With --read disk these are 14 MiB and more.
func TestMemoryOfWorkers(t *testing.T) {
	for _, workers := range []int{1, diskWorkers, maxWorkers} {
		const buffers = 860 << 10 // of a [nar.Hasher] with ReadDisk
		if free := leastMemory(nil, workers, nar.ReadDisk) - int64(workers)*buffers; free < baseMemory {
			t.Errorf("%d workers: %d bytes beside the buffers", workers, free)
		}
	}
}
