package activate

import (
	"context"
	"path"
	"path/filepath"
	"time"

	"every.channel/ec-verify/pkg/closure"
)

// Machine says where on this machine things are.
type Machine struct {
	// NixState is the directory of Nix's state, e.g. "/nix/var/nix".
	NixState string
	// Run is "/run".
	Run string
	// Script runs a system's switch-to-configuration.
	Script Script
	// First is the root directory of the first process, whose mounts the garbage collector
	// sees: "/proc/1/root"; "" if they are this process's.
	First string
	// GCWait is how long a garbage collection under way is waited for.
	GCWait time.Duration
}

// Script runs a program to its end, apart from this process.
type Script interface {
	// Busy returns an error while an earlier run goes on.
	Busy(ctx context.Context) error
	// Prepare makes sure that a run can be, before anything is changed.
	Prepare(ctx context.Context) error
	// Run runs program with the single argument action. It fails with a [*ScriptError] if
	// the program does, and with a [*GoesOnError] if it still runs.
	Run(ctx context.Context, program, action string) error
}

// This returns the machine that this process runs on. The output of scripts is kept
// in the file log, and relay is given each piece of it.
func This(dir closure.StoreDir, log string, relay func([]byte)) *Machine {
	return &Machine{
		NixState: path.Join(path.Dir(string(dir)), "var/nix"), Run: "/run", First: "/proc/1/root", GCWait: time.Minute,
		Script: &unitScript{log: log, relay: relay},
	}
}

// Profile is the link to the system profile.
func (m *Machine) Profile() string { return filepath.Join(m.NixState, "profiles", "system") }

// CurrentSystem is the link to the system that runs.
func (m *Machine) CurrentSystem() string { return filepath.Join(m.Run, "current-system") }

// Action is what to do with a system, in the words of switch-to-configuration.
type Action string

const (
	// Boot makes a system the one that the machine boots next.
	Boot Action = "boot"
	// Test makes a system the one that runs, until the next boot.
	Test Action = "test"
	// NowAndBoot does both.
	NowAndBoot Action = "switch"
)

// Actions are all of them, the usual one first.
func Actions() []Action { return []Action{NowAndBoot, Boot, Test} }

// Boots reports whether a changes the next boot, by setting the system profile.
func (a Action) Boots() bool { return a != Test }

// Runs reports whether a is about what runs.
func (a Action) Runs() bool { return a != Boot }
