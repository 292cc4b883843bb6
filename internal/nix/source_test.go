package nix

import (
	"slices"
	"strings"
	"testing"
)

func TestFlakeSourceRecorded(t *testing.T) {
	want := map[string][2]string{
		"2.26.3": {"/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source", "sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg="},
		"2.34.8": {"/nix/store/1r48dwizfwlpbj9kswlkhr2adcqvsbp3-source", "sha256-N/T7XGvsI/ME0MRY+zwTJpOqI+JnkYRqYPYnlpj04gs="},
	}
	for _, version := range recordedVersions() {
		f := recorded(t, version, "metadata")
		s, err := f.FlakeSource(t.Context(), "path:/srv/flake")
		if err != nil || string(s.Path) != want[version][0] || s.NarHash.String() != want[version][1] {
			t.Errorf("%s: FlakeSource = %v, %v, want %v", version, s, err, want[version])
		}
		if args := f.call().Args; !slices.Contains(args, "--no-update-lock-file") || !slices.Equal(args[len(args)-2:], []string{"--", "path:/srv/flake"}) {
			t.Errorf("%s: arguments: %q", version, args)
		}
		f.checkNothingLeft()

		_, err = recorded(t, version, "metadata-unlocked").FlakeSource(t.Context(), "path:/srv/unlocked")
		if err == nil || !strings.Contains(err.Error(), "requires lock file changes") {
			t.Errorf("%s: FlakeSource of an unlocked flake: %v", version, err)
		}
	}
}

func TestFlakeSourceUnknownShape(t *testing.T) {
	for _, stdout := range []string{
		"", "[]", "{}",
		`{"path":"/srv/flake","locked":{"narHash":"sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg="}}`,
		`{"path":"/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source","locked":{}}`,
		`{"path":"/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source"}`,
	} {
		f := newFake(t, Config{}, "nix (Lix, like Nix) 2.99.1\n", fake{Stdout: stdout})
		if _, err := f.FlakeSource(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "Lix, like Nix 2.99.1") {
			t.Errorf("stdout %q: %v, want an error that names the version", stdout, err)
		}
	}
}
