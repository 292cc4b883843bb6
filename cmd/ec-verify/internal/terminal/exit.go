package terminal

import (
	"cmp"
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
	ExitVerified     = 0
	ExitDrifted      = 1
	ExitUntrusted    = 3
	ExitInconclusive = 4
	ExitUsage        = 64
	ExitConfig       = 78
	ExitSignal       = 128 // plus the number of the signal
)

// ExitCodes are the exit codes for verdicts.
var ExitCodes = map[report.Verdict]int{
	report.Verified:  ExitVerified,
	report.Drifted:   ExitDrifted,
	report.Refused:   ExitUntrusted,
	report.Unsettled: ExitInconclusive,
}

// exitError ends a command with an exit code. It does not unwrap: that code counts, whatever
// the cause is.
type exitError struct {
	error
	code     int
	reported bool // the error is not printed, because the command has said everything
}

// Interruption is a signal that ended the run.
type Interruption struct{ Signal syscall.Signal }

func (i Interruption) Error() string { return fmt.Sprintf("ended by signal: %s", i.Signal) }

// ExitCode reports err, unless it was reported before, and returns its exit code.
func (t *Terminal) ExitCode(ctx context.Context, err error) int {
	var stopped Interruption
	if err != nil && errors.As(context.Cause(ctx), &stopped) {
		t.Complain(stopped)
		if kept, ok := errors.AsType[*release.InterruptedError](err); ok {
			t.Complain(kept)
		}
		return ExitSignal + int(stopped.Signal)
	}
	own, ok := errors.AsType[exitError](err)
	if err != nil && !own.reported {
		t.Complain(err)
	}
	switch {
	case err == nil:
		return ExitVerified
	case ok:
		return own.code
	case errors.As(err, new(*release.UntrustedError)):
		return ExitUntrusted
	}
	return ExitInconclusive
}

// UsageError returns err as the error of an invalid command line.
func UsageError(err error) error { return exitError{error: err, code: ExitUsage} }

// UsageErrorf is UsageError with a message in the form of [fmt.Errorf].
func UsageErrorf(format string, args ...any) error { return UsageError(fmt.Errorf(format, args...)) }

// ConfigError returns err as the error of an invalid configuration.
func ConfigError(err error) error { return exitError{error: err, code: ExitConfig} }

// ConfigErrorf is ConfigError with a message in the form of [fmt.Errorf].
func ConfigErrorf(format string, args ...any) error { return ConfigError(fmt.Errorf(format, args...)) }

// IsConfigError reports whether ConfigError made err, or one that err wraps.
func IsConfigError(err error) bool {
	own, ok := errors.AsType[exitError](err)
	return ok && own.code == ExitConfig
}

// VerdictError returns the error that ends a command after its report; nil for
// [report.Verified].
func VerdictError(v report.Verdict) error {
	if v == report.Verified {
		return nil
	}
	// A verdict without a code is no success.
	return ReportedError(cmp.Or(ExitCodes[v], ExitInconclusive))
}

// ReportedError returns the error of a command that has already reported everything and ends
// with an exit code.
func ReportedError(code int) error {
	return exitError{error: silent(code), code: code, reported: true}
}

// silent is an exit code without a message; equal ones are the same error.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

// EvidenceErrorf returns the error of [fmt.Errorf] for signed reports that are not valid.
// The exit code is [ExitUntrusted].
func EvidenceErrorf(format string, args ...any) error {
	return exitError{error: fmt.Errorf(format, args...), code: ExitUntrusted}
}

// DriftError returns err as a difference from a release: the exit code is [ExitDrifted].
func DriftError(err error) error { return exitError{error: err, code: ExitDrifted} }
