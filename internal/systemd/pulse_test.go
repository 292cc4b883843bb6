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
	for n, step := range []struct {
		sign   Sign
		extend time.Duration
		news   bool
	}{
		{Sign{"release", counters{}, time.Minute}, time.Minute, true},
		{Sign{"release", counters{}, time.Minute}, 0, false},
		{Sign{"eval", counters{tier: 1}, time.Hour}, time.Hour, true},
		{Sign{"eval", counters{tier: 1}, time.Hour}, 0, false},
		{Sign{"contents", counters{2, 10}, time.Minute}, time.Minute, true},
		{Sign{"contents", counters{2, 20}, time.Minute}, time.Minute, true},
		// Other words alone are no progress: whoever words them may count seconds.
		{Sign{"contents, still", counters{2, 20}, time.Minute}, 0, true},
		{Sign{"contents, still", counters{2, 20}, time.Minute}, 0, false},
	} {
		status, extend, news := p.beat(step.sign)
		if status != step.sign.Status || extend != step.extend || news != step.news {
			t.Errorf("step %d: beat = %q, %s, %t; want %q, %s, %t", n, status, extend, news, step.sign.Status, step.extend, step.news)
		}
	}
}

func TestPulse(t *testing.T) {
	read := manager(t)
	stop := Pulse(func() Sign { return Sign{"working", 1, time.Second} })
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
