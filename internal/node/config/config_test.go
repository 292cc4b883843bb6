package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/pkg/nar"
)

func TestDefaults(t *testing.T) {
	want := Config{
		Flake: "/etc/every-channel/flake", StoreDir: "/nix/store", StateDir: "/var/lib/ec-verify",
		Nix: Nix{EvalTimeout: Duration(15 * time.Minute)}, Release: Release{Keep: 4, NoticeBefore: Duration(14 * 24 * time.Hour)},
		Rebuild: Rebuild{
			Choice: "none", Share: 10, BuildTimeout: Duration(time.Hour), ScratchSize: 10 << 30, Reserve: 1 << 30, Jobs: 1,
		},
		Neighbour: Neighbour{DropBehind: true, MaxPause: Duration(30 * time.Minute)},
		Journal:   Journal{When: "auto"},
		Live:      Live{OtherEntries: "notice"},
		Ledger:    Ledger{ContentsEvery: Duration(7 * 24 * time.Hour), RebuildEvery: Duration(90 * 24 * time.Hour)},
		Report:    Report{Keep: 100},
	}
	got, err := Parse([]byte("{}"))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Parse of {}: %v (-want +got):\n%s", err, diff)
	}
	c := Default()
	if diff := cmp.Diff(want, c); c.Check() != nil || diff != "" {
		t.Errorf("Default, which Check answers with %v (-want +got):\n%s", c.Check(), diff)
	}
	if c.Read != nar.ReadCached || c.UnsafeUnsigned || c.UnsafeAllowRollback {
		t.Error("a default weakens the verification")
	}
}

// every sets every key, to a value other than its default if there is one.
const every = `{
  "configuration": "ec-runner-x86_64",
  "flake": "/etc/flake",
  "storeRoot": "/mnt",
  "storeDir": "/nix/store",
  "stateDir": "/state",
  "read": "disk",
  "workers": 3,
  "nix": { "binDir": "/opt/nix/bin", "evalTimeout": "90s" },
  "release": {
    "source": [ "/srv/releases", "https://forge.example/owner/repo/releases/download" ],
    "accept": [ "boot-v1", "latest" ],
    "tokenFile": "/run/token",
    "grace": "72h",
    "noticeBefore": "7d",
    "keep": 9
  },
  "trust": { "keys": [ { "name": "release", "file": "/etc/key.pem" } ], "threshold": 1 },
  "rebuild": {
    "choice": "sample",
    "share": 7,
    "firstParty": [ "every-channel-*" ],
    "budget": "2h",
    "buildTimeout": "20m",
    "scratchSize": 2097152,
    "reserve": 0,
    "jobs": 2,
    "substitute": [ "https://cache.example.org" ]
  },
  "neighbour": { "dropBehind": false, "rate": 52428800, "maxPressure": 12.5, "maxPause": "10m" },
  "journal": { "when": "never" },
  "metrics": { "file": "/srv/metrics/ec-verify.prom" },
  "live": { "otherEntries": "drift" },
  "contents": { "budget": "5m" },
  "machine": { "parts": ["etc"], "allow": [{ "match": "/etc/x", "reason": "why", "until": "2026-12-31" }] },
  "ledger": { "contentsEvery": "24h", "rebuildEvery": "240h" },
  "report": { "keyFile": "/etc/key", "dir": "/srv/reports", "keep": 7 },
  "unsafeUnsigned": true,
  "unsafeAllowRollback": true,
  "unsafeSkip": [ "eval", "live" ]
}`

