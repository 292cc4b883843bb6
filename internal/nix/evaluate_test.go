package nix

import (
	"errors"
	"os"
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

func testRequest(configuration string) EvalRequest {
	return EvalRequest{Source: testSource.Path, NarHash: testSource.NarHash, Configuration: configuration}
}

func TestEvaluateRecorded(t *testing.T) {
	want := map[string]Evaluation{
		"2.26.3": {"/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-system.drv", "/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-system", "x86_64-linux"},
		"2.34.8": {"/nix/store/27vpp810c75dq5j2b867j8ak996pga2z-system.drv", "/nix/store/12hkgpxqwn4d04l067jwwbw93f9gz93l-system", "x86_64-linux"},
	}
	for _, version := range recordedVersions() {
		f := recorded(t, version, "evaluate")
		got, err := f.Evaluate(t.Context(), testRequest("works"))
		if err != nil || got != want[version] {
			t.Errorf("%s: Evaluate = %+v, %v, want %+v", version, got, err, want[version])
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
				_, err := recorded(t, version, "evaluate-"+tc.name).Evaluate(t.Context(), testRequest("works"))
				var ee *EvaluationError
				if !errors.As(err, &ee) {
					t.Fatalf("Evaluate: %v, want an EvaluationError", err)
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
	_, err := f.Evaluate(t.Context(), testRequest("works"))
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
		_, err := f.Evaluate(t.Context(), testRequest("works"))
		if err == nil || !strings.Contains(err.Error(), "Nix 2.99.1") {
			t.Errorf("stdout %q: %v, want an error that names the version", stdout, err)
		}
	}
}

func TestEvaluateArguments(t *testing.T) {
	for _, name := range []string{"NIX_PATH", "NIX_CONFIG", "NIX_REMOTE", "LD_PRELOAD_OF_TEST", "SECRET", "https_proxy", "GIT_DIR"} {
		t.Setenv(name, "from outside")
	}
	f := recorded(t, "2.26.3", "evaluate")
	if _, err := f.Evaluate(t.Context(), testRequest("works")); err != nil {
		t.Fatal(err)
	}
	c := f.call()
	// The name and the source are arguments, and in no expression.
	for _, pair := range [][2]string{
		{"--argstr", "flake"},
		{"flake", "path:" + string(testSource.Path) + "?narHash=sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg%3D"},
		{"configuration", "works"},
		{"--expr", expression},
		{"pure-eval", "true"},
		{"allow-import-from-derivation", "false"},
		{"substituters", ""},
		{"substitute", "false"},
	} {
		i := slices.Index(c.Args, pair[0])
		if i < 0 || !slices.ContainsFunc(pairs(c.Args), func(p [2]string) bool { return p == pair }) {
			t.Errorf("arguments lack %q %q: %q", pair[0], pair[1], c.Args)
		}
	}
	if !slices.Contains(c.Args, "--readonly-mode") || slices.Contains(c.Args, "--read-write-mode") {
		t.Errorf("not in read-only mode: %q", c.Args)
	}
	if strings.Contains(expression, "works") || strings.Contains(expression, "/nix/store") {
		t.Error("the expression is not constant")
	}
	env := c.env()
	for name, value := range env {
		if strings.Contains(value, "from outside") {
			t.Errorf("%s=%s is inherited", name, value)
		}
	}
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR", "NIX_CONF_DIR", "NIX_USER_CONF_FILES"} {
		if !strings.HasPrefix(env[name], os.TempDir()+"/") {
			t.Errorf("%s=%q is not private", name, env[name])
		}
	}
	if env["LC_ALL"] != "C" || env["PATH"] != f.dir || !strings.Contains(env["https_proxy"], "127.0.0.1:9") {
		t.Errorf("environment: %q", c.Env)
	}
}

func TestEvaluateHasNoNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	f := recorded(t, "2.26.3", "evaluate")
	if _, err := f.Evaluate(t.Context(), testRequest("works")); err != nil {
		t.Fatal(err)
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Skip(err)
	}
	if theirs := f.call().NetNS; theirs == ours {
		t.Errorf("Nix runs in our network namespace %s", ours)
	}
}

func TestEvaluateRefuses(t *testing.T) {
	f := recorded(t, "2.26.3", "evaluate")
	good := testRequest("works")
	for name, change := range map[string]func(*EvalRequest){
		"no configuration":     func(r *EvalRequest) { r.Configuration = "" },
		"odd configuration":    func(r *EvalRequest) { r.Configuration = "a${b}" },
		"flag as a name":       func(r *EvalRequest) { r.Configuration = "--impure" },
		"no hash":              func(r *EvalRequest) { r.NarHash = nar.Hash{} },
		"no source":            func(r *EvalRequest) { r.Source = "" },
		"source with a query":  func(r *EvalRequest) { r.Source += "?dir=x" + closure.StorePath("&") },
		"source outside store": func(r *EvalRequest) { r.Source = "/etc/flake" },
	} {
		r := good
		change(&r)
		if _, err := f.Evaluate(t.Context(), r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if f.called() {
		t.Error("Nix was run")
	}
}

func TestEvalStore(t *testing.T) {
	if got := evalStore(t.Context(), "/mnt/a b&store=x/"); got != "local?read-only=true&root=%2Fmnt%2Fa+b%26store%3Dx" {
		t.Errorf("evalStore = %q", got)
	}
	if got := evalStore(t.Context(), "/"); got != evalStore(t.Context(), "") || strings.Contains(got, "root=") {
		t.Errorf("evalStore of this machine = %q", got)
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
	// Both evaluations have the same result only if they are given the same.
	common := evalArgs(testSource, "works")
	if !slices.Equal(c.Args[len(c.Args)-len(common):], common) {
		t.Errorf("arguments differ from those of Evaluate: %q", c.Args)
	}
}

func pairs(s []string) [][2]string {
	var p [][2]string
	for i := 1; i < len(s); i++ {
		p = append(p, [2]string{s[i-1], s[i]})
	}
	return p
}
