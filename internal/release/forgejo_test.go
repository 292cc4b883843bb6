package release_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

// files are those of a signed release, by name, without those that are left out.
func files(t *testing.T, spec releasetest.Spec, without ...string) map[string][]byte {
	t.Helper()
	sub := signed(t, t.TempDir(), spec)
	entries, err := os.ReadDir(sub)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		out[e.Name()] = releasetest.Read(t, sub, e.Name())
	}
	for _, name := range without {
		delete(out, name)
	}
	return out
}

func at15(t *testing.T, s *forgetest.Server, token string) release.Source {
	t.Helper()
	src, err := release.NewSource(s.Start(t)+"/releases/download", release.WithTimeouts(quick()), release.WithToken(token))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestWallIsUnavailable: a page that stands in the place of every file, as where a
// Forgejo 15 asks for a sign-in or an account is blocked, is no untrusted release: the
// next source is asked.
func TestWallIsUnavailable(t *testing.T) {
	good := &forgetest.Server{}
	next := at15(t, good, "")
	good.Put(string(releasetest.Tag), false, files(t, releasetest.Spec{}))
	for name, c := range map[string]struct {
		server *forgetest.Server
		token  string
		says   string
	}{
		"a sign-in page":     {&forgetest.Server{SignIn: true}, "", `a web page instead ("/user/login"); if it requires a sign-in, set release.tokenFile`},
		"a blocked account":  {&forgetest.Server{}, forgetest.Blocked, "403"},
		"a changed password": {&forgetest.Server{}, forgetest.Stale, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			src := at15(t, c.server, c.token)
			c.server.Put(string(releasetest.Tag), false, files(t, releasetest.Spec{}))
			_, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
			wantError(t, err, "unavailable", c.says)
			f := &release.Finder{Sources: []release.Source{src, next}, Verifier: believing{}, Options: []release.Option{at(releasetest.Now)}}
			if r, err := f.Find(t.Context(), releasetest.Tag); err != nil || r.Source() != next.String() {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
	// In a directory a page is what somebody put there.
	dir := t.TempDir()
	releasetest.File(t, signed(t, dir, releasetest.Spec{}), release.BundleName, []byte("<!DOCTYPE html>"))
	_, err := open(t, dir, releasetest.Tag)
	wantReason(t, err, release.ReasonBadSignature)
}

// TestDraftIsNotThere: a Forgejo 15 gives a draft's files to every token of somebody
// who may write.
func TestDraftIsNotThere(t *testing.T) {
	s := &forgetest.Server{}
	src := at15(t, s, forgetest.ReadOnly)
	s.Put(string(releasetest.Tag), true, files(t, releasetest.Spec{}))
	_, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
	wantError(t, err, "not found", "it exists only as a draft")
	s.Push(string(releasetest.Tag), releasetest.Commit)
	if _, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now)); err != nil {
		t.Error(err)
	}
	// A server that cannot be asked gives no release: it may be a draft.
	s.Fail = func(r *http.Request) int {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			return http.StatusForbidden
		}
		return 0
	}
	_, err = release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
	wantError(t, err, "unavailable", "403")
}

// TestHalfRelease: one without SHA256SUMS.txt, as where a tag is pushed while its draft
// is filled, is passed over by latest, which says so.
func TestHalfRelease(t *testing.T) {
	s := &forgetest.Server{}
	src := at15(t, s, "")
	s.Put("boot-v1", false, files(t, releasetest.Spec{Tag: "boot-v1"}))
	s.Put("boot-v2", false, files(t, releasetest.Spec{Tag: "boot-v2"}, release.SumsName))
	finder := func(options ...release.Option) *release.Finder {
		return &release.Finder{Sources: []release.Source{src}, Verifier: believing{}, Accept: []release.Tag{release.Latest}, Options: append(options, at(releasetest.Now))}
	}
	r, err := finder().Find(t.Context(), release.Latest)
	if err != nil || r.Tag() != "boot-v1" || len(r.Notes()) != 1 || !strings.Contains(r.Notes()[0], "latest means boot-v1: the sources list boot-v2 without its SHA256SUMS.txt") {
		t.Fatalf("%v, %v", r, err)
	}
	_, err = finder().Find(t.Context(), "boot-v2")
	wantError(t, err, "not found", release.SumsName)

	// Where the one before is no longer to be gone back to, it is the newest that is
	// not there, and nothing that is untrusted.
	m, err := release.OpenMemory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: "boot-v2", Created: releasetest.Created.AddDate(0, 0, 1)})
	if _, err := open(t, dir, "boot-v2", release.WithMemory(m)); err != nil {
		t.Fatal(err)
	}
	_, err = finder(release.WithMemory(m)).Find(t.Context(), release.Latest)
	wantError(t, err, "not found", "boot-v2")

	// A list of releases that are not there is not gone through to its end.
	for n := range 5 {
		s.Put(fmt.Sprintf("boot-v%d", n+3), false, nil)
	}
	before := len(s.Requests())
	_, err = finder().Find(t.Context(), release.Latest)
	wantError(t, err, "not found", "boot-v7")
	if n := len(s.Requests()) - before; n != 5 {
		t.Errorf("%d requests", n)
	}
}

