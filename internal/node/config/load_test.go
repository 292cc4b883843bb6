package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every mistake is found at once, each at its place.
func TestAllMistakes(t *testing.T) {
	const text = `{
  "workers": "many",
  "stateDir": "state",
  "release": {
    "sources": [],
    "accept": [ "boot-v1", 7, "../x" ],
    "keep": 0
  },
  "trust": { "keys": [ { "name": "ä", "file": "/a" }, { "nam": "b" } ] },
  "workers": 2
}`
	_, err := Parse([]byte(text))
	var mistakes *Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("Parse: %v", err)
	}
	var got []string
	for _, m := range mistakes.All {
		got = append(got, m.Error())
	}
	want := []string{
		`2:14: workers: want a whole number of a reasonable size, not a string`,
		`3:15: stateDir: "state" is not an absolute path`,
		`5:5: unknown key "release.sources"`,
		`6:28: release.accept[1]: want a string, not a number`,
		`7:13: release.keep: 0 is not between 1 and 1000`,
		`9:24: trust.keys[0]: name "ä": want 1 to 64 letters, digits, blanks and '@', '.', '_', '+', '-'`,
		`9:57: unknown key "trust.keys[1].nam"`,
		`10:3: key "workers" is given twice, first in line 2`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if want := "2:14: workers: want a whole number of a reasonable size, not a string (and 7 more mistakes: ec-verify config check lists all)"; err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
}

// A file with any number of mistakes has a list with an end.
func TestManyMistakes(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range 3 * maxMistakes {
		fmt.Fprintf(&b, "\"unknown%d\": 1,\n", i)
	}
	_, err := Parse([]byte(b.String() + `"workers": 1}`))
	var mistakes *Mistakes
	if !errors.As(err, &mistakes) || len(mistakes.All) != maxMistakes || !mistakes.More {
		t.Errorf("Parse: %v", err)
	}
	_, err = Parse([]byte(`{"machine": {"allow": [` + strings.Repeat("{},", 3*maxMistakes) + `{}]}}`))
	if !errors.As(err, &mistakes) || len(mistakes.All) != maxMistakes || !mistakes.More {
		t.Errorf("Parse, of values: %v", err)
	}
}

func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.json", `{"workers": 3, "release": {"accept": ["a", "b"], "keep": 9}, "nix": {"binDir": "/opt"}}`)
	write("config.d/20-later.json", `{"release": {"accept": ["c"]}, "nix": {"binDir": null}}`)
	write("config.d/10-first.json", "{\n\"workers\": 4, \"release\": {\"accept\": [\"d\"], \"keep\": 8}}")
	write("config.d/.hidden.json", `no`)
	write("config.d/notes.txt", `no`)
	main := filepath.Join(dir, "config.json")
	l, err := Read(main)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(l.Release.Accept, []string{"c"}) || l.Release.Keep != 8 || l.Workers != 4 || l.Nix.BinDir != "" {
		t.Errorf("in force: %+v", l.Config)
	}
	from := make(map[string]string)
	values, err := l.Values()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		rel, _ := filepath.Rel(dir, v.From.String())
		if v.From == (Position{}) {
			rel = "default"
		}
		from[v.Key] = v.JSON + " " + rel
	}
	for key, want := range map[string]string{
		"workers":             `4 config.d/10-first.json:2:12`,
		"release.accept":      `["c"] config.d/20-later.json:1:24`,
		"release.keep":        `8 config.d/10-first.json:2:52`,
		"nix.binDir":          `"" default`,
		"ledger.rebuildEvery": `"90d" default`,
	} {
		if from[key] != want {
			t.Errorf("%s is %q, want %q", key, from[key], want)
		}
	}

	// Mistakes of all files are found, each with its file.
	write("config.d/30-wrong.json", `{"workers": -1,}`)
	write("config.d/40-wrong.json", `{"release": {"kep": 1}}`)
	_, err = Read(main)
	var mistakes *Mistakes
	if !errors.As(err, &mistakes) || len(mistakes.All) != 2 || !strings.Contains(mistakes.All[0].Error(), "30-wrong.json:1:15: there is a comma") || !strings.Contains(mistakes.All[1].Error(), "40-wrong.json:1:14: unknown key") {
		t.Errorf("Read: %v", err)
	}
	for name, want := range map[string]string{"/etc/ec-verify/config.json": "/etc/ec-verify/config.d", "/dev/stdin": ""} {
		if got := DropInDir(name); got != want {
			t.Errorf("DropInDir(%s) = %q, want %q", name, got, want)
		}
	}
}
