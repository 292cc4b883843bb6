package endtoend

import (
	"regexp"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// TestGateClosed: with the gate closed, what sets the profile by nix-env fails before
// anything has changed, and ec-verify switch goes on.
func TestGateClosed(t *testing.T) {
	t.Parallel()
	g := startGatedWith(t, testhost.Options{Layers: []string{installed(t)}})
	const profile = "/nix/var/nix/profiles/system"
	g.Run("mkdir", "-p", "/nix/var/nix/profiles/per-user/root")
	g.Run("systemctl", "start", "ec-verify-gate")
	g.Run(program, "--brief") // the gate's own mounts are no finding
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

	// The mounts that close it are no foreign ones.
	g.accept(`"accept": ["`+tag+`", "`+otherTag+`"]`, `, "machine": {"parts": ["mounts"]}`)
	for _, f := range g.verify().Findings {
		if strings.HasPrefix(f.Path, "/nix/var/nix/profiles") {
			t.Errorf("%s: %s", f.Cause, f.Path)
		}
	}
	g.accept(`"accept": ["` + tag + `", "` + otherTag + `"]`)

	// As the installer of the boot menu does it, in NixOS's own script.
	if out := g.Run("nix-env", "--list-generations", "-p", profile); !strings.Contains(out, "(current)") {
		t.Errorf("the generations are %q", out)
	}
	s := g.run(otherTag)
	if s.code != 0 || !s.Activated || s.Generation == 0 || g.leads(profile) != g.next {
		t.Errorf("%+v", s)
	}
	refused(set...)
	// As the module has nix-gc.service do it: seen writable by that one alone.
	g.Run("unshare", "--mount", "sh", "-euc", "mountpoint -q /nix/var/nix/profiles; mount -o remount,bind,rw /nix/var/nix/profiles; nix-env -p "+profile+" --delete-generations old")
	if left := g.Run("sh", "-c", "ls -d "+profile+"-*-link | wc -l"); left != "1" {
		t.Errorf("%s generations are left", left)
	}
	refused(set...)
	// A link is named with a slash.
	link := strings.TrimPrefix(g.Run("readlink", profile), "/nix/var/nix/profiles/")
	if _, stderr, code := g.Exec(t.Context(), "env", "-C", "/nix/var/nix/profiles", program, "candidate", link); code == 0 || !strings.Contains(stderr, link+" is taken for a tag; the link of that name is ./"+link) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// Opened, by the unit that closed it.
	g.Run("systemctl", "stop", "ec-verify-gate")
	for _, turn := range []struct{ to, says string }{
		{"open", "open already, nothing was changed: every tool of root can set the system profile; the next boot closes the gate if ec-verify-gate.service is enabled"},
		{"close", "closed: ec-verify switch alone sets the system profile, until the next boot, and after it if ec-verify-gate.service is enabled"},
		{"close", "closed already, nothing was changed: ec-verify switch alone sets the system profile, until the next boot, and after it if ec-verify-gate.service is enabled"},
		{"open", "open: every tool of root can set the system profile; the next boot closes the gate if ec-verify-gate.service is enabled"},
	} {
		if got := g.Run(program, "gate", turn.to); got != turn.says {
			t.Errorf("gate %s: %q, want %q", turn.to, got, turn.says)
		}
	}
	// How it is, is said where people look, and to programs.
	said := func(status, doctor string) {
		t.Helper()
		if out := g.Run(program, "status"); !strings.Contains(out, "\ngate      "+status+":") {
			t.Errorf("status does not say %q:\n%s", status, out)
		}
		if out, _, _ := g.Exec(t.Context(), program, "doctor", "--offline"); !regexp.MustCompile(`(?m)^(ok|notice) +gate +` + doctor).MatchString(out) {
			t.Errorf("doctor does not say %q:\n%s", doctor, out)
		}
	}
	said("open", "open: ")
	if got := g.Run(program, "gate", "close", "--output", "json"); got != `{"schemaVersion":1,"kind":"ec-verify-gate","closed":true,"changed":true}` {
		t.Error(got)
	}
	said("closed", "closed until the next boot: ec-verify-gate.service is not enabled")
	g.Run("systemctl", "enable", "ec-verify-gate")
	said("closed", "closed, also after the next boot")
	g.Run(program, "gate", "open")
	said("open", "open, although ec-verify-gate.service is enabled")
	g.Run("systemctl", "disable", "ec-verify-gate")
	g.back()
	// Where nobody else sees it, nothing is closed or opened, and nobody is told so.
	for _, apart := range [][]string{
		{"unshare", "--mount"},
		{"systemd-run", "--quiet", "--pipe", "--wait", "--property=PrivateTmp=yes"},
		{"systemd-run", "--quiet", "--pipe", "--wait", "--property=ReadOnlyPaths=/nix/var/nix/profiles"},
	} {
		for _, turn := range []string{"close", "open"} {
			stdout, stderr, code := g.Exec(t.Context(), append(apart, program, "gate", turn)...)
			if code != 4 || stdout != "" || !strings.Contains(stderr, "its own mount namespace") {
				t.Errorf("%q, %s: exit %d, %s%s", apart, turn, code, stdout, stderr)
			}
		}
	}
	// As it is for comin.
	g.Run(program, "gate", "close", "--comin")
	g.Run("nix-env", "-p", "/nix/var/nix/profiles/system-profiles/comin", "--set", g.next)
	refused(set...)
}
