package release_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

// revoking writes a signed list into dir/revocations, made so many hours after
// releasetest.Created, and returns that directory.
func revoking(t *testing.T, dir string, hours int, tags ...release.Tag) string {
	t.Helper()
	sub := filepath.Join(dir, string(release.RevocationsTag))
	list := release.Revocations{CreatedAt: releasetest.Created.Add(time.Duration(hours) * time.Hour)}
	for _, tag := range tags {
		list.Revoked = append(list.Revoked, release.Revocation{Tag: tag, RevokedAt: list.CreatedAt, Reason: "bad " + string(tag)})
	}
	if err := release.WriteRevocations(t.Context(), sub, list, func([]byte) ([]byte, error) { return []byte("good"), nil }); err != nil {
		t.Fatal(err)
	}
	return sub
}

// filesIn returns the files of a directory, by name.
func filesIn(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		out[e.Name()] = releasetest.Read(t, dir, e.Name())
	}
	return out
}

// remembering is finder with the memory in dir.
func remembering(t *testing.T, dir string, sources ...release.Source) *release.Finder {
	f := finder(t, filepath.Join(dir, "releases"), sources...)
	f.Memory = memory(t, dir)
	return f
}

// TestRevoked: a release that is revoked is refused, from the cache as well, online and
// offline, and by a machine that has lost its sources; a newer list is what lifts that.
func TestRevoked(t *testing.T) {
	const v1, v2 = release.Tag("boot-v1"), release.Tag("boot-v2")
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: v1})
	signed(t, dir, releasetest.Spec{Tag: v2, Created: releasetest.Created.Add(time.Hour)})
	src := release.NewDirSource(dir)
	for _, tag := range []release.Tag{v1, v2} {
		if _, err := remembering(t, state, src).Find(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
	}
	revoking(t, dir, 2, v2)
	for _, sources := range [][]release.Source{{src}, nil} {
		f := remembering(t, state, sources...)
		_, err := f.Find(t.Context(), v2)
		wantReason(t, err, release.ReasonRevoked)
		if err == nil || !strings.Contains(err.Error(), "bad boot-v2") {
			t.Errorf("%v: %v", sources, err)
		}
		// To go back behind what is revoked is what the publisher asks for.
		if r, err := f.Find(t.Context(), v1); err != nil || r.Revoked() != nil {
			t.Errorf("%v: %v", sources, err)
		}
	}
	f := remembering(t, state, src)
	f.Options = append(f.Options, release.WithRevoked())
	if r, err := f.Find(t.Context(), v2); err != nil || r.Revoked() == nil || r.Revoked().Reason != "bad boot-v2" {
		t.Errorf("as what runs: %v", err)
	}
	if r, err := remembering(t, state, src).Find(t.Context(), release.Latest); err != nil || r.Tag() != v1 {
		t.Errorf("latest: %v, %v", r, err)
	}
	revoking(t, dir, 3, v1, v2)
	_, err := remembering(t, state, src).Find(t.Context(), release.Latest)
	wantReason(t, err, release.ReasonRevoked)
	revoking(t, dir, 4)
	if r, err := remembering(t, state, src).Find(t.Context(), release.Latest); err != nil || r.Tag() != v2 {
		t.Errorf("lifted: %v, %v", r, err)
	}
}

