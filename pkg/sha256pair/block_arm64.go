package sha256pair

import "golang.org/x/sys/cpu"

// hasInstructions reports whether this processor can run block1 and block2. The
// feature is the one that crypto/sha256 asks for, under its name in GODEBUG.
func hasInstructions(on func(feature string) bool) bool {
	return cpu.ARM64.HasSHA2 && on("sha2")
}

// block1 advances a state over n blocks, at least one, from p on.
//
//go:noescape
func block1(s *state, p *byte, n int)

// block2 advances a over n blocks, at least one, from p on, and b from q on.
//
//go:noescape
func block2(a, b *state, p, q *byte, n int)
