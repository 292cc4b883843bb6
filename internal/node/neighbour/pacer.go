package neighbour

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// FloorRate is how fast, in bytes per second, all workers together read once a run
	// has used up its pauses: slow enough to be tolerable, fast enough to read 10 GB in
	// 20 minutes.
	FloorRate = 8 << 20

	// MinRate is the lowest rate to which a run can be limited.
	MinRate = 1 << 20

	// burst is how many bytes may be read at once after a time without reading. It is the
	// largest amount of one request.
	burst = 256 << 10

	lookEvery   = 2 * time.Second        // between readings of the pressure
	stillFor    = 200 * time.Millisecond // how long a reading of the others' pressure takes
	pauseFor    = time.Second            // how long a pause takes until the next look
	stillWithin = time.Second            // to wait for workers that are in a read
	stillPoll   = 5 * time.Millisecond
)

// Limits says what a run may take. The zero value means no limit.
type Limits struct {
	// Rate is how many bytes of file contents are read per second; 0 for no limit.
	Rate int64
	// MaxPressure is the share of time, in percent, for which other programs may wait
	// before the run pauses; 0 means that it never pauses.
	MaxPressure float64
	// MaxPause limits the total time of a run's pauses.
	MaxPause time.Duration
}

// Held says what a [Pacer] did. The zero value means nothing.
type Held struct {
	// Paused is how long the run was paused.
	Paused time.Duration
	// Last is the pressure that caused the last pause.
	Last string
	// UsedUp means that the pauses were used up, and the rest was read at FloorRate at
	// most.
	UsedUp bool
	// OutOfTime means the same for pauses that [Pacer.PauseUntil] ended.
	OutOfTime bool
	// Blind is why the pressure is unknown; nil if it is known.
	Blind error
}

// Pacer paces the workers of one run. A nil Pacer delays nobody. Its methods are safe for
// concurrent use.
type Pacer struct {
	limits Limits
	stalls func() (Stalls, error)

	limiter *rate.Limiter // nil for no rate
	floor   *rate.Limiter // once there are no more pauses; nil where limiter is no faster

	mu      sync.Mutex
	held    Held
	until   time.Time     // when pauses end; zero for no such time
	over    bool          // until has passed
	last    reading       // after the last look
	workers int           // joined and not left
	resting int           // of these, held up here
	looking chan struct{} // closed at the end of the look under way; nil for none
}

// New returns a Pacer; nil if there are no limits. stalls returns those of the machine,
// see [ReadStalls].
func New(l Limits, stalls func() (Stalls, error)) *Pacer {
	if l.Rate <= 0 && l.MaxPressure <= 0 {
		return nil
	}
	p := &Pacer{limits: l, stalls: stalls}
	if l.Rate > 0 {
		p.limiter = rate.NewLimiter(rate.Limit(l.Rate), burst)
	}
	if l.Rate <= 0 || l.Rate > FloorRate {
		p.floor = rate.NewLimiter(FloorRate, burst)
	}
	if l.MaxPressure > 0 {
		p.last, _ = p.read()
	}
	return p
}

// Held returns what was done so far.
func (p *Pacer) Held() Held {
	if p == nil {
		return Held{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// Join adds a worker, which must call pace before each read of at most 256 KiB, and leave
// after the last one; pace is nil if there are no limits. An error of pace is that of its
// context.
func (p *Pacer) Join() (pace func(ctx context.Context, n int) error, leave func()) {
	if p == nil {
		return nil, func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers++
	return p.pace, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.workers--
	})
}

// PauseUntil ends all pauses at t, whatever is left of them: a time budget for work must
// not be spent on waiting and then be exceeded. After t, reads are limited to FloorRate.
// The zero time removes the limit.
func (p *Pacer) PauseUntil(t time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.Equal(p.until) {
		p.until, p.over = t, false
	}
}

// Rest waits, before a step that can't be paused, until the pressure of others is low, or
// until the given time; the zero time is no limit. Its error is that of ctx.
func (p *Pacer) Rest(ctx context.Context, until time.Time) error {
	if p == nil || !until.IsZero() && !time.Now().Before(until) {
		return ctx.Err()
	}
	p.PauseUntil(until)
	pace, leave := p.Join()
	defer leave()
	return pace(ctx, 0)
}

func (p *Pacer) pace(ctx context.Context, n int) error {
	if err := p.yield(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	limiter := p.limiter
	if (p.held.UsedUp || p.over) && p.floor != nil {
		limiter = p.floor
	}
	p.mu.Unlock()
	if limiter == nil || n <= 0 {
		return nil
	}
	for ; n > 0; n -= burst {
		r := limiter.ReserveN(time.Now(), min(n, burst))
		if err := sleep(ctx, r.Delay()); err != nil {
			r.Cancel()
			return err
		}
	}
	return nil
}

// yield waits for the current check of the pressure, or makes one when it is due.
func (p *Pacer) yield(ctx context.Context) error {
	if p.limits.MaxPressure <= 0 {
		return nil
	}
	p.mu.Lock()
	p.resting++
	defer func() { p.resting--; p.mu.Unlock() }()
	for p.looking != nil {
		over := p.looking
		p.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if p.held.UsedUp || p.over || p.held.Blind != nil || time.Since(p.last.at) < lookEvery {
		return nil
	}
	now, ok := p.read()
	everybody := between(p.last, now)
	p.last = now
	if !ok || !everybody.above(p.limits.MaxPressure) {
		return nil
	}
	over := make(chan struct{})
	p.looking = over
	p.mu.Unlock()
	err := p.holdStill(ctx)
	p.mu.Lock()
	p.last, _ = p.read()
	p.looking = nil
	close(over)
	return err
}

// holdStill stops all workers until the pressure of others is low or the pauses are used
// up. Its error is that of ctx.
func (p *Pacer) holdStill(ctx context.Context) error {
	for wait := time.Duration(0); wait < stillWithin && !p.allRest(); wait += stillPoll {
		if err := sleep(ctx, stillPoll); err != nil {
			return err
		}
	}
	for window := stillFor; ; window = pauseFor {
		p.mu.Lock()
		before, known := p.read()
		p.mu.Unlock()
		if err := sleep(ctx, window); err != nil || !known {
			return err
		}
		if !p.pauseOn(before) {
			return nil
		}
	}
}

// pauseOn reports whether the pause that started with the reading before must continue.
func (p *Pacer) pauseOn(before reading) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	after, known := p.read()
	others := between(before, after)
	if !known || !others.above(p.limits.MaxPressure) {
		return false
	}
	p.held.Paused += after.at.Sub(before.at)
	p.held.Last = others.String()
	switch {
	case p.held.Paused >= p.limits.MaxPause:
		p.held.UsedUp = true
	case !p.until.IsZero() && !after.at.Before(p.until):
		p.over, p.held.OutOfTime = true, true
	default:
		return true
	}
	return false
}

func (p *Pacer) allRest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resting >= p.workers
}

// read takes a reading; a failure is noted once. The caller holds p.mu, or is the only
// user of p.
func (p *Pacer) read() (reading, bool) {
	s, err := p.stalls()
	if err != nil {
		p.held.Blind = err
		return reading{at: time.Now()}, false
	}
	return reading{s, time.Now()}, true
}

// sleep waits for d, or returns the error of ctx when that ends before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
