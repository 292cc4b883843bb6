package endtoend

import (
	"fmt"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// TestAgainstNewer: to look what a newer release would change bars nobody from the
// one that runs; what lies before that stays refused, and so does a source that
// withholds the newer one.
func TestAgainstNewer(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	const oldest, newer, hiding = "boot-v2026.01.01", "boot-v2026.03.15", "/srv/hiding"
	key, public := testhost.SigningKey(t)
	m.write("/root/ci.key", key)
	m.write("/etc/ec-verify/ci.pub", public)
	m.write("/etc/ec-verify/config.json", fmt.Sprintf(`{"release": {"source": [%q]}, "trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]}}`, releases))
	for _, r := range []struct {
		tag, configuration string
		created            int
	}{{oldest, "testhost", 1789900000}, {newer, "testhost-other", 1790100000}} {
		m.Run("env", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.created), program, "manifest", "create", "/etc/every-channel/flake#"+r.configuration,
			"--out", releases+"/"+r.tag, "--tag", r.tag, "--best-before", "87600h")
	}
	for _, name := range []string{oldest, tag, newer} {
		m.Run(program, "release", "sign", releases+"/"+name, "--key", "/root/ci.key")
	}
	m.Run("sh", "-euc", "mkdir "+hiding+"; cp -r "+releases+"/"+tag+" "+hiding)
	verdict := func(want string, args ...string) answer {
		t.Helper()
		a := m.report(append([]string{program, "--output", "json", "--unsafe-skip", "eval"}, args...)...)
		if a.Verdict != want {
			t.Errorf("%q: got %s, want %s: %+v", args, a.Verdict, want, a.Findings)
		}
		return a
	}
	verdict("verified", "--against", tag)
	verdict("drifted", "--against", newer)
	verdict("verified", "--against", tag)
	for _, args := range [][]string{{"--against", oldest}, {"--against", "latest", "--release", hiding}} {
		if a := verdict("untrusted", args...); len(a.Findings) == 0 || !strings.Contains(a.Findings[0].Detail, "rolled-back") {
			t.Errorf("%q: %+v", args, a.Findings)
		}
	}
	// A disk of another machine that runs the newer one is not this machine.
	other := m.Runner().Systems["testhost-other"].Toplevel
	m.Run("sh", "-euc", `mkdir /mnt/disk; mount --bind / /mnt/disk; cp -a /nix/var/nix/profiles /mnt/profiles; ln -sfn `+other+` /mnt/profiles/system; mount --bind /mnt/profiles /mnt/disk/nix/var/nix/profiles`)
	verdict("verified", "--against", newer, "--store-root", "/mnt/disk")
	m.Run("umount", "-R", "/mnt/disk")
	verdict("verified", "--against", tag)
	// The machine is updated: now the one before is a step back.
	m.Activate(other, other)
	verdict("verified", "--against", newer)
	verdict("untrusted", "--against", tag)
}