func TestParseEveryKey(t *testing.T) {
	want := Config{
		Configuration: "ec-runner-x86_64", Flake: "/etc/flake", StoreRoot: "/mnt", StoreDir: "/nix/store", StateDir: "/state",
		Read: nar.ReadDisk, Workers: 3,
		Nix: Nix{BinDir: "/opt/nix/bin", EvalTimeout: Duration(90 * time.Second)},
		Release: Release{
			Source: []string{"/srv/releases", "https://forge.example/owner/repo/releases/download"}, Accept: []string{"boot-v1", "latest"},
			TokenFile: "/run/token", Grace: Duration(72 * time.Hour), NoticeBefore: Duration(7 * 24 * time.Hour), Keep: 9,
		},
		Trust: trust.Policy{Keys: []trust.Key{{Name: "release", File: "/etc/key.pem"}}, Threshold: 1},
		Rebuild: Rebuild{
			Choice: rebuild.Sample, Share: 7, FirstParty: []rebuild.Pattern{"every-channel-*"},
			Budget: Duration(2 * time.Hour), BuildTimeout: Duration(20 * time.Minute), ScratchSize: 2 << 20, Jobs: 2,
			Substitute: Substitute{rebuild.Substitution{Wanted: true, From: []string{"https://cache.example.org"}}},
		},
		Neighbour: Neighbour{Rate: 50 << 20, MaxPressure: 12.5, MaxPause: Duration(10 * time.Minute)},
		Journal:   Journal{When: "never"},
		Metrics:   Metrics{File: "/srv/metrics/ec-verify.prom"},
		Live:      Live{OtherEntries: "drift"},
		Contents:  Contents{Budget: Duration(5 * time.Minute)},
		Ledger:    Ledger{ContentsEvery: Duration(24 * time.Hour), RebuildEvery: Duration(240 * time.Hour)},
		Machine: Machine{
			Parts: []string{"etc"}, Allow: []running.Exception{{Match: "/etc/x", Reason: "why", Until: "2026-12-31"}},
		},
		Report:         Report{KeyFile: "/etc/key", Dir: "/srv/reports", Keep: 7},
		UnsafeUnsigned: true, UnsafeAllowRollback: true,
		UnsafeSkip: []report.TierName{report.TierEval, report.TierLive},
	}
	for name, text := range map[string]string{"as it is": every, "CRLF": strings.ReplaceAll(every, "\n", "\r\n"), "one line": strings.ReplaceAll(every, "\n", "")} {
		got, err := Parse([]byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	// What is printed of a configuration is one.
	data, err := json.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("printed and read: %v (-want +got):\n%s", err, diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{``, "the file ends too early; a configuration is one JSON object, at least {}"},
		{"{\n\"workers\": 1,\n", "the file ends too early; a configuration is one JSON object, at least {}"},
		{`[]`, "want one JSON object, not a list"},
		{`"x"`, "want one JSON object, not a string"},
		{`{} {}`, "there is something behind the closing brace"},
		{"{\n\n x}", "'x' does not belong here: want a key in double quotes, or a closing brace"},
		{"\ufeff{}", `the file begins with a byte order mark`},
		{"{ \"flake\": \"/\xff\" }", "a byte that is not UTF-8"},
		{"# comment\n{}", "JSON has no comments"},

		{`{"stordir": "/x"}`, `unknown key "stordir"`},
		{`{"Flake": "/x"}`, `unknown key "Flake"`},
		{`{"release": {"sources": []}}`, `unknown key "release.sources"`},
		{`{"trust": {"keys": [{"path": "/x"}]}}`, `unknown key "trust.keys[0].path"`},
		{"{\"\\u001b[31m\\n\": 1}", `unknown key "\x1b[31m\n"`},
		{"{\"flake\": \"/a\",\n\"flake\": \"/b\"}", `key "flake" is given twice, first in line 1`},
		{`{"nix": {"binDir": "/a", "binDir": "/a"}}`, `key "nix.binDir" is given twice, first in line 1`},

		{`{"flake": 1}`, "flake: want a string, not a number"},
		{`{"metrics": {"file": "x.prom"}}`, `metrics.file: "x.prom" is not an absolute path`},
		{`{"metrics": {"file": "/srv/x.txt"}}`, `metrics.file: "/srv/x.txt": node_exporter reads names that end in .prom, and no others`},
		{`{"journal": {"when": "sometimes"}}`, `journal.when: "sometimes": want auto, always or never`},
		{`{"workers": "4"}`, "workers: want a whole number of a reasonable size, not a string"},
		{`{"workers": 1.5}`, "workers: 1.5 is not a whole number of a reasonable size"},
		{`{"workers": 1e99}`, "workers: 1e99 is not a whole number of a reasonable size"},
		{`{"workers": 99999999999999999999}`, "workers: 99999999999999999999 is not a whole number of a reasonable size"},
		{`{"unsafeUnsigned": "yes"}`, "unsafeUnsigned: want true or false, not a string"},
		{`{"release": []}`, "release: want an object, not a list"},
		{`{"release": {"source": "/srv"}}`, "release.source: want a list, not a string"},
		{`{"unsafeSkip": [true]}`, "unsafeSkip[0]: want a string, not true or false"},
		{`{"nix": {"evalTimeout": "5 minutes"}}`, `nix.evalTimeout: "5 minutes" is not a duration such as 90s, 15m, 72h, 7d or 2w`},
		{`{"nix": {"evalTimeout": "300"}}`, `nix.evalTimeout: "300" is not a duration such as 90s, 15m, 72h, 7d or 2w`},
		{`{"read": "fast"}`, `read: parse read mode "fast": want cached or disk`},

		{`{"flake": "flake"}`, `flake: "flake" is not an absolute path`},
		{`{"flake": "/\u0000"}`, `flake: "/\x00" is not an absolute path`},
		{`{"flake": ""}`, "flake: must not be empty"},
		{"{\"flake\": \"/a\",\n}", "there is a comma before the closing }"},
		{`{"workers" 3}`, "'3' does not belong here: want a colon and a value"},
		{`{"workers": x}`, "'x' does not belong here: want a value"},
		{`{"workers": 3 "flake": "/"}`, "'\"' does not belong here: want a comma and a key in double quotes, or a closing brace"},
		{`{"flake": '/'}`, "strings are in double quotes"},
		{"{\"flake\": \"/a\nb\"}", "a control character in a string"},
		{`{"release.accept": ["a"]}`, `unknown key "release.accept": write { "release": { "accept": … } }`},
		{`{"accept": ["a"]}`, `unknown key "accept": want release.accept`},
		{`{"trust": {"keys": [{"name": "a", "file": "/a", "notAfter": "tomorrow"}]}}`, `trust.keys[0].notAfter: "tomorrow" is not a time such as "2027-01-31T00:00:00Z"`},
		{`{"trust": {"keys": [{"name": "a", "file": "/a", "notAfter": 5}]}}`, `trust.keys[0].notAfter: want a time such as "2027-01-31T00:00:00Z", not a number`},
		{`{"nix": {"evalTimeout": 300}}`, `nix.evalTimeout: want a duration such as "15m" or "7d", not a number`},
		{`{"storeRoot": "mnt"}`, `storeRoot: "mnt" is not an absolute path`},
		{`{"stateDir": "state"}`, `stateDir: "state" is not an absolute path`},
		{`{"stateDir": ""}`, "stateDir: must not be empty"},
		{`{"nix": {"binDir": "bin"}}`, `nix.binDir: "bin" is not an absolute path`},
		{`{"release": {"tokenFile": "token"}}`, `release.tokenFile: "token" is not an absolute path`},
		{`{"configuration": "../x"}`, `configuration: configuration name "../x": want letters`},
		{`{"storeDir": "/gnu/store"}`, `storeDir: /gnu/store is not supported; want /nix/store`},
		{`{"storeDir": "/nix/store/"}`, `storeDir: parse store directory "/nix/store/"`},
		{`{"workers": -1}`, "workers: -1 is not between 0 and 1024"},
		{`{"workers": 1025}`, "workers: 1025 is not between 0 and 1024"},
		{`{"nix": {"evalTimeout": "0s"}}`, "nix.evalTimeout: must be more than 0"},
		{`{"nix": {"evalTimeout": "-1m"}}`, "nix.evalTimeout: must be more than 0"},
		{`{"release": {"grace": "-1s"}}`, "release.grace: must not be negative"},
		{`{"release": {"noticeBefore": "-1s"}}`, "release.noticeBefore: must not be negative"},
		{`{"release": {"keep": 0}}`, "release.keep: 0 is not between 1 and 1000"},
		{`{"release": {"keep": 1001}}`, "release.keep: 1001 is not between 1 and 1000"},
		{`{"release": {"source": ["ftp://host/"]}}`, `release.source[0]: parse source "ftp://host/"`},
		{`{"release": {"accept": ["boot-v1", "../x"]}}`, `release.accept[1]: parse tag "../x"`},
		{`{"unsafeSkip": ["release"]}`, `unsafeSkip[0]: "release" is not a tier that can be skipped: want source, `},
		{`{"unsafeSkip": ["Eval"]}`, `unsafeSkip[0]: "Eval" is not a tier that can be skipped`},
		{`{"trust": {"threshold": 2}}`, "trust: no keys and no identities"},
		{`{"trust": {"keys": [{"name": "a", "file": "/a"}], "threshold": 2}}`, "trust.threshold: 2, want 1 to 1"},
	} {
		c, err := Parse([]byte(tc.text))
		if err == nil || !strings.HasPrefix(unplaced(err), tc.want) {
			t.Errorf("Parse(%s) = %+v, %v, want the error %q", tc.text, c, err, tc.want)
		}
	}
}

// unplaced returns what an error says, without where.
func unplaced(err error) string {
	return regexp.MustCompile(`^\d+:\d+: `).ReplaceAllString(err.Error(), "")
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c, err := Load(write("good.json", `{"workers": 3}`))
	if err != nil || c.Workers != 3 || c.Flake != Default().Flake {
		t.Errorf("Load = %+v, %v", c, err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "none.json"):         "no such file",
		dir:                                     "not a regular file",
		write("bad.json", "{\n\"workers\": x}"): "bad.json:2:12: ",
		write("large.json", strings.Repeat(" ", maxSize)+"{}"): "large.json: larger than 1048576 bytes",
	} {
		if c, err := Load(name); err == nil || !strings.HasPrefix(err.Error(), "configuration") || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s) = %+v, %v, want the error %q", name, c, err, want)
		}
	}
	if _, err := Load(write("full.json", strings.Repeat(" ", maxSize-2)+"{}")); err != nil {
		t.Errorf("Load of the largest file: %v", err)
	}
}

