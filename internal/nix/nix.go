package nix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config configures how Nix is run. The zero value is ready for use.
type Config struct {
	// BinDir is the absolute path of the directory with nix and nix-instantiate.
	// Empty means the first suitable one of /run/current-system/sw/bin,
	// /nix/var/nix/profiles/default/bin and the absolute ones in PATH.
	BinDir string
	// Timeout limits each run except evaluations in a sandbox and builds; zero means
	// no limit.
	Timeout time.Duration
	// Limits limits each evaluation in a sandbox.
	Limits Limits
}

// Nix runs the nix program. It is safe for concurrent use. It looks for the program
// at the first use.
type Nix struct {
	config Config
	grace  time.Duration

	mu      sync.Mutex
	binDir  string  // "" until found
	version Version // zero until asked
}

// New returns a Nix with the given configuration.
func New(config Config) *Nix { return &Nix{config: config, grace: graceTime} }

// ErrNotFound is wrapped if no nix program was found.
var ErrNotFound = errors.New("nix not found")

// programs must all be in the directory.
var programs = []string{"nix", "nix-instantiate"}

// dir returns the directory of the programs.
func (n *Nix) dir() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.binDir != "" {
		return n.binDir, nil
	}
	dirs := []string{n.config.BinDir}
	if n.config.BinDir == "" {
		dirs = append([]string{"/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin"},
			filepath.SplitList(os.Getenv("PATH"))...)
	} else if !filepath.IsAbs(n.config.BinDir) {
		return "", fmt.Errorf("%w: directory %q is not absolute", ErrNotFound, n.config.BinDir)
	}
	for _, dir := range dirs {
		if filepath.IsAbs(dir) && holdsPrograms(dir) {
			n.binDir = dir
			return dir, nil
		}
	}
	if n.config.BinDir != "" {
		return "", fmt.Errorf("%w in %s", ErrNotFound, n.config.BinDir)
	}
	return "", fmt.Errorf("%w in the system, in the default profile or in PATH", ErrNotFound)
}

func holdsPrograms(dir string) bool {
	for _, program := range programs {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
