package verify

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestMemoryInUse: with more in use than the limit of the memory expects, the limit
// follows, or Go would collect what is unused after each allocation.
func TestMemoryInUse(t *testing.T) {
	const inUse = 2 * runMemory
	before := debug.SetMemoryLimit(-1)
	undo := limitMemory(nil)
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
