package terminal

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

// usageError is a command line that makes no sense.
type usageError struct{ error }

// configError is a configuration that makes no sense.
type configError struct{ error }

// verdictError is a run that ended with a verdict other than verified. The
// report has said everything.
type verdictError struct{ verdict report.Verdict }

func (e verdictError) Error() string { return e.verdict.String() }

// reportedError ends a command that has already reported everything, with an exit code.
type reportedError struct{ code int }

func (e reportedError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// Interruption is a signal that ended the run.
type Interruption struct{ Signal syscall.Signal }

func (i Interruption) Error() string { return fmt.Sprintf("ended by signal: %s", i.Signal) }

// ExitCode reports err, unless it was reported before, and returns its exit code.
func (t *Terminal) ExitCode(ctx context.Context, err error) int {
	var stopped Interruption
	if err != nil && errors.As(context.Cause(ctx), &stopped) {
		t.Complain(stopped)
		var kept *release.InterruptedError
		if errors.As(err, &kept) {
			t.Complain(kept)
		}
		return ExitSignal + int(stopped.Signal)
	}
	var (
		verdict   verdictError
		usage     usageError
		config    configError
		untrusted *release.UntrustedError
		evidence  evidenceError
		drift     driftError
		told      reportedError
	)
	switch {
	case err == nil:
		return ExitVerified
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &verdict):
		if code, known := ExitCodes[verdict.verdict]; known {
			return code
		}
		return ExitInconclusive // a verdict that somebody forgot above is no success
	}
	t.Complain(err)
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &config):
		return ExitConfig
	case errors.As(err, &untrusted), errors.As(err, &evidence):
		return ExitUntrusted
	case errors.As(err, &drift):
		return ExitDrifted
	}
	return ExitInconclusive
}

// evidenceError means that a signed report, or a chain of them, is not valid. The message
// has already named it.
type evidenceError struct{ error }

// driftError is a difference from a release that is in no report.
type driftError struct{ error }

// UsageError returns err as the error of an invalid command line.
func UsageError(err error) error { return usageError{err} }

// UsageErrorf is UsageError with a message in the form of [fmt.Errorf].
func UsageErrorf(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// ConfigError returns err as the error of an invalid configuration.
func ConfigError(err error) error { return configError{err} }

// ConfigErrorf is ConfigError with a message in the form of [fmt.Errorf].
func ConfigErrorf(format string, args ...any) error { return configError{fmt.Errorf(format, args...)} }

// IsConfigError reports whether ConfigError made err, or one that err wraps.
func IsConfigError(err error) bool { return errors.As(err, new(configError)) }

// VerdictError returns the error that ends a command after its report; nil for
// [report.Verified].
func VerdictError(v report.Verdict) error {
	if v == report.Verified {
		return nil
	}
	return verdictError{v}
}

// ReportedError returns the error of a command that has already reported everything and ends
// with an exit code.
func ReportedError(code int) error { return reportedError{code} }

// EvidenceErrorf returns what [fmt.Errorf] makes as the error of a signed report, or of several, which are not
// valid: the exit code is [ExitUntrusted].
func EvidenceErrorf(format string, args ...any) error {
	return evidenceError{fmt.Errorf(format, args...)}
}

// DriftError returns err as a difference from a release: the exit code is [ExitDrifted].
func DriftError(err error) error { return driftError{err} }
