package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// The candidates of TestChoose: what this machine runs, what it does not, and
// why one could not be opened.
var (
	errUnavailable = &release.UnavailableError{What: "release", Source: "test", Err: errors.New("no network")}
	errUntrusted   = release.Untrusted(release.ReasonNotInSums, "test")
	errClock       = &release.ClockError{Now: testCreated, Detail: "test"}
)

// TestChoose has each way in which a pinned and accepted releases can combine.
// "own" is the release that the machine is, "other" another one, "gone",
// "false" and "clock" could not be opened.
func TestChoose(t *testing.T) {
	m := newMachine(t)
	// Another release is of the same closure but for its toplevel.
	own := m.manifest
	other := *m.manifest
	other.Toplevel = closure.Toplevel{DrvPath: object("y", "other.drv"), OutPath: object("y", "other")}
	other.Paths = append(append([]closure.PathInfo{}, own.Paths[:3]...), closure.PathInfo{
		Path: other.Toplevel.OutPath, NarHash: own.Paths[3].NarHash, NarSize: own.Paths[3].NarSize, References: own.Paths[3].References,
	})
	m.manifest = &other
	m.publish("other")
	m.manifest = own
	m.publish("own")

	for _, tc := range []struct {
		candidates string
		pinned     bool
		against    string // what the report says that it was to be compared with
		chosen     string // "" where nothing can be
		findings   []string
	}{
		{"", true, "", "", []string{"release-unavailable"}},
		{"", false, "", "", []string{"release-unavailable"}},

		{"own", true, "own", "own", nil},
		{"own other", true, "own", "own", nil},
		{"other own", true, "other", "own", []string{"other-release /nix/var/nix/profiles/system"}}, // which it runs
		{"own gone", true, "own", "own", []string{"accepted-unavailable gone"}},
		{"own false", true, "own", "own", []string{"accepted-unavailable false"}},
		{"gone own", true, "gone", "", []string{"release-unavailable gone"}}, // not the second in its place
		{"false own", true, "false", "", []string{"release-untrusted false"}},
		{"clock", true, "clock", "", []string{"clock-wrong clock"}},
		{"gone false", true, "gone", "", []string{"release-unavailable gone"}}, // the second matters not

		{"own", false, "own", "own", nil},
		{"other own", false, "other, own", "own", nil}, // the one that runs
		{"gone own", false, "gone, own", "own", []string{"accepted-unavailable gone"}},
		{"own gone", false, "own, gone", "own", []string{"accepted-unavailable gone"}},
		{"other", false, "other", "other", nil},
		{"other gone", false, "other, gone", "", []string{"release-unavailable gone"}}, // it may be the one that runs
		{"gone false", false, "gone, false", "", []string{"release-untrusted false"}},
		{"false gone clock", false, "false, gone, clock", "", []string{"release-untrusted false"}},
		{"clock gone", false, "clock, gone", "", []string{"clock-wrong clock"}},
	} {
		t.Run(tc.candidates+map[bool]string{true: " pinned", false: " accepted"}[tc.pinned], func(t *testing.T) {
			v := m.verifier()
			v.Pinned = tc.pinned
			v.Open = func(ctx context.Context) []Candidate {
				var out []Candidate
				for _, name := range strings.Fields(tc.candidates) {
					c := Candidate{Tag: name}
					switch name {
					case "gone":
						c.Err = errUnavailable
					case "false":
						c.Err = errUntrusted
					case "clock":
						c.Err = errClock
					default:
						c = m.open(ctx, release.Tag(name))
					}
					out = append(out, c)
				}
				return out
			}
			manifest, r := v.Manifest(t.Context())
			if got := summary(r); strings.Join(got, "; ") != strings.Join(tc.findings, "; ") {
				t.Errorf("findings %q, want %q", got, tc.findings)
			}
			if r.Against != tc.against {
				t.Errorf("against %q, want %q", r.Against, tc.against)
			}
			chosen := ""
			if r.Release != nil {
				chosen = r.Release.Tag
			}
			if chosen != tc.chosen || (manifest == nil) != (tc.chosen == "") {
				t.Errorf("chosen %q with the manifest %v, want %q", chosen, manifest != nil, tc.chosen)
			}
		})
	}
}

