package release_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

func cache(t testing.TB, dir string) *release.Cache {
	t.Helper()
	return release.OpenCache(dir)
}

// finder returns a finder with the sources, a cache in dir and releasetest's
// time.
func finder(t testing.TB, dir string, sources ...release.Source) *release.Finder {
	t.Helper()
	return &release.Finder{Sources: sources, Cache: cache(t, dir), Verifier: believing{}, Options: []release.Option{at(releasetest.Now)}}
}

// TestBlamesTheSource: an asset that is not in the cache comes from a source, and that
// one is named when it is not the right one.
func TestBlamesTheSource(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	s := forge(t, dir, nil)
	for range 2 {
		r, err := finder(t, kept, source(t, s)).Find(t.Context(), releasetest.Tag)
		if err != nil {
			t.Fatal(err)
		}
		releasetest.File(t, sub, "image.iso", []byte("another"))
		err = r.CopyTo(t.Context(), filepath.Join(t.TempDir(), "out"), nil)
		var untrusted *release.UntrustedError
		if !errors.As(err, &untrusted) || untrusted.Reason != release.ReasonChecksum || !strings.HasPrefix(untrusted.Source, s.URL) {
			t.Errorf("got %v", err)
		}
	}
	r, err := finder(t, kept, source(t, s)).Find(t.Context(), releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	var unavailable *release.UnavailableError
	if err := r.CopyTo(t.Context(), filepath.Join(t.TempDir(), "out"), nil); !errors.As(err, &unavailable) || !strings.HasPrefix(unavailable.Source, s.URL) {
		t.Errorf("got %v", err)
	}
}

// TestNoStateDirectory: where the state directory is none, nothing is kept or
// remembered, that is said, and a release is as good as before.
func TestNoStateDirectory(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	signed(t, dir, releasetest.Spec{})
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{file, filepath.Join(file, "state")} {
		memory, err := release.OpenMemory(state)
		if err != nil {
			t.Errorf("%s: %v", state, err)
			continue
		}
		f := finder(t, filepath.Join(state, "releases"), release.NewDirSource(dir))
		f.Options = append(f.Options, release.WithMemory(memory))
		if r, err := f.Find(t.Context(), releasetest.Tag); err != nil || len(r.Unkept()) != 2 {
			t.Errorf("%s: %v, %v", state, r, err)
		}
	}
}

// TestCacheLeavesOthersAlone: releases that lie where the cache is and that it has
// not put there are neither replaced nor removed, whatever they are called.
func TestCacheLeavesOthersAlone(t *testing.T) {
	dir, published := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	for _, tag := range []string{"boot-v2020.01.01", "boot-v2020.01.02", string(releasetest.Tag), ".tmp-1"} {
		if err := os.Mkdir(filepath.Join(published, tag), 0o755); err != nil {
			t.Fatal(err)
		}
		releasetest.File(t, filepath.Join(published, tag), release.SumsName, []byte("theirs"))
	}
	before := tree(t, published)
	f := finder(t, published, release.NewDirSource(dir))
	f.Keep = 1
	r, err := f.Find(t.Context(), releasetest.Tag)
	if err != nil || len(r.Unkept()) != 1 || !strings.Contains(r.Unkept()[0], "not created by this program") {
		t.Errorf("Find = %v, %v", r, err)
	}
	f.MustKeep = true
	if _, err := f.Find(t.Context(), releasetest.Tag); err == nil {
		t.Error("it counts as kept")
	}
	if _, err := f.Cache.Prune(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if after := tree(t, published); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// tree lists what is in dir, but for the lock.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if filepath.Base(p) != ".lock" {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// TestFullStateDirectory: where nothing can be kept or remembered, a release that
// is at hand is used all the same, and this is said.
func TestFullStateDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a file system of its own")
	}
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=4k,nr_inodes=3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(state, unix.MNT_DETACH) })
	releasetest.File(t, state, "filler", make([]byte, 4096))
	memory, err := release.OpenMemory(state)
	if err != nil {
		t.Fatal(err)
	}
	f := finder(t, filepath.Join(state, "releases"), release.NewDirSource(dir))
	f.Options = append(f.Options, release.WithMemory(memory))
	r, err := f.Find(t.Context(), releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), r.Info().Configurations[0]); err != nil {
		t.Error(err)
	}
	if told := r.Unkept(); len(told) != 2 || !strings.Contains(told[0], "no space left") || !strings.Contains(told[1], "no space left") {
		t.Errorf("it says %q", told)
	}
	f.MustKeep = true
	if _, err := f.Find(t.Context(), releasetest.Tag); err == nil {
		t.Error("it counts as kept")
	}
}

