package configured

import (
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/internal/node/config"
)

const (
	// evalFiles is how many bytes an evaluation may write to memory as files: its
	// database, and the sources that it makes derivations of.
	evalFiles = 1 << 30
	// evalStall is how long an evaluation may go without using the processor at
	// all. One that other programs crowd out always uses some.
	evalStall = 10 * time.Minute
)

// Nix returns nix as the configuration has it.
func Nix(c config.Config) *nix.Nix {
	timeout := time.Duration(c.Nix.EvalTimeout)
	return nix.New(nix.Config{
		BinDir: c.Nix.BinDir, Timeout: timeout,
		Limits: nix.Limits{CPU: timeout, Memory: evalMemory(), Files: evalFiles, Stall: evalStall},
	})
}

// evalMemory returns how much memory an evaluation may use, in bytes: half of the
// machine's, and no less than a system of ordinary size needs.
func evalMemory() int64 {
	const atLeast = 4 << 30
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return atLeast
	}
	return max(atLeast, int64(info.Totalram)*int64(info.Unit)/2) //nolint:gosec // no machine has 2⁶³ bytes
}
