package release

import (
	"sync"
	"time"
)

// silence is a wait of which somebody is told when it has lasted for a while. The zero
// value is none.
type silence struct {
	mu    sync.Mutex // held while somebody is told
	over  bool
	timer *time.Timer
}

// watchSilence has say be called for what to tell whoever waits, unless the silence ends
// within the time that the source's timeouts have for it.
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

// end ends it. Nobody is told anything afterwards.
func (q *silence) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over = true; q.timer != nil {
		q.timer.Stop()
	}
}
