package systemd

import (
	"testing"
	"time"
)

// TestBeat: a sign of life is given when the counters move, and never when they
// don't.
func TestBeat(t *testing.T) {
	type counters struct{ tier, bytes int }
	var p pulse
	now := time.Now()
	for n, step := range []struct {
		after  time.Duration
		sign   Sign
		extend time.Duration
		news   bool
	}{
		{0, Sign{"release", counters{}, time.Minute, 0}, time.Minute, true},
		{time.Second, Sign{"release", counters{}, time.Minute, 0}, 0, false},
		{time.Hour, Sign{"release", counters{}, time.Minute, 0}, 0, false},
		// What counts nothing and has a limit is given time as it goes, as much as
		// it has in all, and never much at once.
		{0, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, time.Minute, true},
		{2 * time.Second, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, 0, false},
		{18 * time.Second, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, time.Minute, true},
		{2 * time.Second, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, 0, false},
		{59 * time.Minute, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, time.Minute, true},
		{time.Minute, Sign{"eval", counters{tier: 1}, time.Minute, time.Hour}, 0, false},
		{0, Sign{"contents", counters{2, 10}, time.Minute, 0}, time.Minute, true},
		{0, Sign{"contents", counters{2, 20}, time.Minute, 0}, time.Minute, true},
		// Other words alone are no progress: whoever words them may count seconds.
		{0, Sign{"contents, still", counters{2, 20}, time.Minute, 0}, 0, true},
		{0, Sign{"contents, still", counters{2, 20}, time.Minute, 0}, 0, false},
	} {
		now = now.Add(step.after)
		status, extend, news := p.beat(step.sign, now)
		if status != step.sign.Status || extend != step.extend || news != step.news {
			t.Errorf("step %d: beat = %q, %s, %t; want %q, %s, %t", n, status, extend, news, step.sign.Status, step.extend, step.news)
		}
	}
}

func TestPulse(t *testing.T) {
	read := manager(t)
	stop := Pulse(func() Sign { return Sign{"working", 1, time.Second, 0} })
	if got, want := read(), "STATUS=working\nEXTEND_TIMEOUT_USEC=1000000"; got != want {
		t.Errorf("at the begin the manager heard %q, want %q", got, want)
	}
	stop("done")
	if got, want := read(), "STATUS=done"; got != want {
		t.Errorf("at the end the manager heard %q, want %q", got, want)
	}
}

func TestPulseNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	Pulse(func() Sign { t.Error("looked at for nobody"); return Sign{} })("done")
}
