package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// The exit codes; ec-verify(1) and docs/operating.md say the same. 2 is left to
// the Go runtime, which crashes with it, and unknown codes are failures.
const (
	exitVerified     = 0
	exitDrifted      = 1
	exitUntrusted    = 3
	exitInconclusive = 4
	exitUsage        = 64
	exitConfig       = 78
	exitSignal       = 128 // plus the number of the signal
)

// exitCodes says what a verdict is to the caller.
var exitCodes = map[report.Verdict]int{
	report.Verified:  exitVerified,
	report.Drifted:   exitDrifted,
	report.Refused:   exitUntrusted,
	report.Unsettled: exitInconclusive,
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// configError is a configuration that makes no sense.
type configError struct{ error }

// verdictError is a run that ended with a verdict other than verified. The
// report has said everything.
type verdictError struct{ verdict report.Verdict }

func (e verdictError) Error() string { return e.verdict.String() }

// toldError ends a command that has said everything with an exit code.
type toldError struct{ code int }

func (e toldError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// interruption is a signal that ended the run.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string { return fmt.Sprintf("ended by signal: %s", i.signal) }

// exitCode says what went wrong, if anything that was not said yet, and
// returns the exit code of err.
func (a *app) exitCode(ctx context.Context, err error) int {
	var stopped interruption
	if err != nil && errors.As(context.Cause(ctx), &stopped) {
		a.complain(stopped)
		var kept *release.InterruptedError
		if errors.As(err, &kept) {
			a.complain(kept)
		}
		return exitSignal + int(stopped.signal)
	}
	var (
		verdict   verdictError
		usage     usageError
		config    configError
		untrusted *release.UntrustedError
		evidence  evidenceError
		told      toldError
	)
	switch {
	case err == nil:
		return exitVerified
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &verdict):
		if code, known := exitCodes[verdict.verdict]; known {
			return code
		}
		return exitInconclusive // a verdict that somebody forgot above is no success
	}
	a.complain(err)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &config):
		return exitConfig
	case errors.As(err, &untrusted), errors.As(err, &evidence):
		return exitUntrusted
	case isAltered(err):
		return exitDrifted
	}
	return exitInconclusive
}