// TestMissingDirectory: a directory that is not there is another slip than a release
// that is not in it.
func TestMissingDirectory(t *testing.T) {
	for tag, want := range map[release.Tag]string{releasetest.Tag: "directory does not exist", release.Latest: "directory does not exist"} {
		_, err := finder(t, t.TempDir(), release.NewDirSource(filepath.Join(t.TempDir(), "mistyped"))).Find(t.Context(), tag)
		if !errors.Is(err, release.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func TestFindKeepsAndFindsAgain(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	r, err := finder(t, kept, release.NewDirSource(dir)).Find(t.Context(), releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	if r.Source() != dir {
		t.Errorf("Source() = %q, want %q", r.Source(), dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// Both the release at hand and the next run live on the cache alone.
	again, err := finder(t, kept, release.NewDirSource(dir)).Find(t.Context(), releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*release.Release{r, again} {
		if _, err := r.Manifest(t.Context(), releasetest.Configuration); err != nil {
			t.Error(err)
		}
		if f, err := r.Listing(t.Context(), releasetest.Configuration); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
		// Images are not kept.
		if _, err := r.Asset(t.Context(), "image.iso"); !errors.Is(err, release.ErrNotFound) {
			t.Errorf("image.iso: %v", err)
		}
	}
	if !strings.Contains(again.Source(), "cache") || !strings.Contains(again.Source(), kept) {
		t.Errorf("Source() = %q, want the cache", again.Source())
	}
}

func TestFindOneConfigurationThenAnother(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Configurations: []string{"a", "b"}})
	f := finder(t, kept, release.NewDirSource(dir))
	for _, c := range []string{"a", "b"} {
		f.Configurations = []string{c}
		r, err := f.Find(t.Context(), releasetest.Tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Manifest(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{release.ManifestName("a"), release.ManifestName("b"), release.ListingName("a"), release.BundleName} {
		if _, err := os.Stat(filepath.Join(kept, string(releasetest.Tag), name)); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedCache damages each file of the cache in turn: with a source at
// hand it is mended, without one it is refused.
func TestDamagedCache(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	src := release.NewDirSource(dir)
	for _, name := range []string{
		release.SumsName, release.BundleName, release.InfoName,
		release.ManifestName(releasetest.Configuration), release.ListingName(releasetest.Configuration),
	} {
		kept := t.TempDir()
		if _, err := finder(t, kept, src).Find(t.Context(), releasetest.Tag); err != nil {
			t.Fatal(err)
		}
		sub := filepath.Join(kept, string(releasetest.Tag))
		data := releasetest.Read(t, sub, name)
		data[0] ^= 1
		releasetest.File(t, sub, name, data)

		_, err := finder(t, kept).Find(t.Context(), releasetest.Tag)
		var untrusted *release.UntrustedError
		if !errors.As(err, &untrusted) || !strings.Contains(untrusted.Source, "cache") {
			t.Errorf("%s, offline: %v", name, err)
		}
		r, err := finder(t, kept, src).Find(t.Context(), releasetest.Tag)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(r.Notes()) != 1 || !strings.Contains(r.Notes()[0], "cache") {
			t.Errorf("%s: notes %q", name, r.Notes())
		}
		if _, err := finder(t, kept).Find(t.Context(), releasetest.Tag); err != nil {
			t.Errorf("%s was not mended: %v", name, err)
		}
	}
}

func TestUnsignedIsNotKept(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	f := finder(t, kept, release.NewDirSource(dir))
	f.Verifier = nobody{}
	if _, err := f.Find(t.Context(), releasetest.Tag); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(kept, string(releasetest.Tag))); err == nil {
		t.Error("an unsigned release is in the cache")
	}
}

func TestFindAsksInOrder(t *testing.T) {
	empty, good, bad := t.TempDir(), t.TempDir(), t.TempDir()
	signed(t, good, releasetest.Spec{})
	sub := signed(t, bad, releasetest.Spec{})
	releasetest.File(t, sub, release.BundleName, []byte("bad"))
	down := forge(t, good, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	e, g, b, d := release.NewDirSource(empty), release.NewDirSource(good), release.NewDirSource(bad), source(t, down)
	for _, c := range []struct {
		name    string
		sources []release.Source
		want    string
	}{
		{"not found, then found", []release.Source{e, g}, ""},
		{"unreachable, then found", []release.Source{d, g}, ""},
		{"found before refused", []release.Source{g, b}, ""},
		{"refused before found", []release.Source{b, g}, "bad-signature"},
		{"none has it", []release.Source{e, e}, "not found"},
		{"one has nothing, one cannot be asked", []release.Source{e, d}, "unavailable"},
		{"one cannot be asked, one has nothing", []release.Source{d, e}, "unavailable"},
		{"no sources", nil, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := finder(t, t.TempDir(), c.sources...).Find(t.Context(), releasetest.Tag)
			if c.want != "" {
				wantError(t, err, c.want, "")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFindLatest(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, tag := range []release.Tag{"boot-v2026.2.9", "boot-v2026.2.28"} {
		signed(t, one, releasetest.Spec{Tag: tag})
	}
	signed(t, two, releasetest.Spec{Tag: "boot-v2026.3.1"})
	signed(t, two, releasetest.Spec{Tag: "zz-v2027"})
	r, err := finder(t, t.TempDir(), release.NewDirSource(one), release.NewDirSource(two)).Find(t.Context(), release.Latest)
	if err != nil || r.Tag() != "boot-v2026.3.1" {
		t.Errorf("%v, %v", r, err)
	}
	down := forge(t, one, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	_, err = finder(t, t.TempDir(), release.NewDirSource(one), source(t, down)).Find(t.Context(), release.Latest)
	wantError(t, err, "unavailable", "list of releases")
	_, err = finder(t, t.TempDir(), release.NewDirSource(t.TempDir())).Find(t.Context(), release.Latest)
	wantError(t, err, "not found", "name a tag")
}

// TestLatestIsCreatedLast: of the releases of the highest numbers, latest is the one that
// its signed release.json says was created last, wherever it comes in a list.
func TestLatestIsCreatedLast(t *testing.T) {
	type published struct {
		tag     release.Tag
		day     int    // of its creation, after releasetest.Created
		instead string // of its signature
		gone    bool   // SHA256SUMS.txt is
	}
	for name, c := range map[string]struct {
		releases []published
		seen     release.Tag // before, by the machine
		want     release.Tag
		note     string
		reason   release.Reason // where it is refused
	}{
		"the highest number is":            {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 3, "", false}}, want: "boot-v14"},
		"at one time the highest number":   {releases: []published{{"boot-v14", 3, "", false}, {"boot-v13", 3, "", false}}, want: "boot-v14"},
		"a lower number is":                {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 5, "", false}}, want: "boot-v13", note: "latest means boot-v13, created on 2026-03-05T12:00:00Z: boot-v14 has a higher number but is older, created on 2026-03-04T12:00:00Z"},
		"and the machine has seen it":      {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 5, "", false}}, seen: "boot-v13", want: "boot-v13", note: "higher number"},
		"the fourth is":                    {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 3, "", false}, {"boot-v12", 2, "", false}, {"boot-v11", 6, "", false}}, want: "boot-v11", note: "higher number"},
		"the fifth is not looked at":       {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 3, "", false}, {"boot-v12", 2, "", false}, {"boot-v11", 1, "", false}, {"boot-v10", 6, "", false}}, want: "boot-v14"},
		"a lower number nobody believes":   {releases: []published{{"boot-v14", 4, "", false}, {"boot-v13", 5, "forged", false}}, want: "boot-v14"},
		"a highest number nobody believes": {releases: []published{{"boot-v14", 4, "forged", false}, {"boot-v13", 5, "", false}}, reason: release.ReasonBadSignature},
		"one that is not whole":            {releases: []published{{"boot-v14", 4, "", true}, {"boot-v13", 2, "", false}, {"boot-v12", 3, "", false}}, want: "boot-v12", note: "the sources list boot-v14 without its SHA256SUMS.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, p := range c.releases {
				sub := signed(t, dir, releasetest.Spec{Tag: p.tag, Created: releasetest.Created.AddDate(0, 0, p.day)})
				if p.instead != "" {
					releasetest.File(t, sub, release.BundleName, []byte(p.instead))
				}
				if p.gone {
					if err := os.Remove(filepath.Join(sub, release.SumsName)); err != nil {
						t.Fatal(err)
					}
				}
			}
			// A forge that lists what is not whole, as a directory does not.
			f := finder(t, t.TempDir(), &listing{release.NewDirSource(dir), func() (tags []release.Tag) {
				for _, p := range c.releases {
					tags = append(tags, p.tag)
				}
				return tags
			}()})
			f.Accept = []release.Tag{release.Latest}
			m := memory(t, t.TempDir())
			f.Options = append(f.Options, release.WithMemory(m))
			if c.seen != "" {
				if _, err := open(t, dir, c.seen, release.WithMemory(m)); err != nil {
					t.Fatal(err)
				}
			}
			r, err := f.Find(t.Context(), release.Latest)
			if c.reason != "" {
				wantReason(t, err, c.reason)
				return
			}
			if err != nil || r.Tag() != c.want {
				t.Fatalf("%v, %v", r, err)
			}
			if notes := strings.Join(r.Notes(), "; "); (c.note == "") != (notes == "") || !strings.Contains(notes, c.note) {
				t.Errorf("%q, want %q", notes, c.note)
			}
			// By its name it is accepted as well, and no other one is.
			for _, p := range c.releases {
				_, err := f.Find(t.Context(), p.tag)
				if (err == nil) != (p.tag == c.want) {
					t.Errorf("%s: %v", p.tag, err)
				}
			}
		})
	}
}

// listing is a directory that is said to have these releases.
type listing struct {
	release.Source
	tags []release.Tag
}

func (l *listing) Tags(context.Context) ([]release.Tag, error) { return l.tags, nil }

func TestFindAccepted(t *testing.T) {
	dir := t.TempDir()
	old, young, other := releasetest.Tag, release.Tag("boot-v2026.03.05"), release.Tag("boot-v2026.03.06")
	signed(t, dir, releasetest.Spec{Tag: old})
	signed(t, dir, releasetest.Spec{Tag: young, Created: releasetest.Created.AddDate(0, 0, 5)})
	signed(t, dir, releasetest.Spec{Tag: other, Created: releasetest.Created.AddDate(0, 0, 6)})
	f := finder(t, t.TempDir(), release.NewDirSource(dir))
	f.Accept = []release.Tag{young, old, "boot-v3"}
	f.Options = append(f.Options, release.WithMemory(memory(t, t.TempDir())))
	found := f.FindAccepted(t.Context())
	if len(found) != 3 || found[0].Err != nil || found[1].Err != nil || found[1].Release.Tag() != old || !errors.Is(found[2].Err, release.ErrNotFound) {
		t.Errorf("%v", found)
	}
	_, err := f.Find(t.Context(), other)
	wantReason(t, err, release.ReasonNotAccepted)
}

// TestAcceptLatest lists "latest": that accepts what the sources call the
// newest, but does not let them take the node back.
func TestAcceptLatest(t *testing.T) {
	dir, older := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: "boot-v2"})
	signed(t, dir, releasetest.Spec{Tag: "boot-v3", Created: releasetest.Created.AddDate(0, 0, 5)})
	signed(t, older, releasetest.Spec{Tag: "boot-v2"})
	f := finder(t, t.TempDir(), release.NewDirSource(dir))
	f.Accept = []release.Tag{release.Latest}
	f.Options = append(f.Options, release.WithMemory(memory(t, t.TempDir())))
	for _, tag := range []release.Tag{release.Latest, "boot-v3"} {
		if r, err := f.Find(t.Context(), tag); err != nil || r.Tag() != "boot-v3" {
			t.Errorf("%s: %v, %v", tag, r, err)
		}
	}
	_, err := f.Find(t.Context(), "boot-v2")
	wantReason(t, err, release.ReasonNotAccepted)
	// A forge that hides the newest.
	f.Sources = []release.Source{release.NewDirSource(older)}
	_, err = f.Find(t.Context(), release.Latest)
	wantReason(t, err, release.ReasonRolledBack)
	f.Accept = []release.Tag{release.Latest, "boot-v2"}
	if _, err := f.Find(t.Context(), "boot-v2"); err != nil {
		t.Error(err)
	}
}

// TestOffline finds what was fetched, and asks nothing on a network.
func TestOffline(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: "boot-v2"})
	signed(t, dir, releasetest.Spec{Tag: "boot-v3", Created: releasetest.Created.AddDate(0, 0, 5)})
	asked := false
	server := source(t, forge(t, dir, func(http.ResponseWriter, *http.Request) bool { asked = true; return false }))
	f := finder(t, kept, server)
	f.Offline = true
	for _, tag := range []release.Tag{release.Latest, "boot-v3"} {
		_, err := f.Find(t.Context(), tag)
		wantError(t, err, "not found", "release refresh")
	}
	if asked {
		t.Error("a source on the network was asked")
	}
	f.Offline = false
	if _, err := f.Find(t.Context(), "boot-v3"); err != nil || !asked {
		t.Fatalf("%v, asked: %t", err, asked)
	}
	f.Offline, asked = true, false
	r, err := f.Find(t.Context(), release.Latest)
	if err != nil || r.Tag() != "boot-v3" || !slices.ContainsFunc(r.Notes(), func(n string) bool { return strings.Contains(n, "answered since an unknown time") }) {
		t.Fatalf("latest: %v, %v", r, err)
	}
	if r, err := f.Find(t.Context(), "boot-v3"); err != nil || len(r.Notes()) > 0 {
		t.Errorf("boot-v3: %v, %v", r, err)
	}
	if _, err := r.Asset(t.Context(), "image.iso"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("what is not in the cache: %v", err)
	}
	if asked {
		t.Error("a source on the network was asked")
	}
	// One on the disk is asked as ever.
	f.Sources = append(f.Sources, release.NewDirSource(dir))
	if r, err := f.Find(t.Context(), "boot-v2"); err != nil || r.Tag() != "boot-v2" {
		t.Errorf("boot-v2: %v, %v", r, err)
	}
}

