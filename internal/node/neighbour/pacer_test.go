package neighbour

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// machine stands for the kernel: others wait for a processor all the time while
// busy is set, and so does each worker that is in a read.
type machine struct {
	mu      sync.Mutex
	busy    bool
	reading int
	broken  error
	since   time.Time
	total   time.Duration
}

func newMachine() *machine { return &machine{since: time.Now()} }

// change brings the total up to now and lets what makes it grow change.
func (m *machine) change(how func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); m.busy || m.reading > 0 {
		m.total += now.Sub(m.since)
		m.since = now
	} else {
		m.since = now
	}
	how()
}

func (m *machine) stalls() (s Stalls, err error) {
	m.change(func() { s, err = Stalls{CPU: m.total}, m.broken })
	return s, err
}

func (m *machine) setBusy(busy bool) { m.change(func() { m.busy = busy }) }

// work reads as a worker does, a piece in 10 ms, until stop.
func (m *machine) work(ctx context.Context, p *Pacer, pieces *atomic.Int64) error {
	pace, leave := p.Join()
	defer leave()
	for ctx.Err() == nil {
		if err := pace(ctx, 128<<10); err != nil {
			return err
		}
		m.change(func() { m.reading++ })
		time.Sleep(10 * time.Millisecond)
		m.change(func() { m.reading-- })
		pieces.Add(1)
	}
	return ctx.Err()
}

// start has four workers read for ever, and returns how many pieces they read
// and what ends them.
func (m *machine) start(t *testing.T, p *Pacer) (pieces *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	pieces = new(atomic.Int64)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := m.work(ctx, p, pieces); !errors.Is(err, context.Canceled) {
				t.Errorf("a worker ends with %v", err)
			}
		})
	}
	return pieces, func() { cancel(); wg.Wait() }
}

func TestNilPacer(t *testing.T) {
	p := New(Limits{}, nil)
	if p != nil {
		t.Fatal("a Pacer for no limits")
	}
	pace, leave := p.Join()
	leave()
	if pace != nil || p.Rest(t.Context(), time.Time{}) != nil || p.Held() != (Held{}) {
		t.Error("a nil Pacer does something")
	}
}

// The pressure that the workers cause themselves delays nothing.
func TestOwnPressureIsNoReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		pieces, stop := m.start(t, p)
		time.Sleep(time.Minute)
		stop()
		if h := p.Held(); h != (Held{}) {
			t.Errorf("held up: %+v", h)
		}
		// 4 workers, 100 pieces a second each, but for the looks: a tenth.
		if n := pieces.Load(); n < 20_000 {
			t.Errorf("%d pieces of 24,000 in a minute", n)
		}
	})
}

func TestPauseWhileOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		pieces, stop := m.start(t, p)
		time.Sleep(10 * time.Second)
		m.setBusy(true)
		time.Sleep(lookEvery + time.Second)
		before := pieces.Load()
		time.Sleep(5 * time.Minute)
		if n := pieces.Load() - before; n != 0 {
			t.Errorf("%d pieces are read while others wait", n)
		}
		if h := p.Held(); h.Paused < 4*time.Minute || h.UsedUp || h.Last != "cpu 100 %, io 0 %" {
			t.Errorf("in the pause: %+v", h)
		}
		m.setBusy(false)
		time.Sleep(10 * time.Second)
		if pieces.Load() == before {
			t.Error("nothing is read after the pause")
		}
		stop()
	})
}

// A run that never gets a quiet moment ends nevertheless, at the floor rate.
func TestPausesAreUsedUp(t *testing.T) {
	for name, tc := range map[string]struct{ rate, want int64 }{
		"no rate":        {0, FloorRate},
		"a faster rate":  {100 << 20, FloorRate},
		"a slower rate":  {MinRate, MinRate},
		"the floor rate": {FloorRate, FloorRate},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine()
				m.setBusy(true)
				p := New(Limits{Rate: tc.rate, MaxPressure: 20, MaxPause: 10 * time.Minute}, m.stalls)
				pieces, stop := m.start(t, p)
				time.Sleep(11 * time.Minute)
				if h := p.Held(); !h.UsedUp || h.Paused < 10*time.Minute || h.Paused > 10*time.Minute+2*pauseFor {
					t.Errorf("after 11 minutes: %+v", h)
				}
				before := pieces.Load()
				time.Sleep(time.Minute)
				got, want := (pieces.Load()-before)*(128<<10), tc.want*60
				if got < want*99/100-1<<20 || got > want*101/100+1<<20 {
					t.Errorf("%d bytes in a minute, want %d", got, want)
				}
				stop()
			})
		})
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		p := New(Limits{Rate: 10 << 20}, func() (Stalls, error) { return Stalls{}, errors.New("asked for the pressure") })
		pieces, stop := m.start(t, p)
		time.Sleep(time.Minute)
		stop()
		if got, want := pieces.Load()*(128<<10), int64(60*10<<20); got < want*99/100 || got > want*101/100 {
			t.Errorf("%d bytes in a minute, want %d", got, want)
		}
		if h := p.Held(); h != (Held{}) {
			t.Errorf("held: %+v", h)
		}
	})
}