// The finding about a machine that is about to boot another release depends on whether
// that one is accepted.
func TestAcceptedAs(t *testing.T) {
	m := newMachine(t)
	v := m.verifier()
	another := object("y", "another")
	for _, tc := range []struct {
		name  string
		other Candidate
		link  closure.StorePath
		want  string
	}{
		{"the one compared with", m.open(t.Context(), testTag), top, ""},
		{"no accepted one", m.open(t.Context(), testTag), another, "other-boot"},
		{"perhaps one that could not be opened", Candidate{Tag: "gone", Err: errUnavailable}, another, "live-unknown"},
	} {
		r := v.begin(nil)
		_, err := r.openStore()
		m.must(err)
		defer r.end()
		r.manifest = m.manifest
		own := candidate{m.open(t.Context(), testTag), m.manifest}
		r.candidates = []candidate{own, {tc.other, m.manifest}}
		r.chosen = &r.candidates[0]
		r.judgeLink(t.Context(), liveLink{name: BootedSystem, cause: report.OtherBoot}, tc.link, "")
		got := ""
		for _, f := range r.report.Findings {
			got += string(f.Cause)
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	r := v.begin(nil)
	_, err := r.openStore()
	m.must(err)
	defer r.end()
	r.manifest = m.manifest
	older := *m.manifest
	older.Toplevel.OutPath = another
	r.candidates = []candidate{{m.open(t.Context(), testTag), m.manifest}, {m.open(t.Context(), testTag), &older}}
	r.chosen = &r.candidates[0]
	r.judgeLink(t.Context(), liveLink{name: BootedSystem, cause: report.OtherBoot}, another, "")
	r.judgeLink(t.Context(), liveLink{name: CurrentSystem, cause: report.OtherSystem, exact: true}, another, "")
	r.judgeLink(t.Context(), liveLink{name: BootedSystem, cause: report.OtherBoot}, another, "/sub")
	r.conclude()
	if got, want := summary(r.report), "other-system /run/current-system; other-boot /run/booted-system; pending-unchecked /run/booted-system"; strings.Join(got, "; ") != want {
		t.Errorf("another accepted release: got %q, want %q", got, want)
	}
}

func TestConfiguration(t *testing.T) {
	m := newMachine(t)
	v := m.verifier()
	v.Configuration = testConfiguration
	expect(t, v.Verify(t.Context(), nil), report.Verified)
	v.Configuration = "ec-runner-aarch64"
	r := v.Verify(t.Context(), nil)
	expect(t, r, report.Unsettled, "release-unavailable "+string(testTag))
	if !strings.Contains(r.Findings[0].Detail, testConfiguration) {
		t.Errorf("the finding does not say which configurations there are: %q", r.Findings[0].Detail)
	}
	// A second configuration: now one has to be named.
	second := *m.manifest
	second.Configuration = "ec-runner-aarch64"
	data, err := second.Encode()
	m.must(err)
	dir := filepath.Join(m.releases, string(testTag))
	m.must(os.WriteFile(filepath.Join(dir, release.ManifestName(second.Configuration)), data, 0o644))
	m.sign(testTag)
	v.Configuration = ""
	expect(t, v.Verify(t.Context(), nil), report.Unsettled, "release-unavailable "+string(testTag))
	v.Configuration = second.Configuration
	expect(t, v.Verify(t.Context(), nil), report.Verified)
	// A store directory that is not this machine's.
	v.StoreDir = "/gnu/store"
	expect(t, v.Verify(t.Context(), nil), report.Refused, "release-untrusted "+string(testTag))
}

// Without a release to compare with nothing is looked at, and nothing verified.
func TestNoRelease(t *testing.T) {
	for err, want := range map[error]report.Verdict{errUnavailable: report.Unsettled, errUntrusted: report.Refused, errClock: report.Unsettled} {
		m := newMachine(t)
		v := m.verifier()
		v.Open = func(context.Context) []Candidate { return []Candidate{{Tag: "v1", Err: err}} }
		r := v.Verify(t.Context(), nil)
		if got := r.Verdict(); got != want {
			t.Errorf("%v: verdict %s, want %s", err, got, want)
		}
		if got := statuses(r); got != "release failed 0" {
			t.Errorf("%v: tiers %s", err, got)
		}
		if len(m.eval.asked) > 0 || r.Release != nil {
			t.Errorf("%v: something was done with a release that is none: %q, %+v", err, m.eval.asked, r.Release)
		}
	}
}

func TestSkip(t *testing.T) {
	m := newMachine(t)
	m.write(string(lib), "altered")
	for _, tc := range []struct {
		skip     []report.TierName
		verdict  report.Verdict
		findings []string
	}{
		{[]report.TierName{report.TierContents}, report.Verified, []string{"check-skipped"}},
		{[]report.TierName{report.TierEval}, report.Drifted, []string{"disk-altered lib :content", "check-skipped"}},
		{[]report.TierName{report.TierSource, report.TierEval, report.TierLive, report.TierContents}, report.Unsettled,
			[]string{"check-skipped", "check-skipped", "check-skipped", "check-skipped"}},
	} {
		v := m.verifier()
		v.Skip = tc.skip
		expect(t, v.Verify(t.Context(), nil), tc.verdict, tc.findings...)
	}
}

// What a listing cannot tell changes nothing about the verdict, but for a
// listing that is not the release's own.
func TestNameFiles(t *testing.T) {
	for _, tc := range []struct {
		name     string
		do       func(m *machine, listing string)
		verdict  report.Verdict
		findings []string
		detail   string
	}{
		{"there is no listing", func(m *machine, listing string) { m.must(os.Remove(listing)); m.sign(testTag) },
			report.Drifted, []string{"disk-altered lib"}, "it is unknown which files differ"},
		{"it lacks the path", func(m *machine, _ string) { m.files = m.files[:1]; m.publish(testTag) },
			report.Drifted, []string{"disk-altered lib"}, "listing lacks this path"},
		{"it is not what was signed", func(m *machine, listing string) { m.must(os.WriteFile(listing, []byte("x"), 0o644)) },
			report.Refused, []string{"release-untrusted " + string(testTag), "disk-altered lib"}, "it is unknown which files differ"},
		{"it is malformed", func(m *machine, listing string) { m.must(os.WriteFile(listing, []byte("x"), 0o644)); m.sign(testTag) },
			report.Refused, []string{"release-untrusted " + string(testTag), "disk-altered lib"}, "it is unknown which files differ"},
		{"it says what the disk holds", func(m *machine, _ string) {
			m.files[1] = closure.PathFiles{}
			m.files = m.files[:1]
			m.info(lib)
			m.publish(testTag)
		},
			report.Drifted, []string{"disk-altered lib"}, "no file differed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.write(string(lib), "altered")
			tc.do(m, filepath.Join(m.releases, string(testTag), release.ListingName(testConfiguration)))
			r := m.verifier().Verify(t.Context(), nil)
			expect(t, r, tc.verdict, tc.findings...)
			last := r.Findings[len(r.Findings)-1]
			if !strings.Contains(last.Detail, tc.detail) {
				t.Errorf("detail %q, want %q", last.Detail, tc.detail)
			}
		})
	}
}

func TestManyFiles(t *testing.T) {
	m := newMachine(t)
	for i := range closure.MaxFileChanges + 5 {
		m.write(string(data)+"/empty/"+strings.Repeat("x", i+1), "")
	}
	r := m.verifier().Verify(t.Context(), nil)
	if len(r.Findings) != 1 || len(r.Findings[0].Files) != closure.MaxFileChanges || r.Findings[0].MoreFiles != 5 {
		t.Errorf("got %d findings, the first with %d files and %d more; want 1, %d and 5",
			len(r.Findings), len(r.Findings[0].Files), r.Findings[0].MoreFiles, closure.MaxFileChanges)
	}
}

// The link of the embedded flake: what it leads to decides, and what cannot be
// read is no drift. The eval tier, which looks there too, does not count twice.
func TestSourceLink(t *testing.T) {
	const flake = "/etc/every-channel/flake"
	for _, tc := range []struct {
		name     string
		do       func(m *machine)
		verdict  report.Verdict
		findings []string
	}{
		{"none", func(m *machine) { m.remove("/etc") }, report.Drifted,
			[]string{"source-missing " + flake, "source-missing " + flake + " < source-missing"}},
		{"to a path that is gone", func(m *machine) { m.link(flake, string(object("y", "gone"))) }, report.Drifted,
			[]string{"source-missing " + flake, "source-missing " + flake + " < source-missing"}},
		{"to a directory outside", func(m *machine) { m.mkdir("/flake"); m.link(flake, "/flake") }, report.Drifted,
			[]string{"source-altered " + flake, "source-altered " + flake + " < source-altered"}},
		{"a directory", func(m *machine) { m.remove(flake); m.mkdir(flake) }, report.Drifted,
			[]string{"source-altered " + flake, "source-altered " + flake + " < source-altered"}},
		{"into a store path", func(m *machine) { m.link(flake, string(data)+"/a") }, report.Drifted,
			[]string{"source-altered " + flake, "source-altered " + flake + " < source-altered"}},
		{"in a loop", func(m *machine) { m.link(flake, flake) }, report.Unsettled,
			[]string{"source-unreadable " + flake, "source-unreadable " + flake + " < source-unreadable"}},
		{"to a file", func(m *machine) { m.link(flake, string(lib)) }, report.Drifted,
			[]string{"lock-altered lib/flake.lock", "source-altered lib", "evaluation-failed lib < source-altered"}},
		{"to another path with the same contents", func(m *machine) {
			m.write(string(object("y", "same"))+"/flake.nix", "{ }")
			m.write(string(object("y", "same"))+"/flake.lock", testLock)
			m.link(flake, string(object("y", "same")))
		}, report.Verified, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			tc.do(m)
			expect(t, m.verifier().Verify(t.Context(), nil), tc.verdict, tc.findings...)
		})
	}
}

