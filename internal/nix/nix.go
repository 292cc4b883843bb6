package nix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says how Nix is run. The zero value is ready for use.
type Config struct {
	// BinDir is the absolute path of the directory that holds nix and
	// nix-instantiate. Empty means the first that does of
	// /run/current-system/sw/bin, /nix/var/nix/profiles/default/bin and the
	// absolute ones in PATH.
	BinDir string
	// Timeout bounds each run that is no evaluation in a sandbox and no build;
	// zero means no bound.
	Timeout time.Duration
	// Limits bound each evaluation in a sandbox.
	Limits Limits
	// BuildTimeout bounds each run of Realise; zero means no bound.
	BuildTimeout time.Duration
}

// Nix runs the nix program. It is safe for concurrent use. Nothing is run, or
// looked for, before it is needed.
type Nix struct {
	config Config
	grace  time.Duration

	mu      sync.Mutex
	binDir  string  // "" until found
	version Version // zero until asked
}

// New returns a Nix of the given configuration.
func New(config Config) *Nix { return &Nix{config: config, grace: graceTime} }

// ErrNotFound is wrapped where no nix program was found.
var ErrNotFound = errors.New("nix not found")

// programs are the ones that a directory must hold to be taken.
var programs = []string{"nix", "nix-instantiate"}

// dir returns the directory that the programs are run from.
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