// TestOfflineLatest: a run that does not ask the sources says so if none has been asked for
// days.
func TestOfflineLatest(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: "boot-v3"})
	server := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/api/") {
			return false
		}
		list := `[]`
		if r.URL.Query().Get("page") == "1" {
			list = `[{"tag_name":"boot-v3"}]`
		}
		io.WriteString(w, list)
		return true
	})
	f := finder(t, kept, source(t, server))
	for _, c := range []struct {
		name    string
		offline bool
		at      time.Time // when they were last asked; zero for as it is
		note    string
	}{
		{name: "they are asked"},
		{name: "a moment ago", offline: true},
		{"a week ago", true, time.Now().AddDate(0, 0, -7), "no source on a network has answered since " + time.Now().AddDate(0, 0, -7).UTC().Format("2006-01-02T")},
		{"in times to come", true, time.Now().Add(time.Hour), "no source on a network has answered since an unknown time"},
		{name: "they are asked again"},
		{name: "a moment ago again", offline: true},
	} {
		if !c.at.IsZero() {
			if err := os.Chtimes(filepath.Join(kept, ".listed"), c.at, c.at); err != nil {
				t.Fatal(err)
			}
		}
		f.Offline = c.offline
		r, err := f.Find(t.Context(), release.Latest)
		if err != nil || r.Tag() != "boot-v3" {
			t.Fatalf("%s: %v, %v", c.name, r, err)
		}
		if notes := strings.Join(r.Notes(), "; "); (c.note == "") != (notes == "") || !strings.Contains(notes, c.note) {
			t.Errorf("%s: %q, want %q", c.name, notes, c.note)
		}
	}
	// Where nothing is left out, there is nothing to say.
	f = finder(t, t.TempDir(), release.NewDirSource(dir))
	f.Offline = true
	if r, err := f.Find(t.Context(), release.Latest); err != nil || len(r.Notes()) > 0 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestPrune(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	f := finder(t, kept, release.NewDirSource(dir))
	var tags []release.Tag
	for i := range 5 {
		tag := release.Tag(fmt.Sprintf("boot-v%d", 9-i)) // the names run against the times
		signed(t, dir, releasetest.Spec{Tag: tag, Created: releasetest.Created.Add(time.Duration(i) * time.Hour)})
		tags = append(tags, tag)
		if _, err := f.Find(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
	}
	// One that cannot be read is the first to go.
	if err := os.MkdirAll(filepath.Join(kept, "boot-v99"), 0o755); err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, filepath.Join(kept, "boot-v99"), release.SumsName, []byte("x"))
	releasetest.File(t, filepath.Join(kept, "boot-v99"), ".ec-verify-kept", nil)
	c := cache(t, kept)
	gone, err := c.Prune(t.Context(), 3, tags[0])
	if err != nil || !slices.Equal(gone, []release.Tag{"boot-v99", tags[1], tags[2]}) {
		t.Errorf("pruned %v, %v", gone, err)
	}
	left, err := c.Tags(t.Context())
	slices.Sort(left)
	if err != nil || !slices.Equal(left, []release.Tag{tags[4], tags[3], tags[0]}) {
		t.Errorf("left %v, %v", left, err)
	}
	f.Keep = 1
	f.Accept = []release.Tag{tags[3], tags[4]}
	if _, err := f.Find(t.Context(), tags[3]); err != nil {
		t.Fatal(err)
	}
	// Found in the cache: nothing was added, so nothing is pruned.
	signed(t, dir, releasetest.Spec{Tag: "boot-v1", Created: releasetest.Created.AddDate(0, 0, 1)})
	f.Accept = append(f.Accept, "boot-v1")
	if _, err := f.Find(t.Context(), "boot-v1"); err != nil {
		t.Fatal(err)
	}
	left, _ = c.Tags(t.Context())
	slices.Sort(left)
	if !slices.Equal(left, []release.Tag{"boot-v1", tags[4], tags[3]}) {
		t.Errorf("left %v", left)
	}
}