// TestForgeAltersRevocations: whatever a forge does to the list, revocations stay in force,
// and the problem is reported.
func TestForgeAltersRevocations(t *testing.T) {
	const v1 = release.Tag("boot-v1")
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: v1})
	released := filesIn(t, filepath.Join(dir, string(v1)))
	good := filesIn(t, revoking(t, t.TempDir(), 5, v1))
	lifted := filesIn(t, revoking(t, t.TempDir(), 6))
	older := filesIn(t, revoking(t, t.TempDir(), 4))
	same := filesIn(t, revoking(t, t.TempDir(), 5))
	with := func(files map[string][]byte, name string, data []byte) map[string][]byte {
		out := map[string][]byte{}
		for n, d := range files {
			out[n] = d
		}
		if out[name] = data; data == nil {
			delete(out, name)
		}
		return out
	}
	// One that is signed, and whose list is not in its form.
	resigned := func(data []byte) map[string][]byte {
		sub := revoking(t, t.TempDir(), 6)
		releasetest.File(t, sub, release.RevocationsName, data)
		if err := release.WriteSums(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
		return filesIn(t, sub)
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		fail  int
		says  string // "" where it is for want of an answer, which is told when it lasts
	}{
		"an older list":       {older, 0, "rolled-back"},
		"another of its time": {same, 0, "replaced"},
		"no list":             {nil, 0, "withheld"},
		"unsigned":            {with(lifted, release.BundleName, nil), 0, "unsigned"},
		"forged":              {with(lifted, release.BundleName, []byte("bad")), 0, "bad-signature"},
		"another list in it":  {with(lifted, release.RevocationsName, good[release.RevocationsName]), 0, "checksum"},
		"too large":           {with(lifted, release.RevocationsName, make([]byte, release.MaxRevocationsSize+1)), 0, "too-large"},
		"too large sums":      {with(lifted, release.SumsName, make([]byte, release.MaxSumsSize+1)), 0, "too-large"},
		"garbled":             {resigned([]byte("{")), 0, "malformed-revocations"},
		"a newer schema":      {resigned([]byte(`{"schemaVersion":2}`)), 0, "unknown schema version 2"},
		"a release for it":    {released, 0, "wrong-tag"},
		"half of it":          {with(lifted, release.RevocationsName, nil), 0, ""},
		"no answer":           {lifted, http.StatusInternalServerError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			first := &forgetest.Server{}
			src := at15(t, first, "")
			first.Put(string(v1), false, released)
			if _, err := remembering(t, state, src).Find(t.Context(), v1); err != nil {
				t.Fatal(err)
			}
			first.Put(string(release.RevocationsTag), false, good)
			// What is in the cache is asked nobody for. To fetch is to ask.
			if _, err := remembering(t, state, src).Find(t.Context(), v1); err != nil {
				t.Fatal(err)
			}
			f := remembering(t, state, src)
			f.Accept = []release.Tag{v1}
			wantReason(t, f.FindAccepted(t.Context())[0].Err, release.ReasonRevoked)
			if s := f.RevocationState(); s.Refused != "" || s.Stale || !s.Asked.Equal(releasetest.Now) {
				t.Fatalf("%+v", s)
			}

			liar := &forgetest.Server{Fail: func(r *http.Request) int {
				if strings.Contains(r.URL.Path, string(release.RevocationsTag)) {
					return c.fail
				}
				return 0
			}}
			src = at15(t, liar, "")
			liar.Put(string(v1), false, released)
			if c.files != nil {
				liar.Put(string(release.RevocationsTag), false, c.files)
			}
			f = remembering(t, state, src)
			f.Accept = []release.Tag{v1}
			wantReason(t, f.FindAccepted(t.Context())[0].Err, release.ReasonRevoked)
			if s := f.RevocationState(); !strings.Contains(s.Refused, c.says) || (s.Refused == "") != (c.says == "") || s.Unkept != "" {
				t.Errorf("%+v, want %q", s, c.says)
			}
			// A run that asks nobody says the same.
			f = remembering(t, state, src)
			f.Offline = true
			_, err := f.Find(t.Context(), v1)
			wantReason(t, err, release.ReasonRevoked)
			if s := f.RevocationState(); (s.Refused == "") != (c.says == "") {
				t.Errorf("offline: %+v", s)
			}
			// A good answer, and nothing is wrong any more.
			honest := &forgetest.Server{}
			src = at15(t, honest, "")
			honest.Put(string(release.RevocationsTag), false, good)
			f = remembering(t, state, src)
			f.AskRevocations(t.Context(), true)
			if s := f.RevocationState(); s.Refused != "" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRevocationsGrowStale: where nobody has answered for longer than the grace, and
// than two days, that is said.
func TestRevocationsGrowStale(t *testing.T) {
	state := t.TempDir()
	s := &forgetest.Server{}
	src := at15(t, s, "")
	ask := func(after time.Duration, offline bool, grace time.Duration) release.RevocationState {
		f := remembering(t, state, src)
		f.Offline, f.Options = offline, []release.Option{at(releasetest.Now.Add(after)), release.WithGrace(grace)}
		f.AskRevocations(t.Context(), true)
		return f.RevocationState()
	}
	if s := ask(0, true, 0); !s.Stale || !s.Asked.IsZero() {
		t.Errorf("never: %+v", s)
	}
	if s := ask(0, false, 0); s.Stale {
		t.Errorf("now: %+v", s)
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		after, grace time.Duration
		want         bool
	}{{2 * day, 0, false}, {2*day + time.Second, 0, true}, {3 * day, 3 * day, false}, {3*day + time.Second, 3 * day, true}} {
		if s := ask(c.after, true, c.grace); s.Stale != c.want || !s.Asked.Equal(releasetest.Now) {
			t.Errorf("%+v: %+v", c, s)
		}
	}
	// A directory is asked by every run.
	f := remembering(t, state, release.NewDirSource(t.TempDir()))
	f.Options = []release.Option{at(releasetest.Now.Add(100 * day))}
	if s := f.RevocationState(); s.Stale {
		t.Errorf("a directory: %+v", s)
	}
}

// TestRevokedMemory: a damaged memory does not count as an empty one, a list with an
// untrusted signature is not kept, and a failed write is reported to the run.
func TestRevokedMemory(t *testing.T) {
	const v1 = release.Tag("boot-v1")
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: v1})
	revoking(t, dir, 2, v1)
	src := release.NewDirSource(dir)
	for _, c := range []func(f *release.Finder){
		func(f *release.Finder) { f.Foreign = true },
		func(f *release.Finder) { f.Look = true },
	} {
		f := remembering(t, state, src)
		c(f)
		_, err := f.Find(t.Context(), v1)
		wantReason(t, err, release.ReasonRevoked)
		if list := memory(t, state).Revocations(); !list.CreatedAt.IsZero() {
			t.Errorf("it is kept: %v", list)
		}
	}
	file := filepath.Join(state, "revoked.json")
	good := filepath.Join(t.TempDir(), "good")
	if _, err := remembering(t, state, src).Find(t.Context(), v1); err == nil {
		t.Fatal("found")
	}
	data := releasetest.Read(t, state, "revoked.json")
	// Another publisher's list lifts nothing of ours, even if it is newer.
	other := t.TempDir()
	revoking(t, other, 9, "boot-v7")
	f := remembering(t, state, release.NewDirSource(other))
	f.Foreign = true
	f.AskRevocations(t.Context(), true)
	if f.Memory.Revoked(v1) == nil || f.Memory.Revoked("boot-v7") == nil {
		t.Error("a foreign list has lifted what was revoked, or revoked nothing")
	}
	for _, c := range []struct{ from, to string }{
		{string(data), ""}, {string(data), "{}"}, {`"schemaVersion": 1`, `"schemaVersion": 9`}, {`"reason": "bad boot-v1"`, `"reason": ""`},
		{`"sums": "`, `"sums": "0`}, {`"refused": ""`, `"refused": "", "more": 1`},
	} {
		releasetest.File(t, state, "revoked.json", []byte(strings.Replace(string(data), c.from, c.to, 1)))
		if _, err := release.OpenMemory(state); err == nil || !strings.Contains(err.Error(), "revoked.json") {
			t.Errorf("%q: %v", c.to, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(good, file); err != nil {
		t.Fatal(err)
	}
	if _, err := release.OpenMemory(state); err == nil {
		t.Error("a link to nowhere is an empty memory")
	}
	blocked := filepath.Join(t.TempDir(), "file")
	releasetest.File(t, filepath.Dir(blocked), "file", nil)
	f = remembering(t, blocked, src)
	if _, err := f.Find(context.Background(), v1); err == nil || f.RevocationState().Unkept == "" {
		t.Errorf("a state directory that is none: %v, %+v", err, f.RevocationState())
	}
}

// TestRevocationsOfManySources: the newest list wins, wherever it is.
func TestRevocationsOfManySources(t *testing.T) {
	var sources []release.Source
	for i, hours := range []int{3, 5, 4} {
		dir := t.TempDir()
		revoking(t, dir, hours, release.Tag(fmt.Sprintf("boot-v%d", i)))
		sources = append(sources, release.NewDirSource(dir))
	}
	sources = append(sources, release.NewDirSource(filepath.Join(t.TempDir(), "not-there")))
	f := remembering(t, t.TempDir(), sources...)
	f.AskRevocations(t.Context(), true)
	if list := f.Memory.Revocations(); len(list.Revoked) != 1 || list.Revoked[0].Tag != "boot-v1" {
		t.Errorf("%v", list)
	}
	if s := f.RevocationState(); s.Refused != "" {
		t.Errorf("%+v", s)
	}
}

// TestRevocationsWhileReplaced: a list that is not there for a moment is asked for again,
// and one that stays away is withheld.
func TestRevocationsWhileReplaced(t *testing.T) {
	const v1 = release.Tag("boot-v1")
	good := filesIn(t, revoking(t, t.TempDir(), 5, v1))
	for misses, want := range map[int]string{1: "", 2: "", 3: "withheld"} {
		state := t.TempDir()
		s := &forgetest.Server{}
		src := at15(t, s, "")
		s.Put(string(release.RevocationsTag), false, good)
		remembering(t, state, src).AskRevocations(t.Context(), true)
		asked := 0
		away := &forgetest.Server{Fail: func(r *http.Request) int {
			if strings.HasSuffix(r.URL.Path, "revocations/"+release.SumsName) {
				if asked++; asked <= misses {
					return http.StatusNotFound
				}
			}
			return 0
		}}
		src = at15(t, away, "")
		away.Put(string(release.RevocationsTag), false, good)
		f := remembering(t, state, src)
		f.AskRevocations(t.Context(), true)
		if got := f.RevocationState().Refused; !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("away for %d requests: %q, want %q", misses, got, want)
		}
	}
}

// TestRevocationsAreAskedForOnceADay: a run that finds everything in its cache hears of a
// list within a day, and asks no more often, nor offline.
func TestRevocationsAreAskedForOnceADay(t *testing.T) {
	const v1 = release.Tag("boot-v1")
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{Tag: v1})
	s := &forgetest.Server{}
	src := at15(t, s, "")
	s.Put(string(v1), false, filesIn(t, filepath.Join(dir, string(v1))))
	find := func(after time.Duration, offline bool) error {
		f := remembering(t, state, src)
		f.Offline, f.Options = offline, []release.Option{at(releasetest.Now.Add(after))}
		_, err := f.Find(t.Context(), v1)
		return err
	}
	if err := find(0, false); err != nil {
		t.Fatal(err)
	}
	s.Put(string(release.RevocationsTag), false, filesIn(t, revoking(t, t.TempDir(), 5, v1)))
	for _, c := range []struct {
		after   time.Duration
		offline bool
	}{{time.Hour, false}, {23 * time.Hour, false}, {25 * time.Hour, true}} {
		if err := find(c.after, c.offline); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	wantReason(t, find(24*time.Hour, false), release.ReasonRevoked)
}
