package sha256pair

import "golang.org/x/sys/cpu"

// hasInstructions reports whether this processor can run block1 and block2. The
// features are those that crypto/sha256 asks for, under the names of GODEBUG; AVX,
// which small processors with SHA instructions lack, is not used here.
func hasInstructions(on func(feature string) bool) bool {
	return cpu.X86.HasSSSE3 && on("ssse3") && cpu.X86.HasSSE41 && on("sse41") && hasSHA() && on("sha")
}

// hasSHA reports bit 29 of EBX in leaf 7 of CPUID, which x/sys/cpu does not.
func hasSHA() bool {
	if last, _ := cpuid(0, 0); last < 7 {
		return false
	}
	_, ebx := cpuid(7, 0)
	return ebx>>29&1 != 0
}

func cpuid(leaf, subleaf uint32) (eax, ebx uint32)

// block1 advances a state over n blocks, at least one, from p on.
//
//go:noescape
func block1(s *state, p *byte, n int)

// block2 advances a over n blocks, at least one, from p on, and b from q on.
//
//go:noescape
func block2(a, b *state, p, q *byte, n int)