// TestManyReleases finds the newest behind more releases than a page has.
func TestManyReleases(t *testing.T) {
	s := &forgetest.Server{PageSize: 10}
	src := at15(t, s, "").(release.Lister)
	s.Add("boot-v9", false)
	for n := range 45 {
		s.Add(fmt.Sprintf("other-%d", n), false)
	}
	s.Add("boot-v8", false)
	tags, err := src.Tags(t.Context())
	if err != nil || len(tags) != 47 || tags[len(tags)-1] == "boot-v9" {
		t.Fatalf("%v, %v", tags, err)
	}
	if i := slices.IndexFunc(tags, release.Tag.MayBeLatest); i < 0 || tags[i] != "boot-v9" {
		t.Errorf("the newest is not boot-v9: %v", tags)
	}
	if n := len(s.Requests()); n != 5 {
		t.Errorf("%d requests for a list of 5 pages", n)
	}
}

// TestListChanges: a list that has fewer than it says was changed while it was read,
// and is read once more; one that is beyond the bound is no list.
func TestListChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		totals []string // by request
		pages  []string
		line   string
		asked  int32
	}{
		{"once", []string{"2", "2", "1", "1"}, []string{`[{"tag_name":"boot-v1"}]`, `[]`, `[{"tag_name":"boot-v1"}]`}, "", 3},
		{"always", []string{"2", "2", "2", "2"}, []string{`[{"tag_name":"boot-v1"}]`, `[]`, `[{"tag_name":"boot-v1"}]`, `[]`}, "it changed while it was read", 4},
		{"too many", []string{"5001"}, []string{`[{"tag_name":"boot-v1"}]`}, "more than 5000 releases, the maximum; name a tag", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				n := asked.Add(1) - 1
				w.Header().Set("X-Total-Count", c.totals[n])
				fmt.Fprint(w, c.pages[n])
			}))
			defer s.Close()
			tags, err := source(t, s).(release.Lister).Tags(t.Context())
			if c.line != "" {
				wantError(t, err, "unavailable", c.line)
			} else if err != nil || len(tags) != 1 {
				t.Errorf("%v, %v", tags, err)
			}
			if asked.Load() != c.asked {
				t.Errorf("%d requests", asked.Load())
			}
		})
	}
}

// TestReplacedMeanwhile: parts of two releases, where one is being put into the place
// of the other, are nothing to be alarmed about; parts that do not fit, and stay so, are.
func TestReplacedMeanwhile(t *testing.T) {
	for _, replaced := range []string{release.BundleName, "image.iso"} {
		for _, settled := range []string{"another", "gone", "the same"} {
			t.Run(replaced+", "+settled, func(t *testing.T) {
				dir := t.TempDir()
				sub := signed(t, dir, releasetest.Spec{})
				s := forge(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
					if !strings.HasSuffix(r.URL.Path, "/"+replaced) {
						return false
					}
					releasetest.File(t, sub, replaced, []byte("of another release"))
					switch settled {
					case "another":
						releasetest.File(t, sub, release.SumsName, []byte("of another release"))
					case "gone":
						os.Remove(filepath.Join(sub, release.SumsName))
					}
					return false
				})
				r, err := release.Open(t.Context(), source(t, s), releasetest.Tag, believing{}, at(releasetest.Now))
				if err == nil {
					err = r.CheckAssets(t.Context(), nil)
				}
				if settled != "the same" {
					wantError(t, err, "unavailable", "SHA256SUMS.txt changed during the read")
					return
				}
				var untrusted *release.UntrustedError
				if !errors.As(err, &untrusted) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