func TestCopyToRefusesFullDirectory(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := r.CopyTo(t.Context(), out, nil); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	if err := r.CopyTo(t.Context(), out, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a full one: %v", err)
	}
	if _, err := release.Open(t.Context(), release.NewDirSource(out), "", believing{}, at(releasetest.Now)); err != nil {
		t.Error(err)
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	release2 := make(chan struct{})
	// Someone who is slow holds the lock while fetching.
	slow := forge(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, release.ListingName(releasetest.Configuration)) {
			<-release2
		}
		return false
	})
	done := make(chan error, 1)
	go func() {
		_, err := finder(t, kept, source(t, slow)).Find(context.Background(), releasetest.Tag)
		done <- err
	}()
	for {
		if left, _ := filepath.Glob(filepath.Join(kept, ".ec-verify-tmp-*")); len(left) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	// A slow machine comes to the lock later.
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		_, err := finder(t, kept, release.NewDirSource(dir)).Find(ctx, releasetest.Tag)
		cancel()
		if err != nil && !strings.Contains(err.Error(), "lock") && wait < time.Minute {
			continue
		}
		wantError(t, err, "unavailable", "lock")
		break
	}
	close(release2)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What the cache writes for itself is never written through a link: root would
// make, empty or wait for whatever that leads to.
func TestNoLinkIsWrittenThrough(t *testing.T) {
	dir, kept, elsewhere := t.TempDir(), t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	victim := filepath.Join(elsewhere, "victim")
	if err := os.Symlink(victim, filepath.Join(kept, ".lock")); err != nil {
		t.Fatal(err)
	}
	_, err := finder(t, kept, release.NewDirSource(dir)).Find(t.Context(), releasetest.Tag)
	wantError(t, err, "unavailable", "lock")
	if _, err := os.Lstat(victim); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock was made through a link: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(kept, ".lock")), os.WriteFile(victim, []byte("evidence"), 0o600),
		os.Symlink(victim, filepath.Join(kept, ".listed"))); err != nil {
		t.Fatal(err)
	}
	if _, err := finder(t, kept, release.NewDirSource(dir)).Find(t.Context(), release.Latest); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(victim); string(data) != "evidence" {
		t.Errorf("a file was emptied through a link: %q, %v", data, err)
	}
}
