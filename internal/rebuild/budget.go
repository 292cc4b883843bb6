package rebuild

import (
	"sync"
	"time"
)

// budget is the time during which a run starts builds. A build that was started is not
// ended when the budget runs out: its work would be lost, and a build that takes longer
// than the budget would never finish. Evaluation and planning do not count, and one build
// is always started. So each run makes progress, and n runs with an n-th of the total
// time build everything.
//
// A derivation whose last rebuild differed is built again whatever the budget: otherwise
// a run could pass over what the previous run found.
//
// It is safe for concurrent use.
type budget struct {
	limit time.Duration // 0 is no bound
	begin time.Time

	mu    sync.Mutex
	begun int
	spent bool // a step was not allowed to begin
}

// end returns the time after which no step may start; zero if there is no limit.
func (b *budget) end() time.Time {
	if b.limit <= 0 {
		return time.Time{}
	}
	return b.begin.Add(b.limit)
}

// begins reports whether a step may start now, and counts it.
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
