package endtoend

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/testhost"
)

// TestFalseManifest gives a machine releases whose checksums hold and whose
// manifest is wrong: nothing of them may be used.
func TestFalseManifest(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	dir := m.Path(releases + "/" + tag)
	good, err := os.ReadFile(filepath.Join(dir, "closure-testhost.json"))
	if err != nil {
		t.Fatal(err)
	}
	unpacked := m.path("unpacked-1")
	entry := func() string { // of unpacked, as it stands in the manifest
		s := string(good)
		at := strings.Index(s, `    {
      "path": "`+unpacked)
		return s[at : at+strings.Index(s[at:], "\n    }")+len("\n    },\n")]
	}()
	cases := []struct {
		name string
		edit func() string
		want string // in the finding's detail
	}{
		{"of another configuration", func() string {
			return strings.Replace(string(good), `"configuration": "testhost"`, `"configuration": "other"`, 1)
		}, "configuration other"},
		{"truncated", func() string { return string(good[:len(good)/2]) }, "unexpected EOF"},
		{"of an unknown schema version", func() string {
			return strings.Replace(string(good), `"schemaVersion": 1`, `"schemaVersion": 7`, 1)
		}, "unknown schema version 7"},
		{"with a path twice", func() string { return strings.Replace(string(good), entry, entry+entry, 1) }, "listed twice"},
		{"with ../ in a path", func() string {
			return strings.ReplaceAll(string(good), unpacked, unpacked+"/../x")
		}, "parse store path"},
		{"with a dangling reference", func() string { return strings.Replace(string(good), entry, "", 1) }, "not among the paths"},
		{"with a member too many", func() string {
			return strings.Replace(string(good), `"schemaVersion"`, `"note": 1, "schemaVersion"`, 1)
		}, "unknown member"},
		{"with a member twice", func() string {
			return strings.Replace(string(good), `"schemaVersion"`, `"schemaVersion": 1, "schemaVersion"`, 1)
		}, "is there twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bad := c.edit()
			if bad == string(good) {
				t.Fatal("the case changes nothing")
			}
			write(t, filepath.Join(dir, "closure-testhost.json"), bad)
			if err := release.WriteSums(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			a := m.verify()
			a.expect(t, "untrusted", 3, "release-untrusted "+tag)
			if len(a.Findings) > 0 && !strings.Contains(a.Findings[0].Detail, c.want) {
				t.Errorf("detail: got %q, want it to say %q", a.Findings[0].Detail, c.want)
			}
			if a.Coverage.Hashed != 0 {
				t.Errorf("%d paths were compared with an untrusted manifest", a.Coverage.Hashed)
			}
		})
	}
	write(t, filepath.Join(dir, "closure-testhost.json"), string(good)+" ")
	m.verify().expect(t, "untrusted", 3, "release-untrusted "+tag)
	t.Run("restored", func(t *testing.T) {
		write(t, filepath.Join(dir, "closure-testhost.json"), string(good))
		if err := release.WriteSums(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		m.verify().expect(t, "verified", 0)
	})
	t.Run("signature asked for", func(t *testing.T) {
		_, stderr, code := m.Exec(context.Background(), program, "--against", tag, "--release", releases)
		if code != 78 || !strings.Contains(stderr, "trust") {
			t.Errorf("without a trust policy: exit %d, stderr %q", code, stderr)
		}
	})
}

// TestFalseListing: a listing that is not the release's names no files and
// does not pass unnoticed.
func TestFalseListing(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	listing := filepath.Join(m.Path(releases+"/"+tag), "closure-testhost.files.json.zst")
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	t.Run("missing", func(t *testing.T) {
		data, err := os.ReadFile(listing)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(listing)
		a := m.verify()
		a.expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1"))
		if d := a.Findings[0].Detail; !strings.Contains(d, "it is unknown which files differ") {
			t.Errorf("the finding does not say why it names no files: %q", d)
		}
		write(t, listing, string(data))
	})
	t.Run("altered", func(t *testing.T) {
		write(t, listing, "x")
		a := m.verify()
		if a.Verdict != "untrusted" || a.code != 3 || a.Counts["drift"] != 1 {
			t.Errorf("got %s, exit %d, %v; want untrusted, and the drift all the same", a.Verdict, a.code, a.Counts)
		}
	})
}

// TestTwoBuilders: two machines that build the same source, one of which never
// saw the other's store, write the same manifest and listing.
func TestTwoBuilders(t *testing.T) {
	t.Parallel()
	first := startReleased(t)
	second := startWith(t, testhost.Options{Layers: []string{share(t, "bare")}})
	second.MakeRunner(filepath.Join("..", "..", "..", "testdata", "flake"), "testhost-other")
	// The copy has neither the first's path in the file system nor its times.
	second.Run("sh", "-c", `cp -rL /etc/every-channel/flake /root/checkout && chmod -R u+w /root/checkout && touch /root/checkout/flake.nix`)
	second.Run("sh", "-c", `cd /root/checkout && `+program+` manifest create .#testhost --out /root/out --tag `+tag)
	for _, name := range []string{"closure-testhost.json", "closure-testhost.files.json.zst"} {
		a, errA := os.ReadFile(first.Path(releases + "/" + tag + "/" + name))
		b, errB := os.ReadFile(second.Path("/root/out/" + name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %d and %d bytes differ (%v, %v)", name, len(a), len(b), errA, errB)
		}
	}
}

// TestPublish: what the builder's side refuses and merges.
func TestPublish(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	create := func(out string, args ...string) (string, int) {
		_, stderr, code := m.Exec(context.Background(), append([]string{program, "manifest", "create", "--out", out}, args...)...)
		return stderr, code
	}
	t.Run("several configurations", func(t *testing.T) {
		for _, c := range []string{"testhost", "testhost-other"} {
			if stderr, code := create("/root/both", "/etc/every-channel/flake#"+c, "--tag", "boot-v1"); code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
		}
		a := m.report(program, "--against", "boot-v1", "--release", "/root/both", "--unsafe-unsigned", "--output", "json", "--configuration", "testhost")
		a.expect(t, "verified", 0)
		a = m.report(program, "--against", "boot-v1", "--release", "/root/both", "--unsafe-unsigned", "--output", "json")
		a.expect(t, "inconclusive", 4, "release-unavailable boot-v1")
		a = m.report(program, "--against", "boot-v1", "--release", "/root/both", "--unsafe-unsigned", "--output", "json", "--configuration", "third")
		a.expect(t, "inconclusive", 4, "release-unavailable boot-v1")
	})
	t.Run("another tag into the same directory", func(t *testing.T) {
		if stderr, code := create("/root/both", "/etc/every-channel/flake#testhost", "--tag", "boot-v2"); code != 4 || !strings.Contains(stderr, "contains the release boot-v1") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("a damaged store", func(t *testing.T) {
		m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
		stderr, code := create("/root/damaged", "/etc/every-channel/flake#testhost")
		if code != 4 || !strings.Contains(stderr, "differs from Nix's database") || len(strings.Split(strings.TrimSpace(stderr), "\n")) != 1 {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if out := m.Run("ls", "/root/damaged"); out != "" {
			t.Errorf("left behind: %s", out)
		}
	})
	t.Run("no such configuration", func(t *testing.T) {
		stderr, code := create("/root/none", "/etc/every-channel/flake#nothing")
		if code != 4 || len(strings.Split(strings.TrimSpace(stderr), "\n")) != 1 {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("no such flake", func(t *testing.T) {
		stderr, code := create("/root/none", "/nowhere#testhost")
		if code != 64 || len(strings.Split(strings.TrimSpace(stderr), "\n")) != 1 {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
}

// TestRollout: a machine that may run any of several releases says which one
// it runs, and a reboot between them is no alarm.
func TestRollout(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	// Each release is of a configuration of its own in the test flake; a rollout
	// is of one, so the older release gets the name of the newer one's.
	dir := m.Path(releases + "/" + otherTag)
	m.Run("mkdir", "/root/candidates")
	m.Run("cp", "-r", releases+"/"+otherTag, "/root/candidates/")
	for _, name := range []string{"closure-testhost-other.json", "release.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, name))
		write(t, filepath.Join(dir, strings.Replace(name, "-other", "", 1)), strings.ReplaceAll(string(data), `"testhost-other"`, `"testhost"`))
	}
	os.Remove(filepath.Join(dir, "closure-testhost-other.files.json.zst"))
	if err := release.WriteSums(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	write(t, m.Path("/root/config.json"), `{
		"configuration": "testhost",
		"release": {"source": ["`+releases+`"], "accept": ["`+tag+`", "`+otherTag+`"]},
		"unsafeUnsigned": true
	}`)
	run := func() answer { return m.report(program, "--config", "/root/config.json", "--output", "json") }
	systems := m.Runner().Systems
	current, older := systems["testhost"].Toplevel, systems["testhost-other"].Toplevel

	a := run()
	a.expect(t, "verified", 0)
	if a.Release == nil || a.Release.Tag != tag {
		t.Errorf("the release that runs: got %+v, want %s", a.Release, tag)
	}
	t.Run("judged before it runs", func(t *testing.T) {
		judge := func() answer {
			// The release as it was published, which evaluates to this system.
			return m.report(program, "candidate", older, "--config", "/root/config.json", "--output", "json",
				"--release", "/root/candidates", "--configuration", "testhost-other")
		}
		a := judge()
		a.expect(t, "verified", 0)
		if c := a.Coverage; c.Paths == 0 || c.Remembered == 0 || c.Hashed+c.Remembered != c.Paths {
			t.Errorf("what both systems have is not hashed again: %+v", c)
		}
		own := m.Run("sh", "-euc", `nix-store -qR `+older+` | grep program-04-1.3$`)
		m.FlipByte(own+"/bin/program-04", 3)
		judge().expect(t, "drifted", 1, "disk-altered "+own+" bin/program-04:content")
		run().expect(t, "verified", 0) // which nothing of that concerns
		m.FlipByte(own+"/bin/program-04", 3)
		judge().expect(t, "verified", 0)
		// Nothing is left to hash of the system that runs.
		a = m.report(program, "candidate", "/run/current-system", "--config", "/root/config.json", "--output", "json")
		a.expect(t, "verified", 0)
		if c := a.Coverage; c.Hashed != 0 || c.Remembered != c.Paths {
			t.Errorf("what earlier runs have hashed is not hashed again: %+v", c)
		}
		// As of a disk, no ledger answers for it.
		a = m.report(program, "candidate", "/run/current-system", "--config", "/root/config.json", "--output", "json", "--store-root", "/")
		if c := a.Coverage; c.Remembered != 0 || c.Hashed != c.Paths {
			t.Errorf("with --store-root not everything is hashed: %+v", c)
		}
	})
	t.Run("reboot pending", func(t *testing.T) {
		m.Activate(current, older)
		a := run()
		a.expect(t, "verified", 0)
		pending := 0
		for _, f := range a.Findings {
			if f.Cause == "pending-reboot" {
				pending++
			}
		}
		if pending != 2 {
			t.Errorf("pending reboot: %d findings, want those of booted-system and init=", pending)
		}
	})
	t.Run("the next boot leads to another one", func(t *testing.T) {
		m.Activate(current, current)
		m.Run("nix-env", "-p", "/nix/var/nix/profiles/system", "--set", older)
		own := m.Run("sh", "-euc", `nix-store -qR `+older+` | grep program-04-1.3$`)
		a := run()
		a.expect(t, "verified", 0)
		if paths := len(m.manifest.Paths); a.Coverage.Paths <= paths || a.Coverage.Hashed != a.Coverage.Paths {
			t.Errorf("%d paths of which the release has %d, %d hashed", a.Coverage.Paths, paths, a.Coverage.Hashed)
		}
		text := func(code int, has, hasNot string) {
			t.Helper()
			out, _, got := m.Exec(t.Context(), program, "--config", "/root/config.json")
			if got != code || !strings.Contains(out, has) || hasNot != "" && strings.Contains(out, hasNot) {
				t.Errorf("exit %d, want %d with %q and not %q:\n%s", got, code, has, hasNot, out)
			}
		}
		text(0, "Reboot when it suits", "")
		m.FlipByte(own+"/bin/program-04", 3)
		run().expect(t, "drifted", 1, "disk-altered "+own) // this release has no listing
		text(1, "leads to an altered system", "Reboot when")
		m.FlipByte(own+"/bin/program-04", 3)
		shared := m.path("program-01-1.1")
		m.FlipByte(shared+"/bin/program-01", 3)
		run().expect(t, "drifted", 1, "disk-altered "+shared+" bin/program-01:content")
		m.FlipByte(shared+"/bin/program-01", 3)
		running := m.path("program-04-1.4") // which the next system does not have
		m.FlipByte(running+"/bin/program-04", 3)
		run().expect(t, "drifted", 1, "disk-altered "+running+" bin/program-04:content")
		m.FlipByte(running+"/bin/program-04", 3)
		m.Run("mv", older, "/root/gone")
		run().expect(t, "drifted", 1, "missing "+older)
		m.Run("mv", "/root/gone", older)
		a = m.report(program, "--config", "/root/config.json", "--output", "json", "--unsafe-skip", "contents")
		a.expect(t, "inconclusive", 4, "pending-unchecked /nix/var/nix/profiles/system")
	})
	t.Run("the boot menu", func(t *testing.T) {
		m.Activate(current, current)
		// As systemd-boot-builder does, with the older one to be chosen.
		m.Run("sh", "-euc", `
			mkdir -p /boot/loader/entries /boot/EFI/nixos
			n=0
			for system in "$@"; do
				n=$((n + 1))
				for part in kernel initrd; do
					from=$(realpath $system/$part)
					name=$(echo "${from#/nix/store/}" | tr / -).efi
					cp --no-preserve=mode $from /boot/EFI/nixos/$name
					eval $part=/EFI/nixos/$name
				done
				printf '%s\n' 'title NixOS' 'sort-key nixos' "version Generation $n NixOS" "linux $kernel" "initrd $initrd" \
					"options init=$system/init $(cat $system/kernel-params)" >/boot/loader/entries/nixos-generation-$n.conf
			done
			printf '%s\n' 'timeout 5' 'default nixos-generation-2.conf' >/boot/loader/loader.conf`, "sh", older, current)
		const entry = "/boot/loader/entries/nixos-generation-2.conf"
		a := run()
		a.expect(t, "verified", 0)
		if a.Coverage.Paths <= len(m.manifest.Paths) {
			t.Errorf("the system that can be chosen was not looked at: %+v", a.Coverage)
		}
		kernel := m.Run("sed", "-n", "s/^linux //p", entry)
		m.FlipByte("/boot"+kernel, 100)
		run().expect(t, "drifted", 1, "boot-altered /boot"+kernel+" kernel")
		m.FlipByte("/boot"+kernel, 100)
		// The same where the menu leads to the other one by itself.
		m.Run("sed", "-i", "s/generation-2/generation-1/", "/boot/loader/loader.conf")
		run().expect(t, "verified", 0)
		m.FlipByte("/boot"+kernel, 100)
		a = run()
		a.expect(t, "drifted", 1, "boot-altered /boot"+kernel+" kernel")
		if !a.has("pending-altered") {
			t.Errorf("what the next boot leads to is not said: %v", a.Findings)
		}
		m.FlipByte("/boot"+kernel, 100)
		m.Run("mv", older, "/root/gone")
		run().expect(t, "drifted", 1, "missing "+older)
		m.Run("mv", "/root/gone", older)
		m.Run("sed", "-i", "s/generation-1/generation-2/", "/boot/loader/loader.conf")
		m.Run("cp", entry, "/root/entry")
		m.Run("sed", "-i", "s,init=[^ ]*,init=/evil/init,", entry)
		run().expect(t, "drifted", 1, "other-entry "+entry)
		edit := func(script string) { m.Run("sh", "-euc", `sed "$1" /root/entry >"$2"`, "sh", script, entry) }
		edit("s,init=[^ ]*,init=" + systems["testhost-unreproducible"].Toplevel + "/init,")
		run().expect(t, "drifted", 1, "other-entry "+entry)
		edit("s,^options.*,& rd.break,")
		a = run()
		a.expect(t, "drifted", 1, "boot-altered "+entry+" options")
		m.Run("sh", "-euc", `cp /root/entry "$1"; echo "$(cat /proc/cmdline) rd.break" >/run/ec-verify-testhost/cmdline`, "sh", entry)
		run().expect(t, "drifted", 1, "command-line-altered /proc/cmdline options")
		m.Run("rm", "-r", "/boot/loader", "/boot/EFI")
	})
	t.Run("the older one runs", func(t *testing.T) {
		m.Activate(older, older)
		a := run()
		// Its manifest is of the same flake under another name, so evaluation
		// is the one thing that differs in this test.
		if a.Release == nil || a.Release.Tag != otherTag {
			t.Errorf("the release that runs: got %+v, want %s", a.Release, otherTag)
		}
		for _, f := range a.Findings {
			if f.Class == "drift" && f.Tier != "eval" {
				t.Errorf("finding: %+v", f)
			}
		}
	})
	t.Run("neither runs", func(t *testing.T) {
		third := systems["testhost-unreproducible"].Toplevel
		m.Activate(third, third)
		a := run()
		if a.Verdict != "drifted" || a.code != 1 {
			t.Errorf("got %s, exit %d", a.Verdict, a.code)
		}
	})
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
