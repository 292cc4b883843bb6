package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// TestExitCode is the table of docs/operating.md.
func TestExitCode(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(Interruption{syscall.SIGINT})
	terminated, cancel := context.WithCancelCause(t.Context())
	cancel(Interruption{syscall.SIGTERM})
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	untrusted := release.Untrusted(release.ReasonNotInSums, "test")
	other := errors.New("something else")
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
		says string // "" where the report has said everything
	}{
		{"nothing", t.Context(), nil, 0, ""},
		{"drifted", t.Context(), VerdictError(report.Drifted), 1, ""},
		{"untrusted", t.Context(), VerdictError(report.Refused), 3, ""},
		{"inconclusive", t.Context(), VerdictError(report.Unsettled), 4, ""},
		{"a verdict of no code", t.Context(), VerdictError(report.Verdict(0xff)), 4, ""},
		{"an untrusted release", t.Context(), fmt.Errorf("fetch: %w", untrusted), 3, "is not trusted"},
		{"usage", t.Context(), fmt.Errorf("parse: %w", UsageError(other)), 64, "something else"},
		{"configuration", t.Context(), ConfigError(other), 78, "something else"},
		{"another error", t.Context(), other, 4, "something else"},
		{"interrupted", interrupted, other, 130, "interrupt"},
		{"interrupted with a verdict", interrupted, VerdictError(report.Drifted), 130, "interrupt"},
		{"terminated", terminated, other, 143, "terminated"},
		{"interrupted when it was done", interrupted, nil, 0, ""},
		{"cancelled by nobody's signal", cancelled, other, 4, "something else"},
	} {
		var stderr bytes.Buffer
		got := New(nil, &stderr).ExitCode(tc.ctx, tc.err)
		if got != tc.want || !strings.Contains(stderr.String(), tc.says) || (tc.says == "") != (stderr.Len() == 0) {
			t.Errorf("%s: exit code %d and %q, want %d and %q", tc.name, got, stderr.String(), tc.want, tc.says)
		}
	}
}

// Each verdict has a code of its own, success is verified alone, and 2 is left
// to a program that crashes.
func TestExitCodesOfVerdicts(t *testing.T) {
	seen := map[int]report.Verdict{2: 0xff}
	for _, v := range []report.Verdict{report.Unsettled, report.Verified, report.Drifted, report.Refused} {
		code, ok := ExitCodes[v]
		if other, taken := seen[code]; !ok || taken {
			t.Errorf("%s has the exit code %d, %v, which is that of %d too", v, code, ok, other)
		}
		seen[code] = v
	}
	if len(ExitCodes) != len(seen)-1 || seen[0] != report.Verified {
		t.Errorf("the codes are %v", ExitCodes)
	}
}

func TestComplainInOneLine(t *testing.T) {
	var stderr bytes.Buffer
	New(nil, &stderr).Complain(errors.Join(errors.New("one\x1b[31m"), errors.New("two\u202e")))
	if got, want := stderr.String(), `ec-verify: one\x1b[31m\ntwo\u202e`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
