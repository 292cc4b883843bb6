package rebuild

import (
	"sync"
	"time"
)

// budget is the time in which a run begins builds. What was begun is not ended
// for it: then the work would be lost, and a build that takes longer than the
// budget would never be done. Evaluating and planning don't count, and one build
// is begun in any case: so each run gets on, and n runs with an n-th of the time
// that everything takes build everything.
//
// What came out otherwise the last time is built again whatever the budget: else
// a run could pass over what the one before found.
//
// It is safe for concurrent use.
type budget struct {
	limit time.Duration // 0 is no bound
	begin time.Time

	mu    sync.Mutex
	begun int
	spent bool // a step was not allowed to begin
}

// end returns when no further step may begin; zero where there is no bound.
func (b *budget) end() time.Time {
	if b.limit <= 0 {
		return time.Time{}
	}
	return b.begin.Add(b.limit)
}

// begins reports whether a step may begin now, and counts it.
func (b *budget) begins(step *Step) bool {
	if b.limit <= 0 || step.Last.Drifted {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun > 0 && time.Since(b.begin) >= b.limit {
		b.spent = true
		return false
	}
	b.begun++
	return true
}
