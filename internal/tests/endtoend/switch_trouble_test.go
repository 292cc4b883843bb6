package endtoend

import (
	"strings"
	"testing"
)

// TestSwitchInTrouble: disks that are full, garbage collectors that never rest, and a
// second switch. What can't be done is said in one line and leaves everything as it was;
// what can be done is done.
func TestSwitchInTrouble(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	g.Run("sh", "-euc", `
		cd /srv
		nix copy --to 'file:///srv/cache?compression=zstd' --no-check-sigs `+g.next+`
		rm /var/lib/ec-verify-testhost/roots/testhost-other
		nix-env -p /nix/var/nix/profiles/system --delete-generations old
		nix-store --gc >/tmp/gc.log
		[ ! -e `+g.next+` ]`)
	// fails switches to what is fetched from the cache, which has to fail so.
	fails := func(t *testing.T, want string) {
		t.Helper()
		stdout, stderr, code := g.Exec(t.Context(), program, "switch", otherTag, "--from", "/srv/cache")
		if code != 4 || !strings.Contains(stdout+stderr, want) || strings.Count(strings.TrimSpace(stderr), "\n") > 1 {
			t.Errorf("exit %d, want %q\n%s\n%s", code, want, stdout, stderr)
		}
		if left := g.Run("sh", "-c", "ls -A /var/lib/ec-verify | grep -e import -e temp; ls /nix/var/nix/gcroots | grep ec-verify; true"); left != "" {
			t.Errorf("left over: %s", left)
		}
		if g.leads("/nix/var/nix/profiles/system") != g.old || g.leads("/run/current-system") != g.old {
			t.Error(g.state())
		}
	}
	state := func(t *testing.T, size string) {
		g.Run("sh", "-euc", "mkdir -p /var/lib/ec-verify; mount -t tmpfs -o mode=755,"+size+" tmpfs /var/lib/ec-verify")
		t.Cleanup(func() { g.Run("umount", "/var/lib/ec-verify") })
	}
	for _, c := range []struct{ name, size, want string }{
		{"no room for what is fetched", "size=4m", "bytes free, and the import takes"},
		{"the disk is full while it is fetched", "size=1g,nr_inodes=20", "no space left on device"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := g.NixState()
			state(t, c.size)
			fails(t, c.want)
			if withoutTimes(g.NixState()) != withoutTimes(before) {
				t.Error("something was registered, or left in the store")
			}
		})
	}
	t.Run("the store is full while it is imported", func(t *testing.T) {
		// Its bytes would fit; its files do not.
		g.Run("sh", "-euc", `
			mkdir /run/small; mount -t tmpfs -o size=1g,nr_inodes=24 tmpfs /run/small; mkdir /run/small/upper /run/small/work
			mount -t overlay overlay -o lowerdir=/nix/store,upperdir=/run/small/upper,workdir=/run/small/work /nix/store`)
		fails(t, "No space left on device")
		g.Run("sh", "-euc", `
			nix-store --verify --check-contents
			nix-store --gc >/tmp/gc.log
			umount /nix/store; umount /run/small; nix-store --verify --check-contents`)
	})
	// From here on garbage is collected without a rest.
	g.Run("systemd-run", "--quiet", "--unit=collector", "--collect", "sh", "-c",
		"while nix-store --gc >>/tmp/collected 2>&1; do echo collected >>/tmp/rounds; sleep 0.1; done; touch /tmp/collector-failed")
	t.Run("garbage is collected all the time", func(t *testing.T) {
		s := g.run(otherTag, "--from", "/srv/cache")
		s.Report.expect(t, "verified", 0)
		if !s.Activated || g.leads("/nix/var/nix/profiles/system") != g.next {
			t.Errorf("%+v", s)
		}
		g.Run("sh", "-euc", `[ ! -e /tmp/collector-failed ]; [ $(wc -l </tmp/rounds) -ge 2 ]`)
	})
	g.back()
	t.Run("a second switch", func(t *testing.T) {
		g.Run("systemd-run", "--quiet", "--unit=racer", "--collect", "flock", "/nix/var/nix/profiles/system.lock",
			"sh", "-c", "touch /run/racer; until [ -e /run/go ]; do sleep 0.05; done")
		g.until("the racer has the lock", "[ -e /run/racer ]")
		g.Run("systemd-run", "--quiet", "--unit=first", "--property=RemainAfterExit=yes", program, "switch", otherTag)
		g.until("the first one waits for the lock", strings.TrimSpace(waitForLock))
		_, stderr, code := g.Exec(t.Context(), program, "switch", otherTag)
		first := g.Run("systemctl", "show", "-P", "MainPID", "first")
		if code != 4 || stderr != "ec-verify: another switch is under way, by process "+first+" (/run/nixos/ec-verify-switch.lock): wait for its end\n" {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if g.leads("/nix/var/nix/profiles/system") != g.old {
			t.Error(g.state())
		}
		g.Run("touch", "/run/go")
		g.until("the first has ended", "[ $(systemctl show -P SubState first) != running ]")
		if got := g.Run("systemctl", "show", "-P", "ExecMainStatus", "first"); got != "0" || g.leads("/nix/var/nix/profiles/system") != g.next || g.leads("/run/current-system") != g.next {
			t.Errorf("exit %s\n%s", got, g.state())
		}
	})
	g.Run("sh", "-euc", `[ ! -e /tmp/collector-failed ]; systemctl stop collector`)
	g.back()
	t.Run("no room for the profile", func(t *testing.T) {
		g.Run("sh", "-euc", `
			mkdir /run/profiles; cp -a /nix/var/nix/profiles/. /run/profiles; n=$(find /run/profiles | wc -l)
			mount -t tmpfs -o size=1m,nr_inodes=$((n + 2)) tmpfs /nix/var/nix/profiles; cp -a /run/profiles/. /nix/var/nix/profiles
			touch /nix/var/nix/profiles/system.lock; i=0; while touch /nix/var/nix/profiles/fill-$i 2>/dev/null; do i=$((i+1)); done`)
		defer g.Run("umount", "/nix/var/nix/profiles")
		s := g.run(otherTag)
		if s.code != 4 || s.Verdict != "verified" || s.Activated || s.Generation != 0 || !strings.Contains(s.Detail, "no space left on device") ||
			g.leads("/nix/var/nix/profiles/system") != g.old || g.leads("/run/current-system") != g.old {
			t.Errorf("%+v\n%s", s, g.state())
		}
	})
	t.Run("no room for what is printed", func(t *testing.T) {
		state(t, "size=512k")
		s := g.run(otherTag)
		if s.code != 4 || s.Activated || s.Generation != 0 || !strings.Contains(s.Detail, "switch.log: no space left on device") || g.leads("/nix/var/nix/profiles/system") != g.old || g.leads("/run/current-system") != g.old {
			t.Errorf("%+v\n%s", s, g.state())
		}
	})
}