// One piece larger than all that may be read at once passes nevertheless.
func TestRateLargePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Rate: MinRate}, nil)
		pace, leave := p.Join()
		defer leave()
		start := time.Now()
		for range 4 {
			if err := pace(t.Context(), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("4 MiB at 1 MiB/s took %v", took)
		}
	})
}

// If the pressure is unknown, nothing is delayed, and it is not read again.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.broken = errors.New("no such file")
		asked := 0
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, func() (Stalls, error) { asked++; return m.stalls() })
		pieces, stop := m.start(t, p)
		time.Sleep(time.Minute)
		stop()
		if h := p.Held(); h.Blind == nil || h.Paused != 0 {
			t.Errorf("held: %+v", h)
		}
		if asked != 1 || pieces.Load() < 23_000 {
			t.Errorf("asked %d times, %d pieces read", asked, pieces.Load())
		}
	})
}

// The same if it is lost in the middle of a pause.
func TestBlindLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.setBusy(true)
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		pieces, stop := m.start(t, p)
		time.Sleep(30 * time.Second)
		m.change(func() { m.broken = errors.New("gone") })
		before := pieces.Load()
		time.Sleep(10 * time.Second)
		stop()
		if h := p.Held(); h.Blind == nil || pieces.Load() == before {
			t.Errorf("held: %+v, %d pieces read", h, pieces.Load()-before)
		}
	})
}

// A pause ends with the run.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.setBusy(true)
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		_, stop := m.start(t, p)
		time.Sleep(time.Minute)
		before := time.Now()
		stop()
		if d := time.Since(before); d > 0 {
			t.Errorf("the workers end %v after the run", d)
		}
	})
}

// A step that cannot be held up waits until others have what they need.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		m.setBusy(true)
		time.AfterFunc(90*time.Second, func() { m.setBusy(false) })
		time.Sleep(lookEvery)
		start := time.Now()
		if err := p.Rest(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 80*time.Second || took > 100*time.Second {
			t.Errorf("it waits for %v, others are busy for 88 s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m.setBusy(true)
		time.Sleep(time.Minute)
		if err := p.Rest(ctx, time.Time{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Rest of an ended run = %v", err)
		}
	})
}

// Pauses are a part of the time that somebody gave for work: they end with it,
// and what is under way is finished at the floor rate.
func TestPausesEndWithTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.setBusy(true)
		p := New(Limits{MaxPressure: 20, MaxPause: time.Hour}, m.stalls)
		p.PauseUntil(time.Now().Add(5 * time.Minute))
		pieces, stop := m.start(t, p)
		time.Sleep(6 * time.Minute)
		if h := p.Held(); !h.OutOfTime || h.UsedUp || h.Paused < 4*time.Minute || h.Paused > 5*time.Minute+2*pauseFor {
			t.Errorf("after six minutes: %+v", h)
		}
		before := pieces.Load()
		time.Sleep(time.Minute)
		if got, want := (pieces.Load()-before)*128<<10, int64(60*FloorRate); got < want*9/10 || got > want*11/10 {
			t.Errorf("then %d bytes are read in a minute, want %d", got, want)
		}
		// What comes after that time may pause again, with what is left.
		p.PauseUntil(time.Time{})
		time.Sleep(lookEvery + time.Second)
		before = pieces.Load()
		time.Sleep(10 * time.Minute)
		if n := pieces.Load() - before; n != 0 {
			t.Errorf("%d pieces are read in a pause", n)
		}
		stop()
		begin := time.Now()
		if err := p.Rest(t.Context(), begin.Add(time.Minute)); err != nil || time.Since(begin) > time.Minute+2*pauseFor {
			t.Errorf("a rest of a minute takes %v: %v", time.Since(begin), err)
		}
		begin = time.Now()
		if err := p.Rest(t.Context(), begin); err != nil || time.Since(begin) > 0 {
			t.Errorf("a rest of no time takes %v: %v", time.Since(begin), err)
		}
	})
}