// A run that is ended says so, skips the rest and leaves nothing behind; see
// TestMain for goroutines.
func TestEnded(t *testing.T) {
	interrupt := func() (context.Context, func()) { return context.WithCancel(t.Context()) }
	deadline := func() (context.Context, func()) {
		c := make(timedOut)
		return c, sync.OnceFunc(func() { close(c) })
	}
	for name, begin := range map[string]func() (context.Context, func()){"interrupted": interrupt, "out of time": deadline} {
		t.Run(name+" before it began", func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			ctx, end := begin()
			end()
			r := m.verifier().Verify(ctx, nil)
			expect(t, r, report.Unsettled, "interrupted")
			if got := statuses(r); got != "" {
				t.Errorf("tiers: %s", got)
			}
		})
		t.Run(name+" while it evaluated", func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			ctx, end := begin()
			m.eval.block = func(context.Context) { end() }
			r := m.verifier().Verify(ctx, nil)
			expect(t, r, report.Unsettled, "interrupted")
			if got := statuses(r); got != "release done 1, source done 2, eval failed 0" {
				t.Errorf("tiers: %s", got)
			}
		})
		t.Run(name+" while it hashed", func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			// A gigabyte of holes: hashing it takes far longer than noticing that
			// it has begun.
			m.unseal()
			m.must(os.Truncate(m.path(string(lib)), 1<<30))
			m.seal()
			ctx, end := begin()
			progress := new(Progress)
			endWhileHashing(progress, end)
			r := m.verifier().Verify(ctx, progress)
			expect(t, r, report.Unsettled, "interrupted")
			if last := r.Tiers[4]; last.Status != report.Failed || last.Checked != r.Coverage.Hashed || last.Checked >= r.Coverage.Paths {
				t.Errorf("tier %+v, coverage %+v: want all but some paths hashed", last, r.Coverage)
			}
		})
	}
	t.Run("after drift was found", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t)
		m.mkdir("/evil")
		m.link("/nix/var/nix/profiles/system", "/evil")
		m.must(os.Truncate(m.path(string(lib)), 1<<30))
		ctx, end := interrupt()
		progress := new(Progress)
		endWhileHashing(progress, end)
		expect(t, m.verifier().Verify(ctx, progress), report.Drifted, "other-profile /nix/var/nix/profiles/system", "interrupted")
	})
}

