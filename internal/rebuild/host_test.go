package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
)

// machine is a test host that is a runner, prepared for rebuilds.
type machine struct {
	*testhost.Host
	t             *testing.T
	configuration string
	manifest      *closure.Manifest
}

const (
	program  = "/usr/local/bin/ec-verify"
	driver   = "/usr/local/bin/driver"
	stateDir = "/var/lib/ec-verify/rebuild"
)

// prepared is a layer of a host with a static ec-verify, which makes manifests, and this
// test as a static program.
var prepared = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ec-verify-rebuild-")
	if err != nil {
		return "", err
	}
	preparedDir = dir
	layer := filepath.Join(dir, "layer")
	return layer, errors.Join(
		testhost.Program(filepath.Join(layer, program)),
		testhost.Test("every.channel/ec-verify/internal/rebuild", filepath.Join(layer, driver)))
})

// preparedDir is what TestMain removes; "" where nothing was prepared.
var preparedDir string

// startMachine returns a runner of a configuration of testdata/rebuild.
func startMachine(t *testing.T, configuration string) *machine {
	t.Helper()
	layer, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	h := testhost.Start(t, testhost.Options{
		Suite: os.Getenv("EC_VERIFY_TEST_SUITE"), Flake: "../../testdata/rebuild", Configuration: configuration, Layers: []string{layer},
	})
	m := &machine{Host: h, t: t, configuration: configuration}
	h.Run("env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", h.Runner().Source+"#"+configuration,
		"--out", "/srv/release", "--tag", "boot-v1")
	m.readManifest()
	return m
}

func (m *machine) manifestFile() string { return "/srv/release/closure-" + m.configuration + ".json" }

func (m *machine) readManifest() {
	m.t.Helper()
	data, err := os.ReadFile(m.Path(m.manifestFile()))
	if err != nil {
		m.t.Fatal(err)
	}
	if m.manifest, err = closure.DecodeManifest(data); err != nil {
		m.t.Fatal(err)
	}
}

// writeManifest puts m.manifest, altered, in the place of the one that was made.
func (m *machine) writeManifest() {
	m.t.Helper()
	data, err := m.manifest.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(m.manifestFile()), data, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// path returns the one store path of the manifest of that name.
func (m *machine) path(name string) closure.StorePath {
	m.t.Helper()
	for _, info := range m.manifest.Paths {
		if info.Path.Name() == name {
			return info.Path
		}
	}
	m.t.Fatalf("the manifest has no path called %q", name)
	return ""
}

// deriver returns the derivation of the path of that name.
func (m *machine) deriver(name string) closure.StorePath {
	return m.manifest.Closure()[m.path(name)].Deriver
}

func (m *machine) request() driverRequest {
	return driverRequest{
		Dir: stateDir, Policy: Policy{Choice: All}, Limits: Limits{Build: time.Minute},
		Manifest: m.manifestFile(), Source: closure.StorePath(m.Runner().Source),
	}
}

// command returns the driver's command line.
func (m *machine) command(r driverRequest) []string {
	m.t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		m.t.Fatal(err)
	}
	return []string{"env", driverEnv + "=" + string(text), driver}
}

func (m *machine) rebuild(r driverRequest) driverAnswer {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	stdout, stderr, code := m.Exec(ctx, m.command(r)...)
	var a driverAnswer
	if code != 0 {
		m.t.Fatalf("exit %d: %s", code, stderr)
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(stdout))).Decode(&a); err != nil {
		m.t.Fatalf("no answer: %v\n%s\n%s", err, stdout, stderr)
	}
	return a
}

