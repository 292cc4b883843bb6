package nix

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// testSource is the source that was evaluated with 2.26.3.
var testSource = Source{
	Path:    "/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source",
	NarHash: mustHash("sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg="),
}

func mustHash(s string) nar.Hash {
	h, err := nar.ParseHash(s)
	if err != nil {
		panic(err)
	}
	return h
}

func TestInstantiateRecorded(t *testing.T) {
	want := map[string]Evaluation{
		"2.26.3": {"/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv", "/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system", "x86_64-linux"},
		"2.34.8": {"/nix/store/27vpp810c75dq5j2b867j8ak996pga2z-system.drv", "/nix/store/12hkgpxqwn4d04l067jwwbw93f9gz93l-system", "x86_64-linux"},
	}
	for _, version := range recordedVersions() {
		f := recorded(t, version, "evaluate")
		got, err := f.Instantiate(t.Context(), testSource, "works")
		if err != nil || got != want[version] {
			t.Errorf("%s: Instantiate = %+v, %v, want %+v", version, got, err, want[version])
		}
		f.checkNothingLeft()
	}
}

func TestEvaluationErrorRecorded(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"missing-attribute", "attribute 'nosuch' missing"},
		{"unlocked", "cannot update unlocked flake input 'part' in pure mode"},
		{"input-absent", "unable to download"},
		{"wrong-hash", "NAR hash mismatch in input"},
		{"throws", "my message"},
		{"builds", "-nixcode.drv' is not valid"},
		{"peeks", "is forbidden in pure evaluation mode"},
		{"nothing", "cannot coerce an integer to a string: 1"},
	} {
		for _, version := range recordedVersions() {
			t.Run(tc.name+"/"+version, func(t *testing.T) {
				_, err := recorded(t, version, "evaluate-"+tc.name).Instantiate(t.Context(), testSource, "works")
				var ee *EvaluationError
				if !errors.As(err, &ee) {
					t.Fatalf("Instantiate: %v, want an EvaluationError", err)
				}
				if !strings.Contains(ee.Message, tc.want) || strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(ee.Message, "«") {
					t.Errorf("message %q, want one line with %q", ee.Message, tc.want)
				}
				var exit *ExitError
				if !errors.As(err, &exit) || !strings.Contains(exit.Stderr, "while evaluating attribute") || exit.Args[0] != "nix-instantiate" {
					t.Errorf("the rest of what Nix said is lost: %+v", exit)
				}
			})
		}
	}
}

// TestEvaluateFloating: a system whose place is not known beforehand is refused
// in words that say what to do.
func TestEvaluateFloating(t *testing.T) {
	f := newFake(t, Config{}, "nix (Nix) 2.99.1\n", fake{
		Stdout: `{"derivation":"/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv","output":"/18s3260bnwmrc1n9xs16laszva3kz0kdxwwz3cn4z4jk45c2fw6b","system":"x86_64-linux"}`,
	})
	_, err := f.Instantiate(t.Context(), testSource, "works")
	if !errors.Is(err, ErrFloating) || !strings.Contains(err.Error(), "system.drv") {
		t.Errorf("got %v, want %v and the derivation", err, ErrFloating)
	}
}

// TestEvaluateUnknownShape: what is not the value of our expression is an error
// that names the version.
func TestEvaluateUnknownShape(t *testing.T) {
	drv, out := "/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv", "/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system"
	for _, stdout := range []string{
		"", "null", "[]", `"` + out + `"`,
		`{"derivation":"` + drv + `","output":"` + out + `","system":"x86_64-linux","more":1}`,
		`{"derivation":"` + drv + `","output":"` + out + `","output":"` + out + `","system":"x86_64-linux"}`,
		`{"derivation":"` + out + `","output":"` + out + `","system":"x86_64-linux"}`,
		`{"derivation":"` + drv + `","output":"/etc/passwd","system":"x86_64-linux"}`,
		`{"derivation":"` + drv + `","output":"` + out + `","system":"x86_64-linux; rm"}`,
		`{"derivation":"` + drv + `","output":"` + out + `","system":1}`,
		`{"derivation":"` + drv + `","output":"` + out + `"}`,
	} {
		f := newFake(t, Config{}, "nix (Nix) 2.99.1\n", fake{Stdout: stdout})
		_, err := f.Instantiate(t.Context(), testSource, "works")
		if err == nil || !strings.Contains(err.Error(), "Nix 2.99.1") {
			t.Errorf("stdout %q: %v, want an error that names the version", stdout, err)
		}
	}
}

func TestInstantiateArguments(t *testing.T) {
	t.Setenv("NIX_CONFIG", "cores = 1")
	t.Setenv("SECRET", "x")
	f := recorded(t, "2.34.8", "evaluate")
	got, err := f.Instantiate(t.Context(), testSource, "works")
	if err != nil || got.System != "x86_64-linux" {
		t.Fatalf("Instantiate = %+v, %v", got, err)
	}
	c := f.call()
	if !slices.Contains(c.Args, "--read-write-mode") || slices.Contains(c.Args, "--readonly-mode") {
		t.Errorf("derivations are not written: %q", c.Args)
	}
	if env := c.env(); env["NIX_CONFIG"] != "cores = 1" || env["SECRET"] != "" || strings.Contains(env["https_proxy"], "127.0.0.1:9") {
		t.Errorf("environment: %q", c.Env)
	}
	// The name and the source are arguments, and in no expression.
	for _, pair := range [][2]string{
		{"--argstr", "flake"},
		{"flake", "path:" + string(testSource.Path) + "?narHash=sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg%3D"},
		{"configuration", "works"},
		{"--expr", builtin},
		{"pure-eval", "true"},
		{"allow-import-from-derivation", "false"},
	} {
		if !slices.ContainsFunc(pairs(c.Args), func(p [2]string) bool { return p == pair }) {
			t.Errorf("arguments lack %q: %q", pair, c.Args)
		}
	}
}

func TestInstantiateRefuses(t *testing.T) {
	f := recorded(t, "2.26.3", "evaluate")
	for name, change := range map[string]func(src *Source, configuration *string){
		"no configuration":     func(_ *Source, c *string) { *c = "" },
		"odd configuration":    func(_ *Source, c *string) { *c = "a${b}" },
		"flag as a name":       func(_ *Source, c *string) { *c = "--impure" },
		"directory elsewhere":  func(src *Source, _ *string) { src.Dir = "../x" },
		"no hash":              func(src *Source, _ *string) { src.NarHash = nar.Hash{} },
		"no source":            func(src *Source, _ *string) { src.Path = "" },
		"source with a query":  func(src *Source, _ *string) { src.Path += "?dir=x" + closure.StorePath("&") },
		"source outside store": func(src *Source, _ *string) { src.Path = "/etc/flake" },
	} {
		src, configuration := testSource, "works"
		change(&src, &configuration)
		if _, err := f.Instantiate(t.Context(), src, configuration); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if f.called() {
		t.Error("Nix was run")
	}
}

func pairs(s []string) [][2]string {
	var p [][2]string
	for i := 1; i < len(s); i++ {
		p = append(p, [2]string{s[i-1], s[i]})
	}
	return p
}
