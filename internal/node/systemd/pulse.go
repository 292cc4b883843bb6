package systemd

import (
	"os"
	"sync"
	"time"
)

// pulseEvery is how often progress is checked: much more often than a unit must give a
// sign of life, and rarely enough to cost nothing.
const pulseEvery = 2 * time.Second

// Sign is a snapshot of work in progress.
type Sign struct {
	// Status says in a line what is being done.
	Status string
	// Progress is a comparable count of the work done: if it is unchanged, there was no
	// progress.
	Progress any
	// Allow is how long the work may take until its next progress.
	Allow time.Duration
	// Grace is how much longer it may take while it waits for something with a limit of
	// its own that counts nothing. It is granted in small steps, because the service
	// manager takes no time back: a program that is stopped, or hangs afterwards, is
	// found as soon as any other.
	Grace time.Duration
}

// Pulse keeps the service manager informed of work in progress, which look describes.
// While the work makes progress, it asks for the time that the work needs; otherwise it
// sends no sign of life, and the unit ends when its time is up. The returned function
// ends this, with a last status.
//
// Outside a unit it does nothing. Failing to reach the service manager is not an error.
func Pulse(look func() Sign) (stop func(status string)) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return func(string) {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(pulseEvery)
		defer ticker.Stop()
		for p := new(pulse); ; {
			if status, extend, news := p.beat(look(), time.Now()); news {
				_, _ = Notify(status, extend)
			}
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	return func(status string) {
		close(done)
		wg.Wait()
		_, _ = Notify(status, 0)
	}
}

// pulse is the state of what was last sent.
type pulse struct {
	last  Sign
	begun bool
	// moved is when progress was last seen, extended when more time was last asked for.
	moved, extended time.Time
}

// beat returns what to send for s: nothing if nothing is new, and no extension if only
// the status is.
func (p *pulse) beat(s Sign, now time.Time) (status string, extend time.Duration, news bool) {
	news = !p.begun || s.Status != p.last.Status
	if !p.begun || s.Progress != p.last.Progress {
		p.moved, extend = now, s.Allow
	} else if now.Sub(p.moved) < s.Grace && now.Sub(p.extended) >= s.Allow/3 {
		extend = s.Allow
	}
	if extend > 0 {
		p.extended = now
	}
	p.last, p.begun = s, true
	return s.Status, extend, news || extend > 0
}
