package nix

import (
	"errors"
	"fmt"
	"strings"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// ErrTimeout is wrapped if a run took longer than the Config allows. A deadline of
// the caller's context is context.DeadlineExceeded instead.
var ErrTimeout = errors.New("nix took too long")

// ExitError means that a nix program failed.
type ExitError struct {
	// Args is the command line, the program's name first.
	Args []string
	// Code is the exit status, or -1 if a signal ended it. It does not identify the
	// error.
	Code int
	// Signal is the name of the signal that ended it, or "".
	Signal string
	// Stderr is the end of its standard error, at most 64 KiB in lines free of
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

// EvaluationError means that Nix could not evaluate a configuration: the source is at
// fault, or one of its inputs is not in the store.
type EvaluationError struct {
	Configuration string
	// Message is Nix's message, in one line without the place in the source.
	Message string
	// Exit has the rest of Nix's output.
	Exit *ExitError
}

func (e *EvaluationError) Error() string {
	return fmt.Sprintf("evaluate configuration %q: %s", e.Configuration, e.Message)
}

func (e *EvaluationError) Unwrap() error { return e.Exit }

// readsOwn reports whether the configuration reads a path that it added to the store,
// such as a filtered source or a file of builtins.toFile, which Nix does not write in
// its read-only mode.
func (e *EvaluationError) readsOwn() bool {
	return strings.HasPrefix(e.Message, "path '") && strings.HasSuffix(e.Message, "' is not valid")
}

// BuildError means that Nix could not build a derivation.
type BuildError struct {
	// Derivation is the requested one; a dependency may be what failed, and Message
	// then names it.
	Derivation closure.StorePath
	// Message is Nix's message, in one line.
	Message string
	// Log is the end of the build logs, at most 64 KiB.
	Log  string
	Exit *ExitError
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("build %s: %s", e.Derivation, e.Message)
}

func (e *BuildError) Unwrap() error { return e.Exit }

// errorMessages returns the errors in Nix's output, each in one line, without places
// in the source and traces.
func errorMessages(stderr string) []string {
	var messages []string
	lines := strings.Split(stderr, "\n")
	for i, line := range lines {
		first, ok := strings.CutPrefix(strings.TrimSpace(line), "error:")
		if !ok {
			continue
		}
		words := []string{strings.TrimSpace(first)}
		for _, line := range lines[i+1:] {
			line = strings.TrimSpace(line)
			if endsMessage(line) {
				break
			}
			words = append(words, line)
		}
		if m := strings.TrimSpace(strings.Join(words, " ")); m != "" {
			messages = append(messages, clip(m))
		}
	}
	return messages
}

// endsMessage reports whether line follows a message: a place in the source, a trace,
// a list, or the next message.
func endsMessage(line string) bool {
	if line == "" || line == "Output paths:" {
		return true
	}
	for _, prefix := range []string{"at ", "…", "error:", "warning:", "note:", "(stack trace truncated"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// lastError returns the last error in Nix's output, which ends the traces of an
// evaluation, or "".
func lastError(stderr string) string {
	messages := errorMessages(stderr)
	if len(messages) == 0 {
		return ""
	}
	return messages[len(messages)-1]
}

// firstError returns the first error in Nix's output, or "". For a build it is the
// cause; dependent failures follow.
func firstError(stderr string) string {
	if messages := errorMessages(stderr); len(messages) > 0 {
		return messages[0]
	}
	return ""
}

func clip(s string) string { return excerpt.Of(s, 600) }
