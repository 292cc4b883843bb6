package verify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// revoke has the releases be revoked, and the machine know it.
func (m *twoSystems) revoke(tags ...release.Tag) {
	m.t.Helper()
	dir := m.t.TempDir()
	var list []string
	for _, tag := range tags {
		list = append(list, fmt.Sprintf(`{"tag":%q,"revokedAt":"2026-03-01T00:00:00Z","reason":"bad"}`, tag))
	}
	m.must(os.WriteFile(filepath.Join(dir, "revoked.json"), fmt.Appendf(nil,
		`{"schemaVersion":1,"createdAt":"2026-03-01T00:00:00Z","sums":"%064d","revoked":[%s],"asked":"2026-03-01T00:00:00Z","refused":""}`,
		0, strings.Join(list, ",")), 0o600))
	memory, err := release.ReadMemory(dir)
	m.must(err)
	open := func(ctx context.Context, tag release.Tag) Candidate {
		rel, err := release.Open(ctx, release.NewDirSource(m.releases), tag, believer{}, release.WithRevocations(memory), release.WithRevoked(),
			release.WithClock(func() time.Time { return testCreated.AddDate(0, 0, 1) }))
		return Candidate{Tag: string(tag), Release: rel, Err: err}
	}
	m.v.Open = func(ctx context.Context) []Candidate {
		return []Candidate{open(ctx, testTag), open(ctx, nextTag)}
	}
	m.v.Identify = func(ctx context.Context, system closure.StorePath) (*release.Release, *closure.Manifest) {
		if system != nextTop {
			return nil, nil
		}
		return open(ctx, nextTag).Release, m.next
	}
}

