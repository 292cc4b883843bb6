package httpclient

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestDo(t *testing.T) {
	fault := errors.New("a fault")
	for _, test := range []struct {
		name  string
		tries int
		fail  []error // of the tries, in order; nil after these
		calls int
		took  time.Duration
		err   error
	}{
		{"once", 5, nil, 1, 0, nil},
		{"the second time", 5, []error{fault}, 2, time.Second, nil},
		{"pauses double, up to a limit", 6, []error{fault, fault, fault, fault, fault}, 6, (1 + 2 + 4 + 5 + 5) * time.Second, nil},
		{"as often as allowed", 3, []error{fault, fault, fault, fault}, 3, 3 * time.Second, fault},
		{"no number is one try", 0, []error{fault}, 1, 0, fault},
		{"a final error", 5, []error{fault, Final(fault)}, 2, time.Second, fault},
		{"a requested wait", 5, []error{Later(fault, 3*time.Second)}, 2, 3 * time.Second, nil},
		{"a requested wait that is too long", 5, []error{Later(fault, time.Hour)}, 2, 5 * time.Second, nil},
		{"a requested wait after the last try", 1, []error{Later(fault, time.Hour)}, 1, 0, fault},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls, begin := 0, time.Now()
				_, err := Do(t.Context(), Retry{test.tries, time.Second, 5 * time.Second}, func(n int) (int, error) {
					if n != calls {
						t.Errorf("try %d is the one of number %d", calls, n)
					}
					if calls++; n < len(test.fail) {
						return 0, test.fail[n]
					}
					return n, nil
				})
				if took := time.Since(begin); calls != test.calls || took != test.took || err != test.err { //nolint:errorlint // not wrapped
					t.Errorf("%d tries within %s: %v; want %d within %s: %v", calls, took, err, test.calls, test.took, test.err)
				}
			})
		})
	}
}

// A wait ends with its context, whose cause is the error.
func TestDoEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("too slow")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, cause)
		defer cancel()
		_, err := Do(ctx, Retry{Tries: 2, Pause: time.Hour, MaxPause: time.Hour}, func(int) (int, error) { return 0, errors.New("a fault") })
		if !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		status int
		header string
		want   time.Duration
		ok     bool
	}{
		{http.StatusTooManyRequests, "7", 7 * time.Second, true},
		{http.StatusServiceUnavailable, "0", 0, true},
		{http.StatusServiceUnavailable, "99999999999", 1 << 30 * time.Second, true},
		{http.StatusServiceUnavailable, "-1", 0, false},
		{http.StatusServiceUnavailable, "Sat, 01 Jan 2000 00:00:00 GMT", 0, true},
		{http.StatusServiceUnavailable, "soon", 0, false},
		{http.StatusOK, "7", 0, false},
	} {
		resp := &http.Response{StatusCode: test.status, Header: http.Header{"Retry-After": {test.header}}}
		if got, ok := RetryAfter(resp); got != test.want || ok != test.ok {
			t.Errorf("%d %q: %s, %v", test.status, test.header, got, ok)
		}
	}
}
