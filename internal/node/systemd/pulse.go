package systemd

import (
	"os"
	"sync"
	"time"
)

// pulseEvery is how often work is looked at: much less than a unit may take to
// give a sign of life, and seldom enough to cost nothing.
const pulseEvery = 2 * time.Second

// Sign is one look at work under way.
type Sign struct {
	// Status says in a line what is being done.
	Status string
	// Progress is what the work counts, and can be compared: where it is what it
	// was, the work has not come forward.
	Progress any
	// Allow is how long the work may take from here until it comes forward again.
	Allow time.Duration
	// Grace is how much longer it may take where it waits for what has a limit of
	// its own and counts nothing. That is given a little at a time, since what the
	// service manager was given it does not take back: a program that is stopped
	// meanwhile, or hangs afterwards, is found as soon as any.
	Grace time.Duration
}

// Pulse keeps the service manager informed of work under way, whose status
// look tells. As long as the work comes forward, it is given the time that it
// asks for; when it does not, no sign of life is sent, and the unit ends with
// its time. The returned function ends that, with a last status.
//
// Outside a unit it does nothing. That the service manager can't be told is no
// error of the work.
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

// pulse is what was told last.
type pulse struct {
	last  Sign
	begun bool
	// moved is when the work was seen to come forward, extended when more time was
	// asked for.
	moved, extended time.Time
}

// beat says what to tell of s: nothing where nothing is new, and no extension
// where only the words are.
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