// endWhileHashing calls end once a run is hashing.
func endWhileHashing(progress *Progress, end func()) {
	go func() {
		for progress.Snapshot().Bytes < 1<<20 {
			runtime.Gosched()
		}
		end()
	}()
}

// timedOut is a context whose time is up when it is closed.
type timedOut chan struct{}

func (c timedOut) Done() <-chan struct{} { return c }

func (c timedOut) Err() error {
	select {
	case <-c:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func (timedOut) Deadline() (time.Time, bool) { return time.Now(), true }

func (timedOut) Value(any) any { return nil }

// Two releases may have one toplevel and other bytes, where a path is not
// reproducible: the machine is the one whose bytes it has, in whatever order the
// policy accepts them.
func TestSameToplevel(t *testing.T) {
	m := newMachine(t)
	m.publish("first")
	m.write(string(data)+"/a/file", "other bytes")
	m.files = nil
	other := *m.manifest
	other.Paths = []closure.PathInfo{m.info(data), m.info(lib, data), m.info(src), m.info(top, data, lib, src)}
	m.manifest = &other
	m.claim(data)
	m.publish("second") // this is what the machine is now
	for _, order := range [][]release.Tag{{"first", "second"}, {"second", "first"}} {
		v := m.verifier()
		v.Pinned = false
		v.Open = func(ctx context.Context) []Candidate {
			return []Candidate{m.open(ctx, order[0]), m.open(ctx, order[1])}
		}
		r := v.Verify(t.Context(), nil)
		expect(t, r, report.Verified)
		if r.Release == nil || r.Release.Tag != "second" {
			t.Errorf("accept %v: compared with %+v", order, r.Release)
		}
	}
	// Which one an altered machine is compared with does not hang on the order.
	m.write(string(data)+"/a/file", "a third")
	var chosen []string
	for _, order := range [][]release.Tag{{"first", "second"}, {"second", "first"}} {
		v := m.verifier()
		v.Pinned = false
		v.Open = func(ctx context.Context) []Candidate {
			return []Candidate{m.open(ctx, order[0]), m.open(ctx, order[1])}
		}
		r := v.Verify(t.Context(), nil)
		if r.Verdict() != report.Drifted {
			t.Errorf("accept %v: %s", order, r.Verdict())
		}
		chosen = append(chosen, r.Release.Tag)
	}
	if chosen[0] != chosen[1] {
		t.Errorf("compared with %q", chosen)
	}
}

// Two releases of one system that differ in the source, with the flake in a directory
// of it, are told apart before either says which directory that is.
func TestSameToplevelOfAnotherSource(t *testing.T) {
	m := newMachine(t)
	other := *m.manifest
	other.Source.NarHash = m.manifest.Paths[0].NarHash
	first := m.manifest
	m.manifest = &other
	m.publish(nextTag)
	m.manifest = first
	m.unseal()
	m.mkdir(string(src) + "/sub")
	m.seal()
	v := m.verifier()
	v.Pinned, v.Flake = false, string(src)+"/sub"
	v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, testTag), m.open(ctx, nextTag)} }
	r := v.Verify(t.Context(), nil)
	if r.Verdict() != report.Drifted || !slices.Contains(summary(r), "source-altered source/sub") {
		t.Errorf("%s, %q", r.Verdict(), summary(r))
	}
}
