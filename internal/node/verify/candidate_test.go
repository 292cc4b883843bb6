package verify

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// newCandidate is a machine that runs the system of testTag, whose verifier judges the
// system of nextTag.
func newCandidate(t *testing.T) *twoSystems {
	t.Helper()
	m := newTwoSystems(t)
	m.seal()
	m.eval.top = m.next.Toplevel
	m.v.System = string(nextTop)
	return m
}

func TestCandidate(t *testing.T) {
	other := object("9", "nixos-system-other")
	byTag := func(m *twoSystems) {
		m.v.System, m.v.Pinned = string(nextTag), true
		m.v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, nextTag), m.open(ctx, testTag)} }
	}
	for _, test := range []struct {
		name     string
		do       func(m *twoSystems)
		verdict  report.Verdict
		headline string
		findings []string
	}{
		{"good", nil, report.Verified, "verified: candidate " + string(nextTop) + " on the disk at", nil},
		{"by its tag", byTag, report.Verified, "is release boot-v2026.03.15", nil},
		{"the running one", func(m *twoSystems) {
			m.v.System, m.eval.top = string(top), m.manifest.Toplevel
		}, report.Verified, "within these limits: no source (the candidate carries no flake), no eval", []string{
			"source-elsewhere nixos-system/etc/every-channel/flake", "source-elsewhere nixos-system/etc/every-channel/flake",
		}},
		{"a byte", func(m *twoSystems) { m.write(string(tool), "A tool") }, report.Drifted, "drifted: candidate ", []string{"disk-altered tool :content"}},
		{"by its tag, a byte", func(m *twoSystems) { byTag(m); m.write(string(tool), "A tool") }, report.Drifted, "drifted: candidate " + string(nextTop), []string{"disk-altered tool :content"}},
		{"a byte of the running system alone", func(m *twoSystems) { m.write(string(top)+"/init", "#!/bin/SH") }, report.Verified, "verified: ", nil},
		{"a path is missing", func(m *twoSystems) { m.remove(string(tool)) }, report.Drifted, "1 difference", []string{"missing tool"}},
		{"its flake is missing", func(m *twoSystems) { m.remove(string(src)) }, report.Drifted, "1 difference", []string{
			"missing source", "source-missing nixos-system-next/etc/every-channel/flake < missing", "source-missing nixos-system-next/etc/every-channel/flake < source-missing",
		}},
		{"all of it is missing", func(m *twoSystems) { m.remove(string(nextTop)) }, report.Drifted, "1 difference", []string{
			"missing nixos-system-next", "source-missing nixos-system-next/etc/every-channel/flake < missing", "source-missing nixos-system-next/etc/every-channel/flake < source-missing",
		}},
		{"it never was here", func(m *twoSystems) {
			m.remove(string(nextTop))
			m.remove(string(tool))
			m.remove("/nix/var/nix/db")
			m.register(m.manifest.Paths...)
		}, report.Unsettled, "nothing was compared", []string{"candidate-absent nixos-system-next"}},
		{"its flake was altered", func(m *twoSystems) { m.write(string(src)+"/flake.nix", "{}") }, report.Drifted, "drifted: candidate ", []string{
			"source-altered source", "disk-altered source flake.nix:content", notEvaluated,
		}},
		{"of no release", func(m *twoSystems) { m.v.System = string(other) }, report.Drifted,
			"drifted: candidate " + string(other), []string{"other-system nixos-system-other"}},
		{"of a release that could not be opened", func(m *twoSystems) {
			m.v.System = string(other)
			m.v.Open = func(ctx context.Context) []Candidate {
				return []Candidate{m.open(ctx, testTag), m.open(ctx, "boot-v9")}
			}
		}, report.Unsettled, "inconclusive: candidate ", []string{"release-unavailable boot-v9"}},
		{"by a tag that could not be opened", func(m *twoSystems) {
			m.v.System, m.v.Pinned = "boot-v9", true
			m.v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, "boot-v9")} }
		}, report.Unsettled, "inconclusive: candidate boot-v9 ", []string{"release-unavailable boot-v9"}},
		{"of a release that is not accepted", func(m *twoSystems) {
			m.v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, testTag)} }
			m.v.Identify = func(ctx context.Context, _ closure.StorePath) (*release.Release, *closure.Manifest) {
				return m.open(ctx, nextTag).Release, m.next
			}
		}, report.Drifted, "drifted: candidate ", []string{"other-system nixos-system-next"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newCandidate(t)
			if test.do != nil {
				m.unseal()
				test.do(m)
				m.seal()
			}
			r := m.v.Verify(t.Context(), nil)
			expect(t, r, test.verdict, test.findings...)
			if got := r.Headline(); !strings.Contains(got, test.headline) || strings.Contains(got, "this machine") {
				t.Errorf("headline %q, want %q", got, test.headline)
			}
			for _, tier := range r.Tiers {
				if (tier.Name == report.TierLive || tier.Name == tierMachine) && (tier.Asked || tier.Status != report.Skipped) {
					t.Errorf("%s: %+v", tier.Name, tier)
				}
			}
		})
	}
}

// Paths that earlier runs have verified are not hashed again, and are counted as
// remembered. Altered or missing paths are checked all the same.
func TestCandidateByLedger(t *testing.T) {
	m := newCandidate(t)
	l, err := ledger.Open(t.Context(), t.TempDir(), ledger.Options{})
	m.must(err)
	t.Cleanup(func() { l.Close() })
	m.v.Ledger, m.v.Tool, m.v.Policy = &testLedger{Ledger: l}, "v1.2.3", ledger.DefaultPolicy()
	m.v.System = ""
	time.Sleep(2 * tick) // what was written just now may have been written after it was hashed
	m.run(t.Context(), top, top)
	m.v.System = string(nextTop)
	r := m.v.Verify(t.Context(), nil)
	expect(t, r, report.Verified)
	if c := r.Coverage; c.Paths != 5 || c.Hashed != 2 || c.Remembered != 3 {
		t.Errorf("coverage %+v, want 2 of 5 hashed", c)
	}
	if !slices.ContainsFunc(r.Tiers, func(t report.Tier) bool {
		return strings.Contains(t.Why, "2 of 5 paths hashed now, the others by earlier runs")
	}) {
		t.Errorf("what the ledger answers for is not said: %+v", r.Tiers)
	}
	// What was touched since is hashed, whether it was altered or not.
	was := m.read(string(lib))
	m.unseal()
	m.write(string(lib), strings.ToUpper(was))
	m.seal()
	expect(t, m.v.Verify(t.Context(), nil), report.Drifted, "disk-altered lib :content")
	m.unseal()
	m.write(string(lib), was)
	m.seal()
	expect(t, m.v.Verify(t.Context(), nil), report.Verified)
	m.unseal()
	m.remove(string(data))
	m.seal()
	expect(t, m.v.Verify(t.Context(), nil), report.Drifted, "missing data")
	m.v.Policy = ledger.Policy{}
	if r := m.v.Verify(t.Context(), nil); r.Coverage.Hashed != 4 {
		t.Errorf("with a policy that takes nothing for granted: %+v", r.Coverage)
	}
}
