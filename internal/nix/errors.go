package nix

import (
	"errors"
	"fmt"
	"strings"

	"every.channel/ec-verify/pkg/closure"
)

// ErrTimeout is wrapped where a run took longer than the Config allows. A
// deadline of the caller's context is context.DeadlineExceeded instead.
var ErrTimeout = errors.New("nix took too long")

// ExitError says that a nix program ended unsuccessfully.
type ExitError struct {
	// Args is the command line, the program's name first.
	Args []string
	// Code is the exit status, or -1 where a signal ended it. It does not tell
	// what went wrong.
	Code int
	// Signal is the name of the signal that ended it, or "".
	Signal string
	// Stderr is the end of what it printed, at most 64 KiB in lines free of
	// control characters.
	Stderr string
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != "" {
		how = e.Signal
	}
	if m := lastError(e.Stderr); m != "" {
		return fmt.Sprintf("%s: %s: %s", e.Args[0], how, m)
	}
	return fmt.Sprintf("%s: %s", e.Args[0], how)
}

// EvaluationError says that Nix could not evaluate a configuration: the source
// is at fault, or an input of it is not in the store.
type EvaluationError struct {
	Configuration string
	// Message is what Nix says, in one line without its place in the source.
	Message string
	// Exit holds the rest of what Nix said.
	Exit *ExitError
}

func (e *EvaluationError) Error() string {
	return fmt.Sprintf("evaluate configuration %q: %s", e.Configuration, e.Message)
}

func (e *EvaluationError) Unwrap() error { return e.Exit }

// BuildError says that Nix could not build a derivation.
type BuildError struct {
	// Derivation is what was asked for; what failed may be something that it
	// depends on, which Message then names.
	Derivation closure.StorePath
	// Message is what Nix says, in one line.
	Message string
	// Log is the end of the build logs, at most 64 KiB.
	Log  string
	Exit *ExitError
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("build %s: %s", e.Derivation, e.Message)
}

func (e *BuildError) Unwrap() error { return e.Exit }

// lastError returns the last error of Nix's output in one line: the one that
// its traces lead up to. It is "" where there is none.
func lastError(stderr string) string {
	lines := strings.Split(stderr, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		message, ok := strings.CutPrefix(strings.TrimSpace(lines[i]), "error:")
		if !ok {
			continue
		}
		// A message goes on until the place in the source or an empty line.
		words := []string{strings.TrimSpace(message)}
		for _, line := range lines[i+1:] {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "at ") || strings.HasPrefix(line, "…") {
				break
			}
			words = append(words, line)
		}
		if m := strings.TrimSpace(strings.Join(words, " ")); m != "" {
			return clip(m)
		}
	}
	return ""
}

func clip(s string) string {
	const limit = 600
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
