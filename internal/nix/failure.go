package nix

import (
	"regexp"
	"strings"
	"sync"
)

// builderFailed matches Nix's messages for a build that started and failed. Any other
// message is about the environment of the build. Up to 2.28 it is one sentence; from
// 2.29 on it is a separate reason.
var builderFailed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^builder for '[^']*' failed|^Cannot build '[^']*'\. ?Reason: builder failed|` +
		`failed to produce output path|is not allowed to refer|hash mismatch in fixed-output derivation`)
})

// BuilderFailed reports whether the build itself failed, as opposed to Nix being
// unable to start it.
func (e *BuildError) BuilderFailed() bool { return builderFailed().MatchString(e.Message) }

// NoSpace reports whether Nix, or the end of the build log, mentions a full disk.
func (e *BuildError) NoSpace() bool {
	const message = "No space left on device"
	return strings.Contains(e.Message, message) || strings.Contains(e.Exit.Stderr, message) || strings.Contains(e.Log, message)
}
