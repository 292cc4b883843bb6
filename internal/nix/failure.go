package nix

import (
	"regexp"
	"strings"
)

// builderFailed are the ways in which Nix says that a build took place and did
// not come to its end. Anything else is about what is around the build. Up to
// 2.28 it is one sentence, from 2.29 on it has a reason of its own.
var builderFailed = regexp.MustCompile(`^builder for '[^']*' failed|^Cannot build '[^']*'\. ?Reason: builder failed|` +
	`failed to produce output path|is not allowed to refer|hash mismatch in fixed-output derivation`)

// BuilderFailed reports whether the build itself failed, as opposed to Nix not
// having been able to have it built.
func (e *BuildError) BuilderFailed() bool { return builderFailed.MatchString(e.Message) }

// NoSpace reports whether Nix, or the last that the builder said, speaks of a
// full disk.
func (e *BuildError) NoSpace() bool {
	const message = "No space left on device"
	return strings.Contains(e.Message, message) || strings.Contains(e.Exit.Stderr, message) || strings.Contains(e.Log, message)
}
