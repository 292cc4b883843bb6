package nix

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/nar"
)

func TestFlakeSourceRecorded(t *testing.T) {
	want := map[string][2]string{
		"2.26.3": {"/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source", "sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg="},
		"2.34.8": {"/nix/store/1r48dwizfwlpbj9kswlkhr2adcqvsbp3-source", "sha256-N/T7XGvsI/ME0MRY+zwTJpOqI+JnkYRqYPYnlpj04gs="},
	}
	for _, version := range recordedVersions() {
		f := recorded(t, version, "metadata")
		if prefetched(t, version) == "" { // not recorded; the members that are read
			writeFile(t, filepath.Join(f.dir, "prefetch"), `{"hash":"`+want[version][1]+`","storePath":"`+want[version][0]+`"}`)
		}
		s, err := f.FlakeSource(t.Context(), "path:/srv/flake")
		if err != nil || string(s.Path) != want[version][0] || s.NarHash.String() != want[version][1] {
			t.Errorf("%s: FlakeSource = %v, %v, want %v", version, s, err, want[version])
		}
		if args := f.call().Args; !slices.Equal(args[:3], []string{"nix", "flake", "prefetch"}) || !slices.Equal(args[len(args)-2:], []string{"--", "path:/srv/flake"}) {
			t.Errorf("%s: the last arguments: %q", version, args)
		}
		f.checkNothingLeft()

		_, err = recorded(t, version, "metadata-unlocked").FlakeSource(t.Context(), "path:/srv/unlocked")
		if err == nil || !strings.Contains(err.Error(), "requires lock file changes") {
			t.Errorf("%s: FlakeSource of an unlocked flake: %v", version, err)
		}
	}
}

// TestFlakeSource is of what no recording has: what Nix from 2.35 on prints
// where it copies nothing, as it is documented, and what makes no sense.
func TestFlakeSource(t *testing.T) {
	const (
		hash     = "sha256-hTAWtODQZtUbfSXO6ti8BkL0M1lc53kJFMm9U0YK2Qg="
		path     = "/nix/store/v558qq10hqi0cj8m78fv1i6q47xsmmgw-source"
		fetched  = `{"hash":"` + hash + `","storePath":"` + path + `"}`
		metadata = `{"locked":{"narHash":"` + hash + `"}}`
	)
	for _, c := range []struct {
		name, metadata, fetched string
		want                    Source
		err                     string // "" for none
	}{
		{"no path", metadata, fetched, Source{}, ""},
		{"another path", `{"path":"/nix/store/1r48dwizfwlpbj9kswlkhr2adcqvsbp3-source","locked":{"narHash":"` + hash + `"}}`, fetched, Source{}, ""},
		{"no path and no hash", `{"locked":{},"revision":"0123"}`, fetched, Source{Revision: "0123"}, ""},
		{"a directory", `{"locked":{"dir":"machines/nixos"}}`, fetched, Source{Dir: "machines/nixos"}, ""},
		{"a directory elsewhere", `{"locked":{"dir":"../nixos"}}`, fetched, Source{}, "directory"},
		{"changed meanwhile", `{"locked":{"narHash":"sha256-N/T7XGvsI/ME0MRY+zwTJpOqI+JnkYRqYPYnlpj04gs="}}`, fetched, Source{}, "changed meanwhile"},
		{"no metadata", "", fetched, Source{}, "not the metadata"},
		{"a list", "[]", fetched, Source{}, "not the metadata"},
		{"nothing fetched", metadata, "", Source{}, "not the store path of a fetched flake"},
		{"fetched to nowhere", metadata, `{"hash":"` + hash + `"}`, Source{}, "store path"},
		{"fetched to elsewhere", metadata, `{"hash":"` + hash + `","storePath":"/srv/flake"}`, Source{}, "store path"},
		{"fetched without a hash", metadata, `{"storePath":"` + path + `"}`, Source{}, "hash"},
	} {
		f := newFake(t, Config{}, "nix (Lix, like Nix) 2.99.1\n", fake{Stdout: c.metadata, Prefetch: c.fetched})
		got, err := f.FlakeSource(t.Context(), "x")
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), "Lix, like Nix 2.99.1") || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want an error that names the version and %q", c.name, err, c.err)
			}
			continue
		}
		c.want.Path = path
		if c.want.NarHash, _ = nar.ParseHash(hash); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}