// A pipe that somebody holds open is refused, and not waited for: a test that
// waits ends by its time limit.
func TestLoadPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "config.json")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := Load(fifo); !errors.Is(err, hostfile.ErrNotRegular) {
		t.Errorf("Load of a pipe: %v", err)
	}
}

// A state directory and a source that are within each other, also by way of a
// link: what is kept there would be taken for what is published there.
func TestStateDirOverlapsSource(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "srv/releases"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("srv", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state, source string
		ok            bool
	}{
		{"srv", "srv/releases", false},
		{"srv", "srv", false},
		{"srv/releases/state", "srv/releases", false},
		{"link", "srv/releases", false},
		{"srv", "link/releases/new", false},
		{"srv-2", "srv", true},
		{"srv/..state", "srv/releases", true},
	} {
		config := Default()
		config.StateDir, config.Release.Source = filepath.Join(dir, c.state), []string{"file://" + filepath.Join(dir, c.source)}
		if err := config.Check(); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "within each other") {
			t.Errorf("state directory %s, source %s: %v", c.state, c.source, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, tc := range []struct {
		text    string
		want    time.Duration
		printed string
	}{
		{"0s", 0, "0s"},
		{"1m30s", 90 * time.Second, "1m30s"},
		{"15m0s", 15 * time.Minute, "15m"},
		{"72h0m0s", 72 * time.Hour, "3d"},
		{"1.5s", 1500 * time.Millisecond, "1.5s"},
		{"-1s", -time.Second, "-1s"},
		{"7d", 7 * 24 * time.Hour, "7d"},
		{"1w2d12h", 228 * time.Hour, "9d12h"},
		{"-1d", -24 * time.Hour, "-1d"},
		{"1d30m", 24*time.Hour + 30*time.Minute, "1d30m"},
		{"10h0m1s", 10*time.Hour + time.Second, "10h0m1s"},
		{"20h", 20 * time.Hour, "20h"},
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(tc.text)); err != nil || time.Duration(d) != tc.want {
			t.Errorf("UnmarshalText(%q) = %v, %v, want %v", tc.text, time.Duration(d), err, tc.want)
		}
		got, err := d.MarshalText()
		if string(got) != tc.printed || err != nil {
			t.Errorf("MarshalText of %q = %q, %v, want %q", tc.text, got, err, tc.printed)
		}
		var again Duration
		if err := again.UnmarshalText(got); err != nil || again != d {
			t.Errorf("%q is read as %v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "5", "s", "1 s", "9999999h", "NaN", "1d1w", "d", "1.5d", "--1d", "1d-1h", "+1d", "999999999w", "1w1w"} {
		d := Duration(7)
		if err := d.UnmarshalText([]byte(text)); err == nil || d != 7 {
			t.Errorf("UnmarshalText(%q) = %v, and the value is %v", text, err, d)
		}
	}
}

// Whatever is in a file, it is a configuration that holds or one line that says
// why not.
func FuzzParse(f *testing.F) {
	f.Add([]byte(every))
	f.Add([]byte(`{"release": {"keep": 0}}`))
	f.Add([]byte(`{"a": [[[[]]]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err == nil {
			err = c.Check()
			if err != nil {
				t.Errorf("Parse(%q) took what Check refuses: %v", data, err)
			}
			return
		}
		if strings.Contains(err.Error(), "\n") || err.Error() == "" {
			t.Errorf("Parse(%q): error %q is not one line", data, err)
		}
	})
}
