package nix

import (
	"errors"
	"testing"
)

// What Nix says of a build that did not come to its end, by version: 2.26.3 and
// 2.34.8 as they were seen, others as their sources have it.
func TestFailureWording(t *testing.T) {
	const drv = "/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-x.drv"
	for _, test := range []struct {
		name, message, log string
		builder, space     bool
	}{
		{"2.26: exit code", "builder for '" + drv + "' failed with exit code 3", "", true, false},
		{"2.34: exit code", "Cannot build '" + drv + "'. Reason: builder failed with exit code 3.", "", true, false},
		{"2.26: signal", "builder for '" + drv + "' failed due to signal 9 (Killed)", "", true, false},
		{"2.34: signal", "Cannot build '" + drv + "'. Reason: builder failed due to signal 9 (Killed).", "", true, false},
		{"2.26: no output", "builder for '" + drv + "' failed to produce output path for output 'out' at '/nix/store/x'", "", true, false},
		{"2.34: no output", "Cannot build '" + drv + "'. Reason: builder failed to produce output path for output 'out' at '/nix/store/x'.", "", true, false},
		{"a reference", "output '/nix/store/x' is not allowed to refer to the following paths: /nix/store/y", "", true, false},
		{"a fixed output", "hash mismatch in fixed-output derivation '" + drv + "': specified: sha256-a got: sha256-b", "", true, false},
		{"2.26: a dependency", "1 dependencies of derivation '" + drv + "' failed to build", "", false, false},
		{"2.34: a dependency", "Cannot build '" + drv + "'. Reason: 1 dependency failed.", "", false, false},
		{"2.26: timed out", "building of '" + drv + "^out' from .drv file timed out after 2 seconds", "", false, false},
		{"2.34: timed out", "timed out after 2 seconds", "", false, false},
		{"no sandbox", "this system does not support the kernel namespaces that are required for sandboxing", "", false, false},
		{"another platform", "a 'aarch64-linux' with features {} is required to build '" + drv + "', but I am a 'x86_64-linux' with features {}", "", false, false},
		{"the daemon is gone", "cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused", "", false, false},
		{"nix has no room", "writing to file: No space left on device", "", false, true},
		{"the builder has no room", "builder for '" + drv + "' failed with exit code 1", "cat: write error: No space left on device", true, true},
		{"a message within a message", "while evaluating: builder for '" + drv + "' failed", "", false, false},
	} {
		e := &BuildError{Derivation: drv, Message: test.message, Log: test.log, Exit: &ExitError{Args: []string{"nix"}, Code: 1}}
		if e.BuilderFailed() != test.builder || e.NoSpace() != test.space {
			t.Errorf("%s: builder %t, space %t; want %t, %t", test.name, e.BuilderFailed(), e.NoSpace(), test.builder, test.space)
		}
	}
}

func TestFailureRecorded(t *testing.T) {
	for _, version := range recordedVersions() {
		drv, _ := recordedBuild(t, version)
		for _, name := range []string{"build-fails", "build-mismatch"} {
			_, err := recorded(t, version, name).Realise(t.Context(), drv, "", nil)
			var be *BuildError
			if !errors.As(err, &be) || !be.BuilderFailed() || be.NoSpace() {
				t.Errorf("%s %s: %v is not taken for the builder's failure", version, name, err)
			}
		}
	}
}
