package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/repeat"
	"every.channel/ec-verify/internal/tests/testhost"
)

// gated is a machine that runs the release tag, with the system of otherTag beside it,
// whose configuration accepts both, signed.
type gated struct {
	*machine
	old, next string // toplevels
	key       string
}

func startGated(t *testing.T, with ...string) *gated {
	t.Helper()
	return startGatedWith(t, testhost.Options{With: with})
}

// startGatedWith is startGated of a host that has more.
func startGatedWith(t *testing.T, opts testhost.Options) *gated {
	t.Helper()
	m := startReleasedWith(t, opts)
	key, public := testhost.SigningKey(t)
	m.write("/etc/ec-verify/ci.pub", public)
	systems := m.Runner().Systems
	g := &gated{m, systems["testhost"].Toplevel, systems["testhost-other"].Toplevel, key}
	g.accept(`"accept": ["` + tag + `", "` + otherTag + `"]`)
	for _, r := range []string{tag, otherTag} {
		m.sign(releases+"/"+r, key)
	}
	return g
}

// accept writes a configuration with members of release, and others beside that.
func (g *gated) accept(members string, more ...string) {
	g.t.Helper()
	g.write("/etc/ec-verify/config.json", fmt.Sprintf(`{"release": {"source": [%q], %s},
		"trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]}%s}`, releases, members, strings.Join(more, "")))
}

// switched is the JSON that a switch prints.
type switched struct {
	Kind, Verdict, Action, Detail string
	DryRun, Activated             bool
	Generation                    int
	Imports                       *struct {
		From              string
		Paths, Size, Here int
	}
	Changes []struct {
		Name          string
		Before, After []string
		Size          int64
	}
	Report answer
	code   int
	stderr string
}

func (g *gated) run(args ...string) switched {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	stdout, stderr, code := g.Exec(ctx, append([]string{program, "switch", "--output", "json"}, args...)...)
	s := switched{code: code, stderr: stderr}
	if err := json.NewDecoder(bytes.NewReader([]byte(stdout))).Decode(&s); err != nil {
		g.t.Fatalf("switch %q: exit %d, no JSON: %v\n%s\n%s", args, code, err, stdout, stderr)
	}
	s.Report.code, s.Report.stderr = code, stderr
	return s
}

// state is where everything that a switch may touch leads, and what it may leave.
func (g *gated) state() string {
	g.t.Helper()
	return g.Run("sh", "-euc", `
		cd /nix/var/nix/profiles; for f in system*; do echo "$f $(readlink "$f")"; done
		echo current $(readlink /run/current-system)
		find /nix/var/nix/gcroots -name '*ec-verify*' ! -path '*/auto/*'
		systemctl list-units --all --plain --no-legend ec-verify-switch.service`)
}

// back has the machine run and boot the old system, which is the newest generation.
func (g *gated) back() {
	g.t.Helper()
	g.Run("sh", "-euc", `nix-env -p /nix/var/nix/profiles/system --set `+g.old+`; ln -sfn `+g.old+` /run/current-system`)
}

func (g *gated) leads(name string) string {
	g.t.Helper()
	return g.Run("realpath", name)
}

// raced has a script run in the middle of the next switch, with the lock of the profile:
// when a switch waits for that, everything was hashed.
func (g *gated) raced(script string, args ...string) {
	g.t.Helper()
	g.Run(append([]string{
		"systemd-run", "--quiet", "--unit=racer", "--collect", "--property=Type=exec",
		"flock", "/nix/var/nix/profiles/system.lock", "sh", "-euc", "touch /run/racer" + waitForLock + script,
	}, args...)...)
	g.until("the racer has the lock", "rm /run/racer")
}

const waitForLock = `
	until ls -l $(grep -lx ec-verify /proc/[0-9]*/comm 2>/dev/null | sed s/comm/fd/) 2>/dev/null | grep -q profiles/system.lock; do sleep 0.05; done
`