// TestRevoked: what a machine runs, booted or boots is revoked, or what else it may run.
func TestRevoked(t *testing.T) {
	const (
		runs, other   = "release-revoked boot-v2026.02.28", "accepted-revoked boot-v2026.03.15"
		booted, entry = "release-revoked /run/booted-system", "release-revoked /nix/var/nix/profiles/system"
	)
	for name, c := range map[string]struct {
		revoked      []release.Tag
		booted, next closure.StorePath
		do           func(m *twoSystems)
		verdict      report.Verdict
		findings     []string
	}{
		"none":                  {nil, top, top, nil, report.Verified, nil},
		"what runs":             {[]release.Tag{testTag}, top, top, nil, report.Drifted, []string{runs}},
		"what runs, to be left": {[]release.Tag{testTag}, top, nextTop, nil, report.Drifted, []string{runs, "pending-reboot /nix/var/nix/profiles/system"}},
		"another one":           {[]release.Tag{nextTag}, top, top, nil, report.Verified, []string{other}},
		"what was booted":       {[]release.Tag{nextTag}, nextTop, top, nil, report.Drifted, []string{booted, other}},
		"what boots next":       {[]release.Tag{nextTag}, top, nextTop, nil, report.Drifted, []string{entry, other}},
		"all":                   {[]release.Tag{testTag, nextTag}, top, top, nil, report.Drifted, []string{runs, other}},
		"what runs, and a byte": {[]release.Tag{testTag}, top, top, func(m *twoSystems) { m.write(string(lib), "LIB") }, report.Drifted, []string{runs, "disk-altered lib :content"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTwoSystems(t)
			if c.do != nil {
				c.do(m)
			}
			m.seal()
			m.revoke(c.revoked...)
			r := m.run(t.Context(), c.booted, c.next)
			expect(t, r, c.verdict, c.findings...)
			for _, f := range r.Findings {
				if f.Class() == report.Drift && f.Cause == report.ReleaseRevoked && !strings.Contains(f.Detail, "its publisher has revoked it, on 2026-03-01T00:00:00Z: bad") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestRevokedEntries: a revoked release in the boot menu is an older generation, unless
// it is what starts by itself.
func TestRevokedEntries(t *testing.T) {
	const entry = " /boot/loader/entries/nixos-generation-"
	for _, c := range []struct {
		first, second closure.StorePath
		verdict       report.Verdict
		findings      []string
	}{
		{nextTop, top, report.Verified, []string{"accepted-revoked " + string(nextTag), "unaccepted-entry" + entry + "1.conf"}},
		{top, nextTop, report.Drifted, []string{"release-revoked" + entry + "2.conf", "accepted-revoked " + string(nextTag)}},
	} {
		m := newBootable(t)
		m.systemdBoot()
		m.remove("/boot/loader")
		m.entry(1, string(c.first)+"/init")
		m.entry(2, string(c.second)+"/init")
		m.seal()
		m.revoke(nextTag)
		expect(t, m.runMenu(t.Context()), c.verdict, c.findings...)
	}
}

// TestRevokedRelease: whichever release a run was to compare with, one that is revoked
// does not verify, and one that is not stands for it where the machine runs neither.
func TestRevokedRelease(t *testing.T) {
	m := newTwoSystems(t)
	m.seal()
	m.revoke(testTag)
	r := m.v.Verify(t.Context(), nil)
	if got, want := r.Headline(), "drifted: the disk at "+m.root+" is release boot-v2026.02.28 ("+testConfiguration+"), which its publisher has revoked, as far as it was checked"; got != want {
		t.Errorf("headline %q, want %q", got, want)
	}
	if got := r.Brief(); !strings.Contains(got, ", revoked, 1 difference") {
		t.Errorf("brief %q", got)
	}
	// A candidate is judged alike.
	m.v.System = string(top)
	r = m.v.Verify(t.Context(), nil)
	if got := r.Headline(); r.Verdict() != report.Drifted || !strings.Contains(got, "is release boot-v2026.02.28") || !strings.Contains(got, ", which its publisher has revoked") {
		t.Errorf("%q: %q", got, summary(r))
	}
	// It could not be had, though it is known to be revoked.
	m.v.System = ""
	m.v.Open = func(context.Context) []Candidate {
		return []Candidate{{Tag: string(testTag), Err: release.Untrusted(release.ReasonRevoked, "bad")}}
	}
	r = m.v.Verify(t.Context(), nil)
	if got, want := r.Headline(), "drifted: release boot-v2026.02.28 is revoked by its publisher, and nothing was compared with it"; got != want {
		t.Errorf("headline %q, want %q", got, want)
	}

	// A machine that runs neither.
	m = newTwoSystems(t)
	m.remove("/nix/var/nix/profiles/system")
	m.link("/nix/var/nix/profiles/system", string(lib))
	m.seal()
	m.revoke(testTag)
	if r = m.v.Verify(t.Context(), nil); r.Release == nil || r.Release.Tag != string(nextTag) {
		t.Errorf("compared with %+v", r.Release)
	}

	// One that runs a release which is revoked and not accepted.
	m = newTwoSystems(t)
	m.remove("/nix/var/nix/profiles/system")
	m.link("/nix/var/nix/profiles/system", string(nextTop))
	m.seal()
	m.revoke(nextTag)
	all := m.v.Open
	m.v.Open = func(ctx context.Context) []Candidate { return all(ctx)[:1] }
	r = m.v.Verify(t.Context(), nil)
	if got := strings.Join(summary(r), "; "); !strings.Contains(got, "release-revoked boot-v2026.03.15") || !strings.Contains(got, "other-release") {
		t.Errorf("%s", got)
	}
}

// TestRevocationsAreReported: the report names problems with the lists, and no machine is
// verified while a list is refused.
func TestRevocationsAreReported(t *testing.T) {
	m := newTwoSystems(t)
	m.seal()
	m.revoke()
	for _, c := range []struct {
		state    release.RevocationState
		verdict  report.Verdict
		findings []string
	}{
		{release.RevocationState{}, report.Verified, nil},
		{release.RevocationState{Refused: "forged"}, report.Unsettled, []string{"revocations-refused"}},
		{release.RevocationState{Stale: true}, report.Verified, []string{"revocations-stale"}},
		{release.RevocationState{Unkept: "full"}, report.Verified, []string{"not-remembered"}},
	} {
		m.v.Revocations = func() release.RevocationState { return c.state }
		expect(t, m.run(t.Context(), top, top), c.verdict, c.findings...)
	}
}
