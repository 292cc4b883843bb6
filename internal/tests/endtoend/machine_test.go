package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
)

const (
	tag        = "boot-v2026.02.28"
	otherTag   = "boot-v2026.01.31"
	releases   = "/srv/releases"
	program    = "/usr/local/bin/ec-verify"
	runTimeout = 10 * time.Minute // on a machine that does much else
)

// machine is a test host that is a runner, with ec-verify and its release.
type machine struct {
	*testhost.Host
	t        *testing.T
	manifest *closure.Manifest
}

// prepared is a directory of what all cases share: the program, layers of hosts, and the
// releases that one host made for all that are like it.
var prepared = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "ec-verify-endtoend-"); err != nil {
		return "", err
	}
	preparedDir = dir
	return dir, testhost.Program(filepath.Join(dir, "bare", program))
})

// preparedDir is what TestMain removes; "" where nothing was prepared.
var preparedDir string

// share returns the file or directory of that name that all cases share. "bare" is a
// layer with the program, "released" one with the program and the releases.
func share(t *testing.T, name string) string {
	t.Helper()
	dir, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func TestMain(m *testing.M) {
	// A test waits for its host more than it computes. -parallel overrides this.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	code := m.Run()
	if preparedDir != "" {
		os.RemoveAll(preparedDir)
	}
	os.Exit(code)
}

// start returns a runner with ec-verify on it, with some Debian packages more, and no
// release.
func start(t *testing.T, with ...string) *machine {
	t.Helper()
	return startWith(t, testhost.Options{Runner: true, With: with, Layers: []string{share(t, "bare")}})
}

// startWith returns a host of the suite that is tested.
func startWith(t *testing.T, opts testhost.Options) *machine {
	t.Helper()
	opts.Suite = os.Getenv("EC_VERIFY_TEST_SUITE")
	return &machine{Host: testhost.Start(t, opts), t: t}
}

// startReleased returns a runner with ec-verify and its own release, which the first call
// makes for all.
func startReleased(t *testing.T, with ...string) *machine {
	t.Helper()
	return startReleasedWith(t, testhost.Options{With: with})
}

// startReleasedWith is startReleased of a host that has more.
func startReleasedWith(t *testing.T, opts testhost.Options) *machine {
	t.Helper()
	released(t)
	opts.Runner, opts.Layers = true, append(opts.Layers, share(t, "released"))
	m := startWith(t, opts)
	m.Run("rm", "-f", "/etc/nftables.conf") // of a package of Debian that few hosts have
	m.manifest = m.readManifest(filepath.Join(share(t, "released"), releases, tag, "closure-testhost.json"))
	return m
}

// releasing is held while a host makes the releases that all others share.
var releasing sync.Mutex

// released makes the releases, and of them a layer, unless that is there.
func released(t *testing.T) {
	t.Helper()
	releasing.Lock()
	defer releasing.Unlock()
	layer := share(t, "released")
	if _, err := os.Stat(layer); err == nil {
		return
	}
	m := start(t)
	for _, r := range []struct{ tag, configuration string }{{tag, "testhost"}, {otherTag, "testhost-other"}} {
		m.Run("env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", "/etc/every-channel/flake#"+r.configuration,
			"--out", releases+"/"+r.tag, "--tag", r.tag, "--best-before", "87600h")
	}
	if out, err := exec.Command("sh", "-euc", `cp -r "$1" "$3.new"; mkdir "$3.new/srv"; cp -r "$2" "$3.new/srv"; mv "$3.new" "$3"`,
		"sh", share(t, "bare"), m.Path(releases), layer).CombinedOutput(); err != nil {
		t.Fatalf("keep the releases: %v\n%s", err, out)
	}
}

func (m *machine) readManifest(file string) *closure.Manifest {
	m.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	manifest, err := closure.DecodeManifest(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return manifest
}

// until waits for a shell command to succeed in the host.
func (m *machine) until(what, command string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	_, stderr, code := m.Exec(ctx, "sh", "-c", `until { `+command+`; } >/dev/null 2>&1; do sleep 0.1; done`)
	if code != 0 {
		m.t.Fatalf("waiting until %s: exit %d %s\n%s", what, code, stderr, m.Run("sh", "-c", "systemctl status --no-pager 'ec-verify*'; systemctl list-timers --all --no-pager; true"))
	}
}

// path returns the one store path of the release whose name is name.
func (m *machine) path(name string) string {
	m.t.Helper()
	var found []string
	for _, info := range m.manifest.Paths {
		if info.Path.Name() == name {
			found = append(found, string(info.Path))
		}
	}
	if len(found) != 1 {
		m.t.Fatalf("store paths called %q in the release: got %q, want one", name, found)
	}
	return found[0]
}

// answer is the JSON report, in the form of docs/report.md.
type answer struct {
	SchemaVersion int
	Kind          string
	Verdict       string
	Against       string
	Configuration string
	Nix           string
	Counts        map[string]int
	Unsafe        []string
	Release       *struct {
		Tag, OutPath string
		Unsigned     bool
	}
	Tiers []struct {
		Name, Status, Why string
		Checked           int
		Asked             bool
	}
	Coverage struct {
		Paths, Hashed, Files, FromCache int
		Remembered, Overdue             int
		Bytes                           int64
		Read                            string
		DatabaseReadOnly                bool
		PastCache, ThroughCache         []string
		Origins                         []struct{ Dir, Type, Source, Device, Root, MountPoint string }
	}
	Standing *struct{ Look, Verdict string }
	GCRoot   *struct{ Path, Why string }
	Findings []finding

	stderr string
	code   int
}

type finding struct {
	Class, Cause, Tier, Path, Field, Want, Got, Detail, ConsequenceOf string
	Files                                                             []struct{ Name, NameBase64, Change, Want, Got string }
}

// String returns the finding in the notation of the cases: "cause path field file:change…",
// without the store directory.
func (f finding) String() string {
	parts := []string{f.Cause}
	if f.Path != "" {
		parts = append(parts, strings.TrimPrefix(f.Path, "/nix/store/"))
	}
	if f.Field != "" {
		parts = append(parts, f.Field)
	}
	for _, file := range f.Files {
		parts = append(parts, file.Name+file.NameBase64+":"+file.Change)
	}
	return strings.Join(parts, " ")
}

// verify runs ec-verify with a JSON report.
func (m *machine) verify(args ...string) answer {
	m.t.Helper()
	base := []string{program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--output", "json"}
	return m.report(append(base, args...)...)
}

// asPolicy writes a configuration that requests what verify requests, so that its runs
// belong to the policy and are no looks; config is added to it.
func (m *machine) asPolicy(config string) {
	m.t.Helper()
	m.write("/etc/ec-verify/config.json", fmt.Sprintf(`{"release": {"source": [%q], "accept": [%q]}, "unsafeUnsigned": true%s}`, releases, tag, config))
}

func (m *machine) report(argv ...string) answer {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	stdout, stderr, code := m.Exec(ctx, argv...)
	a := answer{stderr: stderr, code: code}
	decoder := json.NewDecoder(bytes.NewReader([]byte(stdout)))
	if err := decoder.Decode(&a); err != nil {
		m.t.Fatalf("%q: exit %d, no report: %v\nstdout: %s\nstderr: %s", argv, code, err, stdout, stderr)
	}
	return a
}

// causes returns the findings that are no notices and follow from no others,
// in the form of finding.String, sorted.
func (a answer) causes() []string {
	var out []string
	for _, f := range a.Findings {
		if f.Class != "notice" && f.ConsequenceOf == "" {
			out = append(out, f.String())
		}
	}
	slices.Sort(out)
	return out
}

// expect holds a to a verdict, an exit code, and its causes.
func (a answer) expect(t *testing.T, verdict string, code int, causes ...string) {
	t.Helper()
	for i := range causes {
		causes[i] = strings.ReplaceAll(causes[i], "/nix/store/", "")
	}
	slices.Sort(causes)
	if a.Verdict != verdict || a.code != code {
		t.Errorf("got %s, exit %d; want %s, exit %d", a.Verdict, a.code, verdict, code)
	}
	if got := a.causes(); !slices.Equal(got, causes) {
		t.Errorf("findings:\n got  %s\n want %s", strings.Join(got, "\n      "), strings.Join(causes, "\n      "))
	}
	if t.Failed() {
		t.Logf("stderr: %s", a.stderr)
		for _, f := range a.Findings {
			t.Logf("%+v", f)
		}
	}
}

func (a answer) tier(name string) (status string, checked int) {
	for _, t := range a.Tiers {
		if t.Name == name {
			return t.Status, t.Checked
		}
	}
	return "", 0
}
