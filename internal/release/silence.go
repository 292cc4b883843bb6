package release

import (
	"sync"
	"time"
)

// silence reports a wait that has lasted for a while. The zero value does nothing.
type silence struct {
	mu    sync.Mutex // held during a report
	over  bool
	timer *time.Timer
}

// watchSilence reports say's text to whoever waits, unless the silence ends within the
// time that the source's timeouts allow.
func (s *HTTPSource) watchSilence(say func() string) *silence {
	q := new(silence)
	if s.notice == nil || s.timeouts.Quiet <= 0 {
		return q
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.timer = time.AfterFunc(s.timeouts.Quiet, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !q.over {
			s.notice(say())
		}
	})
	return q
}

// end ends it; nothing is reported afterwards.
func (q *silence) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over = true; q.timer != nil {
		q.timer.Stop()
	}
}
