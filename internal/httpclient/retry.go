package httpclient

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Retry limits how often something is tried. The zero value tries once.
type Retry struct {
	// Tries is how often it is tried in all.
	Tries int
	// Pause is the wait after the first failed try. It doubles with each, up to
	// MaxPause, which also limits a wait that a server requests.
	Pause, MaxPause time.Duration
}

// After returns the wait after the failed try n, counted from 0.
func (r Retry) After(n int) time.Duration {
	pause := min(r.Pause, r.MaxPause)
	for range n {
		if pause = min(2*pause, r.MaxPause); pause == r.MaxPause {
			break
		}
	}
	return pause
}

// Do calls try until it succeeds, fails with a [Final] error, or was called often
// enough. The number of the try counts from 0. Do returns what the last try returned; if
// ctx ends during a wait, the error is its cause.
func Do[T any](ctx context.Context, r Retry, try func(n int) (T, error)) (T, error) {
	for n := 0; ; n++ {
		out, err := try(n)
		var f *failure
		errors.As(err, &f)
		if f != nil {
			err = f.error
		}
		if err == nil || f != nil && f.final || n+1 >= r.Tries {
			return out, err
		}
		wait := r.After(n)
		if f != nil {
			wait = min(f.wait, r.MaxPause)
		}
		select {
		case <-ctx.Done():
			return out, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// failure is the error of a try, with what follows from it.
type failure struct {
	error
	final bool
	wait  time.Duration
}

func (f *failure) Unwrap() error { return f.error }

// Final returns err as one that another try would not change.
func Final(err error) error { return &failure{error: err, final: true} }

// Later returns err with the time to wait before the next try.
func Later(err error, wait time.Duration) error { return &failure{error: err, wait: wait} }

// RetryAfter returns the wait that a server requests with a status of 429 or 503, in
// either form of the header.
func RetryAfter(resp *http.Response) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	s := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return time.Duration(min(n, 1<<30)) * time.Second, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t)), true
	}
	return 0, false
}