// outcomes are the results other than "reproduced", in the notation of the cases:
// "name status…", ascending.
func (a *driverAnswer) outcomes() []string {
	var out []string
	for _, r := range a.Results {
		text := r.Name + " " + string(r.Status)
		for _, differ := range r.Differ {
			text += " " + differ
		}
		if len(r.Listed) > 0 {
			text += fmt.Sprintf(" listed%v", r.Listed)
		}
		if r.Input != "" {
			text += fmt.Sprintf(" %s by %s", r.Input, r.Witness)
		}
		if text != r.Name+" reproduced" {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

func (a *driverAnswer) expect(t *testing.T, want ...string) {
	t.Helper()
	if a.Error != "" {
		t.Fatalf("error: %s (%s)", a.Error, a.Status)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, a.outcomes()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
		for _, r := range a.Results {
			if r.Detail != "" {
				t.Logf("%s: %s", r.Name, r.Detail)
			}
		}
	}
}

// leavesNothing runs do and holds the host to what it was before: Nix's own
// files, processes, mounts, and no more of the scratch directory than itself.
func (m *machine) leavesNothing(do func()) {
	m.t.Helper()
	before := m.NixState()
	do()
	if m.NixState() != before {
		m.t.Error("something was written to the machine's store or database")
	}
	if left := m.remains(); left != "" {
		m.t.Errorf("left behind:\n%s", left)
	}
	if files := m.Run("find", stateDir, "-mindepth", "1"); files != "" {
		m.t.Errorf("left in the scratch directory:\n%s", files)
	}
}

// remains returns the processes and mounts of rebuilds, and their lock.
func (m *machine) remains() string {
	m.t.Helper()
	return m.Run("sh", "-c", `
		for p in /proc/[0-9]*; do [ $p != /proc/$$ ] || continue
			[ "$(readlink $p/exe)" != "`+driver+`" ] || echo "process $p $(tr '\0' ' ' <$p/cmdline)"
			case $(tr '\0' ' ' <$p/cmdline) in *`+stateDir+`*) echo "process $p";; esac
			case $(id -nu $(stat -c %u $p) 2>/dev/null) in nixbld*) echo "builder $p $(tr '\0' ' ' <$p/cmdline)";; esac
			grep -h `+stateDir+` $p/mountinfo
		done 2>/dev/null
		[ ! -d `+stateDir+` ] || flock --nonblock `+stateDir+` true || echo locked`)
}

func TestCases(t *testing.T) {
	t.Parallel()
	m := startMachine(t, "cases")
	m.manifest.Unreproducible = []closure.Unreproducible{
		{DrvPath: m.deriver("clock-listed"), Outputs: []string{"out"}, Reason: "a clock"},
		{DrvPath: m.deriver("part-07"), Outputs: []string{"out"}, Reason: "it once was"},
	}
	m.writeManifest()
	r := m.request()
	r.Limits.Build, r.Limits.Scratch = 25*time.Second, 200<<20
	want := []string{
		"clock-listed differs out :content listed[out]",
		"clock-new differs out uuid:content",
		"endless timed-out",
		"fails failed",
		"filler no-room",
		"pair differs second :content",
		"part-07 reproduced listed[out]",
		"triple differs dev :content doc :content",
	}
	t.Run("as built", func(t *testing.T) {
		var a driverAnswer
		m.leavesNothing(func() { a = m.rebuild(r) })
		a.expect(t, want...)
		if a.Candidates != len(a.Results) || len(a.Results) < 43 {
			t.Errorf("%d results of %d candidates, want all of 43 and more", len(a.Results), a.Candidates)
		}
		if got := []string{"seed"}; !slices.Equal(a.Claimed, got) {
			t.Errorf("inputs known by the database alone: got %q, want %q", a.Claimed, got)
		}
	})
	// From here on without those that only take time.
	r.Limits.Build = time.Minute
	r.Policy = Policy{Choice: FirstParty, FirstParty: []Pattern{"part-0*", "grown", "after-clock", "nixos-system-*"}}
	grown := func(outcome ...string) []string { return append(outcome, "part-07 reproduced listed[out]") }
	t.Run("an input altered on disk", func(t *testing.T) {
		m.FlipByte(string(m.path("part-03"))+"/03", 3)
		defer m.FlipByte(string(m.path("part-03"))+"/03", 3)
		a := m.rebuild(r)
		var want []string
		for _, n := range []int{4, 5, 6, 8, 9} {
			want = append(want, fmt.Sprintf("part-%02d input-bad part-03 by manifest", n))
		}
		a.expect(t, append(want, "nixos-system-cases-1 input-bad part-03 by manifest", "part-07 input-bad part-03 by manifest")...)
	})
	t.Run("an input altered on disk and in the database", func(t *testing.T) {
		seed := m.Run("sh", "-c", "echo /nix/store/*-seed")
		m.FlipByte(seed, 1)
		defer m.FlipByte(seed, 1)
		a := m.rebuild(r)
		a.expect(t, grown("grown input-bad seed by database")...)
	})
	t.Run("an input is absent", func(t *testing.T) {
		m.Run("sh", "-c", "nix-store --delete /nix/store/*-seed")
		a := m.rebuild(r)
		a.expect(t, grown("grown input-missing seed by ")...)
		if len(a.Claimed) > 0 {
			t.Errorf("inputs known by the database alone: %q", a.Claimed)
		}
	})
}