func TestSwitch(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	const profile = "/nix/var/nix/profiles/system"
	expect := func(t *testing.T, s switched, verdict string, code int, causes ...string) {
		t.Helper()
		s.Report.expect(t, verdict, code, causes...)
		if s.Verdict != verdict {
			t.Errorf("verdict %s beside a report with %s", s.Verdict, s.Report.Verdict)
		}
		if t.Failed() {
			t.Logf("%+v", s)
		}
	}
	path := func(name string) string { return g.Run("sh", "-euc", "nix-store -qR "+g.next+" | grep -e -"+name+"$") }
	file := path("program-04-1.3") + "/bin/program-04"
	// refused runs a case that must leave everything as it is.
	refused := func(name string, do func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			before := g.state()
			do(t)
			if after := g.state(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	refused("dry run", func(t *testing.T) {
		before := g.NixState()
		s := g.run(otherTag, "--dry-run")
		expect(t, s, "verified", 0)
		if !s.DryRun || s.Activated || len(s.Changes) == 0 || s.Report.Coverage.Hashed != s.Report.Coverage.Paths {
			t.Errorf("%+v", s)
		}
		if g.NixState() != before {
			t.Error("it wrote to what Nix keeps")
		}
		text := g.Run(program, "switch", otherTag, "--dry-run")
		if !strings.Contains(text, "  program: ") || !strings.Contains(text, "without --dry-run the system runs now and is booted from now on") || strings.Contains(text, "look:") {
			t.Error(text)
		}
	})
	t.Run("the standing of the machine", func(t *testing.T) {
		g.Exec(t.Context(), program)
		standing := g.status().Standing
		if s := g.run(otherTag, "--dry-run"); s.Report.Standing == nil || s.Report.Standing.Verdict != standing.Verdict || standing.Verdict == "inconclusive" {
			t.Errorf("%+v, want %s", s.Report.Standing, standing.Verdict)
		}
	})
	refused("a user who is not root", func(t *testing.T) {
		stdout, stderr, code := g.Exec(t.Context(), "setpriv", "--reuid=nobody", "--clear-groups", program, "switch", otherTag, "--output", "json")
		if code != 4 || !strings.Contains(stdout, `"detail":"only root can switch; any user can use --dry-run"`) || !strings.Contains(stdout, `"verdict":"inconclusive"`) {
			t.Errorf("exit %d: %s\n%s", code, stdout, stderr)
		}
	})
	refused("a byte", func(t *testing.T) {
		g.FlipByte(file, 3)
		defer g.FlipByte(file, 3)
		s := g.run(otherTag)
		expect(t, s, "drifted", 1, "disk-altered "+filepath.Base(path("program-04-1.3"))+" bin/program-04:content")
		if s.Changes != nil { // null, since nothing was foretold
			t.Errorf("%+v", s.Changes)
		}
	})
	refused("a path is missing", func(t *testing.T) {
		p := path("program-04-1.3")
		g.Run("mv", p, "/nix/away")
		defer g.Run("mv", "/nix/away", p)
		expect(t, g.run(g.next), "drifted", 1, "missing "+filepath.Base(p))
	})
	refused("a database that lies", func(t *testing.T) {
		p := path("program-04-1.3")
		hash := g.SQL("select hash from ValidPaths where path = '" + p + "'")
		g.SQL("update ValidPaths set hash = 'sha256:" + strings.Repeat("0", 64) + "' where path = '" + p + "'")
		defer g.SQL("update ValidPaths set hash = '" + hash + "' where path = '" + p + "'")
		expect(t, g.run(otherTag), "drifted", 1, "database-altered "+filepath.Base(p)+" hash")
	})
	refused("unsigned, whatever the configuration says", func(t *testing.T) {
		bundle := g.Path(releases + "/" + otherTag + "/" + release.BundleName)
		data, err := os.ReadFile(bundle)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(bundle)
		defer write(t, bundle, string(data))
		g.accept(`"accept": ["`+tag+`", "`+otherTag+`"]`, `, "unsafeUnsigned": true`)
		defer g.accept(`"accept": ["` + tag + `", "` + otherTag + `"]`)
		g.Run("rm", "-rf", "/var/lib/ec-verify/releases")
		s := g.run(otherTag)
		if s.code != 3 && s.code != 4 || s.Activated {
			t.Errorf("%+v", s)
		}
	})
	refused("another configuration", func(t *testing.T) {
		g.accept(`"accept": ["`+tag+`", "`+otherTag+`"]`, `, "configuration": "testhost"`)
		defer g.accept(`"accept": ["` + tag + `", "` + otherTag + `"]`)
		if s := g.run(otherTag); s.code != 3 && s.code != 4 || s.Verdict == "verified" {
			t.Errorf("%+v", s)
		}
		g.accept(`"accept": ["`+tag+`"]`, `, "configuration": "testhost"`)
		expect(t, g.run(g.next), "drifted", 1, "other-system "+filepath.Base(g.next))
	})
	refused("not accepted", func(t *testing.T) {
		g.accept(`"accept": ["` + tag + `"]`)
		defer g.accept(`"accept": ["` + tag + `", "` + otherTag + `"]`)
		expect(t, g.run(otherTag), "untrusted", 3, "release-not-accepted "+otherTag)
		expect(t, g.run(g.next), "drifted", 1, "other-system "+filepath.Base(g.next))
	})
	for name, lock := range map[string]string{
		"another switch of NixOS's own": "/run/nixos/switch-to-configuration.lock",
		"another switch of this one":    "/run/nixos/ec-verify-switch.lock",
	} {
		refused(name, func(t *testing.T) {
			g.Run("mkdir", "-p", "/run/nixos")
			_, stderr, code := g.Exec(context.Background(), "flock", lock, program, "switch", otherTag)
			if code != 4 || !strings.Contains(stderr, "another switch is under way ("+lock+")") {
				t.Errorf("exit %d: %s", code, stderr)
			}
		})
	}
	for name, unit := range map[string]string{"a unit of that name": "ec-verify-switch.service", "a drop-in for it": "ec-verify-switch.service.d/x.conf"} {
		refused(name, func(t *testing.T) {
			at := "/run/systemd/system/" + unit
			g.Run("sh", "-euc", `mkdir -p $(dirname `+at+`); printf '[Service]\nExecStart=\nExecStart=/bin/touch /tmp/planted\n' >`+at+`; systemctl daemon-reload`)
			defer g.Run("sh", "-euc", "rm "+at+"; systemctl daemon-reload; [ ! -e /tmp/planted ]")
			if s := g.run(otherTag); s.code != 4 || s.Activated || !strings.Contains(s.Detail, at) {
				t.Errorf("%+v", s)
			}
		})
	}
	refused("no room for what is printed", func(t *testing.T) {
		const log = "/var/lib/ec-verify/switch.log"
		g.Run("sh", "-euc", "rm -f "+log+"; ln -s /tmp/away "+log)
		defer g.Run("rm", log)
		if s := g.run(otherTag); s.code != 4 || s.Activated {
			t.Errorf("%+v", s)
		}
	})
	refused("altered while the profile's lock is waited for", func(t *testing.T) {
		g.raced(`
			mv ` + file + ` /tmp/away; cp -p /tmp/away ` + file + `; echo x >>` + file + `; touch -r /tmp/away ` + file)
		s := g.run(otherTag)
		g.Run("sh", "-euc", "mv /tmp/away "+file)
		expect(t, s, "drifted", 1, "disk-altered "+filepath.Base(path("program-04-1.3")))
		if len(s.Report.Findings) == 0 || s.Report.Findings[0].Detail != "it was altered after it was hashed, before it was activated" {
			t.Errorf("%+v", s)
		}
	})
	refused("a path swapped for another while the profile's lock is waited for", func(t *testing.T) {
		// By renames alone, of a path that has the times of the one that was hashed.
		p := path("program-04-1.3")
		g.Run("sh", "-euc", `cp -a $1 /nix/good; cp -a $1 /nix/evil; echo x >>/nix/evil/bin/program-04; touch -r $1/bin/program-04 /nix/evil/bin/program-04; mv $1 /nix/was; mv /nix/good $1`, "sh", p)
		g.raced(`
			mv -T $0 /nix/good; mv -T /nix/evil $0`, p)
		s := g.run(otherTag)
		g.Run("sh", "-euc", `rm -rf $1 /nix/good; mv /nix/was $1`, "sh", p)
		expect(t, s, "drifted", 1, "disk-altered "+filepath.Base(p))
		if len(s.Report.Findings) == 0 || s.Report.Findings[0].Detail != "it was altered after it was hashed, before it was activated" {
			t.Errorf("%+v", s)
		}
	})
	refused("mounted over while the profile's lock is waited for", func(t *testing.T) {
		// What was hashed is shown, and something else lies beneath.
		p := path("program-04-1.3")
		g.Run("sh", "-euc", `cp -a $1 /nix/good; cp -a $1 /nix/was`, "sh", p)
		g.raced(`
			echo x >>$0/bin/program-04; mount --bind /nix/good $0`, p)
		s := g.run(otherTag)
		g.Run("sh", "-euc", `umount $1; rm -rf $1 /nix/good; mv /nix/was $1`, "sh", p)
		expect(t, s, "inconclusive", 4, "mounted-over "+filepath.Base(p))
	})
	refused("another store while the profile's lock is waited for", func(t *testing.T) {
		p := path("program-04-1.3")
		g.Run("sh", "-euc", `cp -a /nix/store /nix/store2; echo x >>/nix/store2/$(basename $1)/bin/program-04`, "sh", p)
		g.raced(`
			mount --bind /nix/store2 /nix/store`)
		s := g.run(otherTag)
		g.Run("sh", "-euc", "umount -l /nix/store; rm -rf /nix/store2")
		expect(t, s, "inconclusive", 4, "mounted-over /nix/store")
	})
	refused("a dry run with a source, and all is here", func(t *testing.T) {
		s := g.run(otherTag, "--dry-run", "--from", "/srv")
		expect(t, s, "verified", 0)
		if s.Imports == nil || s.Imports.Paths != 0 || s.Imports.Here != s.Report.Coverage.Paths {
			t.Errorf("%+v", s.Imports)
		}
	})

	t.Run("boot", func(t *testing.T) {
		s := g.run(otherTag, "boot")
		expect(t, s, "verified", 0)
		if !s.Activated || g.leads(profile) != g.next {
			t.Errorf("%+v, the profile leads to %s", s, g.leads(profile))
		}
	})
	g.back()
	t.Run("test", func(t *testing.T) {
		expect(t, g.run(g.next, "test"), "verified", 0)
		if g.leads(profile) != g.old || g.leads("/run/current-system") != g.next {
			t.Error(g.state())
		}
	})
	g.back()
	// From here on, garbage is collected whenever a system is judged.
	g.Run("sh", "-euc", `
		mkdir -p /usr/local/lib/gc-nix; cd /usr/local/lib/gc-nix
		ln -sf /usr/bin/nix-store /usr/bin/nix-build /usr/bin/nix-instantiate .
		printf '#!/bin/sh\n/usr/bin/env -i PATH=/usr/bin nix-store --gc >>/tmp/gc.log 2>&1\nexec /usr/bin/nix "$@"\n' >nix
		chmod 755 nix
		rm /var/lib/ec-verify-testhost/roots/testhost-other`)
	g.accept(`"accept": ["`+tag+`", "`+otherTag+`"]`, `, "nix": {"binDir": "/usr/local/lib/gc-nix"}`)
	t.Run("candidate", func(t *testing.T) { g.protects(t, file) })
	t.Run("switch", func(t *testing.T) {
		s := g.run(otherTag)
		expect(t, s, "verified", 0)
		if g.leads(profile) != g.next || g.leads("/run/current-system") != g.next {
			t.Error(g.state())
		}
		if log := g.Run("cat", "/tmp/gc.log"); !strings.Contains(log, "store paths deleted") {
			t.Errorf("no garbage was collected: %s", log)
		}
		if strings.Contains(g.state(), "ec-verify") {
			t.Errorf("left over: %s", g.state())
		}
	})
	refused("an older one", func(t *testing.T) {
		g.accept(`"accept": []`)
		// The release that runs is remembered as accepted; the other one is older.
		g.Run("sh", "-euc", `sed -i 's/2026-09-21/2026-09-20/' `+releases+`/`+tag+`/release.json`)
		if err := release.WriteSums(t.Context(), g.Path(releases+"/"+tag)); err != nil {
			t.Fatal(err)
		}
		g.Run("rm", "-rf", "/var/lib/ec-verify/releases", "/var/lib/ec-verify/accepted.json")
		g.sign(releases+"/"+tag, g.key)
		expect(t, g.run(otherTag, "boot"), "verified", 0)
		expect(t, g.run(tag), "untrusted", 3, "release-rolled-back "+tag)
	})
}

// TestSwitchKilled kills a switch at many moments: what the machine runs and boots
// is wholly the old system or the new one, and the next switch goes through.
func TestSwitchKilled(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	begin := time.Now()
	if s := g.run(otherTag); s.code != 0 {
		t.Fatalf("%+v", s)
	}
	took := time.Since(begin)
	// After a time, and after something has happened: what takes longest is not what
	// matters most.
	var moments []string
	kills := repeat.Times(t, 16)
	for i := range kills / 2 {
		moments = append(moments, fmt.Sprintf("sleep %.3f", took.Seconds()*3*float64(i)/float64(kills)))
	}
	for _, happened := range []string{
		"[ -L /nix/var/nix/gcroots/ec-verify-switch ]",
		"[ -e /nix/var/nix/profiles/system.lock ]",
		`[ "$(realpath /nix/var/nix/profiles/system)" = ` + g.next + " ]",
		`[ "$(readlink /run/current-system)" = ` + g.next + " ]",
	} {
		for i := range kills / 8 {
			moments = append(moments, fmt.Sprintf("until %s || ! kill -0 $pid 2>/dev/null; do :; done; sleep %.3f", happened, 0.4*float64(i)/float64(kills)))
		}
	}
	seen := map[string]int{}
	for _, moment := range moments {
		g.back()
		g.Run("bash", "-uc", "rm -f /nix/var/nix/profiles/system.lock; "+program+" switch "+otherTag+" >/dev/null 2>&1 & pid=$!; "+moment+"; kill -KILL $pid 2>/dev/null; wait; true")
		// What it asked for before it was killed, systemd hears before what it is asked
		// now: a job that waits is of a script that is still to begin.
		g.until("its script has ended", `[ -z "$(systemctl list-jobs --no-legend)" ] && case $(systemctl show -P ActiveState ec-verify-switch.service) in activating | deactivating) false ;; esac`)
		profile, current := g.leads("/nix/var/nix/profiles/system"), g.leads("/run/current-system")
		for _, p := range []string{profile, current} {
			if p != g.old && p != g.next {
				t.Fatalf("killed after %q: %s", moment, g.state())
			}
		}
		if current == g.next && profile != g.next {
			t.Errorf("killed after %q: the new system runs, and is not booted", moment)
		}
		seen[fmt.Sprint(profile == g.next, current == g.next)]++
	}
	t.Logf("%d kills left (profile new, running new): %v", len(moments), seen)
	g.back()
	if s := g.run(otherTag); s.code != 0 || g.leads("/run/current-system") != g.next {
		t.Errorf("%+v", s)
	}
	if left := g.state(); strings.Contains(left, "ec-verify") {
		t.Errorf("left over: %s", left)
	}
}

// TestSwitchRaced switches beside a writer that never rests, which swaps a path for an
// altered one and back: what is refused leaves everything as it was, and what is not says
// verified of bytes that are right, or that they were altered while it was activated.
func TestSwitchRaced(t *testing.T) {
	t.Parallel()
	g := startGated(t)
	p := g.Run("sh", "-euc", "nix-store -qR "+g.next+" | grep -e -program-04-1.3$")
	g.Run("sh", "-euc", `cp -a $1 /nix/good; cp -a $1 /nix/evil; echo x >>/nix/evil/bin/program-04; touch -r $1/bin/program-04 /nix/evil/bin/program-04; mv $1 /nix/was; mv /nix/good $1`, "sh", p)
	g.Run("systemd-run", "--quiet", "--unit=swapper", "--collect", "--property=Type=exec", "sh", "-euc",
		`while :; do mv --exchange -T "$0" /nix/evil; done`, p)
	seen := map[string]int{}
	const swapped = "it was altered while it was activated"
	for i := range 6 {
		g.back()
		a := g.report(program, "candidate", otherTag, "--output", "json")
		root := g.Run("sh", "-c", "ls -A /nix/var/nix/gcroots | grep ec-verify; true")
		if verified := a.Verdict == "verified"; verified != (root == "ec-verify-candidate") || verified != (a.GCRoot != nil) || a.code == 0 != verified {
			t.Errorf("run %d: exit %d, %s, and the root %q, %+v", i, a.code, a.Verdict, root, a.GCRoot)
		}
		seen["candidate "+a.Verdict]++
		before := g.state()
		s := g.run(otherTag)
		now := g.leads("/nix/var/nix/profiles/system") == g.next
		switch {
		case !now:
			if after := g.state(); s.code == 0 || s.Verdict == "verified" || s.Activated || after != before {
				t.Errorf("run %d: exit %d, before:\n%s\nafter:\n%s", i, s.code, before, after)
			}
		case s.code == 0:
			if s.Verdict != "verified" || !s.Activated || g.leads("/run/current-system") != g.next {
				t.Errorf("run %d: %+v", i, s)
			}
		case s.code != 1 || len(s.Report.Findings) == 0 || !strings.HasPrefix(s.Report.Findings[0].Detail, swapped):
			t.Errorf("run %d: %+v", i, s)
		}
		seen[fmt.Sprint(s.Verdict, " switched: ", now)]++
	}
	t.Log(seen)
	g.Run("sh", "-euc", `systemctl stop swapper; rm -rf $1; mv /nix/was $1`, "sh", p)
	g.back()
	if s := g.run(otherTag); s.code != 0 || g.leads("/run/current-system") != g.next {
		t.Errorf("undisturbed: %+v", s)
	}
}
