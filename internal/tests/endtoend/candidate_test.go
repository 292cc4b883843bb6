package endtoend

import (
	"strings"
	"testing"
)

// protects judges the next system as a candidate while garbage is collected: nothing else
// than the candidate's root keeps it. The file is one of it.
func (g *gated) protects(t *testing.T, file string) {
	const root, collect = "/nix/var/nix/gcroots/ec-verify-candidate", "nix-store --gc >>/tmp/gc.log 2>&1"
	judge := func(before ...string) answer {
		return g.report(append(before, program, "candidate", otherTag, "--output", "json")...)
	}
	roots := func() string {
		return g.Run("sh", "-c", "find /nix/var/nix/gcroots -name '*ec-verify*' ! -path '*/auto/*'")
	}
	// kept judges it as protected, which it is.
	kept := func(t *testing.T) {
		t.Helper()
		a := judge()
		a.expect(t, "verified", 0)
		if a.GCRoot == nil || a.GCRoot.Path != root || a.GCRoot.Why != "" {
			t.Errorf("the root is %+v", a.GCRoot)
		}
		g.Run("sh", "-euc", collect)
		if got := roots(); got != root || g.leads(root) != g.next {
			t.Errorf("%q leads to %s", got, g.leads(root))
		}
	}
	// unprotected judges it after a command, and expects why there is no root.
	unprotected := func(t *testing.T, want string, before ...string) {
		t.Helper()
		was := roots()
		g.Run("ln", "-s", g.next, "/nix/var/nix/profiles/keep")
		defer g.Run("rm", "/nix/var/nix/profiles/keep")
		a := judge(before...)
		a.expect(t, "verified", 0)
		if a.GCRoot == nil || a.GCRoot.Path != "" || !strings.Contains(a.GCRoot.Why, want) {
			t.Errorf("the root is %+v, want %q", a.GCRoot, want)
		}
		if got := roots(); got != was {
			t.Errorf("%q, and before %q", got, was)
		}
	}
	kept(t) // while the old generations still have it
	g.Run("sh", "-euc", "nix-env -p /nix/var/nix/profiles/system --delete-generations old; "+collect+"; [ -e "+g.next+" ]")
	for _, test := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"by nothing but its root", kept},
		{"after one that was killed", func(t *testing.T) {
			for _, moment := range []string{"0.02", "0.05", "0.1", "0.2", "0.4"} {
				g.Run("sh", "-c", "timeout -s KILL "+moment+" "+program+" candidate "+otherTag+" >/dev/null 2>&1; true")
				if got := g.Run("sh", "-c", "find /nix/var/nix/gcroots -name 'ec-verify*'"); got != "" && got != root {
					t.Errorf("killed after %s s: %q", moment, got)
				}
			}
			kept(t)
		}},
		{"a link and a file at the root's name", func(t *testing.T) {
			for _, plant := range []string{"ln -sfn /etc " + root, "rm -f " + root + "; echo >" + root} {
				g.Run("sh", "-euc", "ln -s "+g.next+" /nix/var/nix/gcroots/keep; "+plant)
				kept(t)
				g.Run("rm", "/nix/var/nix/gcroots/keep")
			}
		}},
		{"a user", func(t *testing.T) {
			unprotected(t, "only root can create a GC root", "setpriv", "--reuid=nobody", "--clear-groups")
		}},
		{"another judgement", func(t *testing.T) {
			unprotected(t, "another candidate is being judged (/run/nixos/ec-verify-candidate.lock)", "flock", "/run/nixos/ec-verify-candidate.lock")
		}},
		{"a directory that can't be written to", func(t *testing.T) {
			unprotected(t, "read-only file system", "unshare", "-m", "sh", "-euc", `mount --bind -o ro $0 $0; exec "$@"`, "/nix/var/nix/gcroots")
		}},
		{"a directory that no other process sees", func(t *testing.T) {
			unprotected(t, "this process has other mounts", "unshare", "-m", "sh", "-euc", `cp -a $0 /run/roots; mount --bind /run/roots $0; exec "$@"`, "/nix/var/nix/gcroots")
			g.Run("rm", "-r", "/run/roots")
		}},
		{"a full directory", func(t *testing.T) {
			g.Run("sh", "-euc", `
				cd /nix/var/nix; cp -a gcroots /run/roots; n=$(find gcroots | wc -l)
				mount -t tmpfs -o size=1m,nr_inodes=$((n + 2)),mode=755 tmpfs gcroots; cp -a /run/roots/. gcroots
				i=0; while touch gcroots/fill-$i 2>/dev/null; do i=$((i+1)); done`)
			unprotected(t, "no space left on device")
			g.Run("sh", "-euc", `umount /nix/var/nix/gcroots; rm -r /run/roots`)
		}},
		{"a directory of others", func(t *testing.T) {
			g.Run("chmod", "a+w", "/nix/var/nix/gcroots")
			unprotected(t, "others can write to /nix/var/nix/gcroots")
			g.Run("chmod", "go-w", "/nix/var/nix/gcroots")
		}},
		{"the own disk as if it were mounted", func(t *testing.T) {
			a := g.report(program, "candidate", otherTag, "--store-root", "/proc/self/root", "--output", "json")
			if a.GCRoot == nil || a.GCRoot.Path != "" || !strings.Contains(a.GCRoot.Why, "/proc/self/root") {
				t.Errorf("the root is %+v", a.GCRoot)
			}
		}},
		{"still", kept},
		{"not verified", func(t *testing.T) {
			g.FlipByte(file, 3)
			g.Run("ln", "-s", g.next, "/nix/var/nix/gcroots/keep")
			a := judge()
			g.FlipByte(file, 3)
			a.expect(t, "drifted", 1, "disk-altered "+strings.TrimPrefix(strings.TrimSuffix(file, "/bin/program-04"), "/nix/store/")+" bin/program-04:content")
			if got := roots(); got != "" || a.GCRoot != nil {
				t.Errorf("%q, %+v", got, a.GCRoot)
			}
		}},
		{"again", func(t *testing.T) {
			kept(t)
			g.Run("rm", "/nix/var/nix/gcroots/keep")
			text := g.Run(program, "candidate", otherTag)
			if !strings.Contains(text, "\nGC root: "+root+" protects the candidate until ec-verify switch activates it or the next candidate replaces it\n") {
				t.Error(text)
			}
			g.Run("sh", "-euc", collect)
		}},
	} {
		t.Run(test.name, test.do)
	}
}
