package endtoend

import (
	"strings"
	"testing"
)

// TestGateClosed: with the gate closed, what sets the profile by nix-env fails before
// anything has changed, and ec-verify switch goes on.
func TestGateClosed(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	const profile = "/nix/var/nix/profiles/system"
	dest, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	g.Push(dest+"/usr/local", "/usr/local")
	g.Run("mkdir", "-p", "/nix/var/nix/profiles/per-user/root")
	g.Run("systemctl", "daemon-reload")
	g.Run("systemctl", "start", "ec-verify-gate")
	// As nixos-rebuild, deploy-rs and colmena do it: the profile first.
	refused := func(argv ...string) {
		t.Helper()
		before := g.state()
		_, stderr, code := g.Exec(t.Context(), argv...)
		if code == 0 || !strings.Contains(stderr, "Read-only file system") {
			t.Errorf("%q: exit %d, %s", argv, code, stderr)
		}
		if after := g.state(); after != before {
			t.Errorf("%q: before:\n%s\nafter:\n%s", argv, before, after)
		}
	}
	set := []string{"nix-env", "-p", profile, "--set", g.next}
	refused(set...)
	refused("nix-env", "-p", profile, "--rollback")
	refused("nix-env", "-p", profile, "--delete-generations", "old")
	refused("ln", "-sfn", g.next, profile)
	refused("mkdir", "/nix/var/nix/profiles/system-profiles")
	g.Run("nix-env", "-p", "/nix/var/nix/profiles/per-user/root/profile", "--set", g.next)

	s := g.run(otherTag)
	if s.code != 0 || !s.Activated || s.Generation == 0 || g.leads(profile) != g.next {
		t.Errorf("%+v", s)
	}
	refused(set...)
	// Opened, by the unit that closed it.
	g.Run("systemctl", "stop", "ec-verify-gate")
	g.Run(program, "gate", "open")
	g.back()
	// As it is for comin.
	g.Run(program, "gate", "close", "--comin")
	g.Run("nix-env", "-p", "/nix/var/nix/profiles/system-profiles/comin", "--set", g.next)
	refused(set...)
}
