package nix

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

// recordedBuild returns the derivation and the output of a recorded build.
func recordedBuild(t *testing.T, version string) (drv, out closure.StorePath) {
	t.Helper()
	switch version {
	case "2.26.3":
		return "/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv", "/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system"
	case "2.34.8":
		return "/nix/store/27vpp810c75dq5j2b867j8ak996pga2z-system.drv", "/nix/store/12hkgpxqwn4d04l067jwwbw93f9gz93l-system"
	}
	t.Fatalf("what was built with %s?", version)
	return "", ""
}

func TestRealiseRecorded(t *testing.T) {
	for _, version := range recordedVersions() {
		drv, out := recordedBuild(t, version)
		f := recorded(t, version, "build-works")
		p := new(Progress)
		root := filepath.Join(t.TempDir(), "root")
		outputs, err := f.Realise(t.Context(), drv, root, p)
		if err != nil || len(outputs) != 1 || outputs["out"] != out {
			t.Errorf("%s: Realise = %v, %v, want %s", version, outputs, err, out)
		}
		// 2.34 ends with "2 of 3".
		if got := p.Snapshot(); got.Done != 2 || got.Expected < 2 || got.Current != "" {
			t.Errorf("%s: progress at the end = %+v", version, got)
		}
		args := f.call().Args
		if !slices.Contains(pairs(args), [2]string{"--out-link", root}) || args[len(args)-1] != string(drv)+"^*" {
			t.Errorf("%s: arguments: %q", version, args)
		}
		f.checkNothingLeft()
	}
}

func TestRealiseWithoutRootAndProgress(t *testing.T) {
	drv, _ := recordedBuild(t, "2.26.3")
	f := recorded(t, "2.26.3", "build-works")
	if _, err := f.Realise(t.Context(), drv, "", nil); err != nil {
		t.Fatal(err)
	}
	if args := f.call().Args; !slices.Contains(args, "--no-link") {
		t.Errorf("arguments: %q", args)
	}
	if got := (*Progress)(nil).Snapshot(); got != (ProgressSnapshot{}) {
		t.Errorf("Snapshot of nil = %+v", got)
	}
}

func TestBuildErrorRecorded(t *testing.T) {
	for _, version := range recordedVersions() {
		drv, _ := recordedBuild(t, version)
		for _, tc := range []struct{ name, want, not, log string }{
			{"build-fails", "failed with exit code 3", "dependenc", "hello\nbad"},
			{"build-mismatch", "hash mismatch in fixed-output derivation", "\n", ""},
		} {
			p := new(Progress)
			_, err := recorded(t, version, tc.name).Realise(t.Context(), drv, "", p)
			var be *BuildError
			if !errors.As(err, &be) {
				t.Errorf("%s %s: %v, want a BuildError", version, tc.name, err)
				continue
			}
			if !strings.Contains(be.Message, tc.want) || strings.Contains(be.Message, tc.not) || strings.ContainsAny(be.Error(), "\n\x1b") {
				t.Errorf("%s %s: message %q, want %q", version, tc.name, be.Message, tc.want)
			}
			if be.Log != tc.log {
				t.Errorf("%s %s: log %q, want %q", version, tc.name, be.Log, tc.log)
			}
		}
	}
}

func TestRealiseUnknownShape(t *testing.T) {
	drv := closure.StorePath("/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv")
	for _, stdout := range []string{
		"", "[]", "{}", `[{"drvPath":"` + string(drv) + `","outputs":{}}]`,
		`[{"drvPath":"` + string(drv) + `","outputs":{"out":"/etc"}}]`,
		`[{"drvPath":"` + string(drv) + `","outputs":{"out":null}}]`,
		`[{"drvPath":"/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-other.drv","outputs":{"out":"/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system"}}]`,
	} {
		f := newFake(t, Config{}, "nix (Nix) 2.99.1\n", fake{Stdout: stdout})
		if _, err := f.Realise(t.Context(), drv, "", nil); err == nil || !strings.Contains(err.Error(), "Nix 2.99.1") {
			t.Errorf("stdout %q: %v, want an error that names the version", stdout, err)
		}
	}
	f := newFake(t, Config{}, "nix (Nix) 2.99.1\n", fake{})
	if _, err := f.Realise(t.Context(), "/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system", "", nil); err == nil {
		t.Error("Realise of no derivation succeeds")
	}
}

// TestBuildLog parses a handwritten log, with lines that must not disturb it.
func TestBuildLog(t *testing.T) {
	p := new(Progress)
	b := newBuildLog(p)
	for _, step := range []struct {
		line string
		want ProgressSnapshot
		keep string
	}{
		{"not of the log", ProgressSnapshot{}, "not of the log"},
		{"@nix {", ProgressSnapshot{}, ""},
		{`@nix {"action":"start","id":18446744073709551615,"type":104,"fields":[]}`, ProgressSnapshot{}, ""},
		{`@nix {"action":"result","id":18446744073709551615,"type":105,"fields":[1,5,2,0]}`, ProgressSnapshot{Done: 1, Expected: 5}, ""},
		{`@nix {"action":"result","id":7,"type":105,"fields":[100,100,0,0]}`, ProgressSnapshot{Done: 1, Expected: 5}, ""}, // bytes of a download
		{`@nix {"action":"result","id":18446744073709551615,"type":105,"fields":[1]}`, ProgressSnapshot{Done: 1, Expected: 5}, ""},
		{`@nix {"action":"start","id":1,"type":105,"fields":["/nix/store/a.drv","",1,1]}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, ""},
		{`@nix {"action":"start","id":2,"type":108,"fields":["/nix/store/b\u001b[31m"]}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/b"}, ""},
		{`@nix {"action":"stop","id":2}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, ""},
		{`@nix {"action":"stop","id":99}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, ""},
		{`@nix {"action":"result","id":1,"type":101,"fields":["a line"]}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, ""},
		{`@nix {"action":"msg","level":3,"msg":"chatter"}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, ""},
		{`@nix {"action":"msg","level":0,"msg":"error: x"}`, ProgressSnapshot{Done: 1, Expected: 5, Current: "/nix/store/a.drv"}, "error: x"},
		{`@nix {"action":"stop","id":1}`, ProgressSnapshot{Done: 1, Expected: 5}, ""},
	} {
		keep, _ := b.line(step.line)
		if got := p.Snapshot(); got != step.want || keep != step.keep {
			t.Errorf("after %s: %+v, kept %q; want %+v, %q", step.line, got, keep, step.want, step.keep)
		}
	}
	if b.log.String() != "a line" {
		t.Errorf("log = %q", b.log.String())
	}
}

func TestRealiseKeepsTheGivenRoot(t *testing.T) {
	drv, _ := recordedBuild(t, "2.26.3")
	f := recorded(t, "2.26.3", "build-works")
	dir := t.TempDir()
	t.Chdir(dir)
	if _, err := f.Realise(t.Context(), drv, "root", nil); err != nil {
		t.Fatal(err)
	}
	// The program runs elsewhere.
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if args := f.call().Args; !slices.Contains(pairs(args), [2]string{"--out-link", filepath.Join(here, "root")}) {
		t.Errorf("arguments: %q", args)
	}
}
