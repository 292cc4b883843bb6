package nix

import (
	"errors"
	"fmt"
	"strings"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
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

// readsOwn reports whether the configuration reads what it copied into the store
// before, as a filtered source or a file of builtins.toFile, which Nix does not
// write in its read-only mode.
func (e *EvaluationError) readsOwn() bool {
	return strings.HasPrefix(e.Message, "path '") && strings.HasSuffix(e.Message, "' is not valid")
}

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

// errorMessages returns the errors of Nix's output, each in one line, without
// their places in the source and traces.
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

// endsMessage reports whether line is what follows a message: a place in the
// source, a trace, a list, or the next message.
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

// lastError returns the last error of Nix's output, which the traces of an
// evaluation lead up to, or "".
func lastError(stderr string) string {
	messages := errorMessages(stderr)
	if len(messages) == 0 {
		return ""
	}
	return messages[len(messages)-1]
}

// firstError returns the first error of Nix's output, or "". Of a build it is
// the cause; what could not be built for want of it comes after.
func firstError(stderr string) string {
	if messages := errorMessages(stderr); len(messages) > 0 {
		return messages[0]
	}
	return ""
}

func clip(s string) string { return excerpt.Of(s, 600) }
