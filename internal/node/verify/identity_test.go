package verify

import (
	"context"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// TestIdentify: a machine that runs a release which it should not run is that one, in
// one finding, and what was altered of it ranks above.
func TestIdentify(t *testing.T) {
	m := newMachine(t)
	// The release that is accepted has another system, and another flake.
	own := m.manifest
	other := *m.manifest
	other.Toplevel = closure.Toplevel{DrvPath: object("y", "other.drv"), OutPath: object("y", "other")}
	other.Source.NarHash = own.Paths[0].NarHash
	other.Paths = append(append([]closure.PathInfo{}, own.Paths[:3]...), closure.PathInfo{
		Path: other.Toplevel.OutPath, NarHash: own.Paths[3].NarHash, NarSize: own.Paths[3].NarSize, References: own.Paths[3].References,
	})
	m.manifest = &other
	m.publish("accepted")
	m.manifest = own
	m.publish("older")
	asked := 0
	identify := func(ctx context.Context, system closure.StorePath) (*release.Release, *closure.Manifest) {
		asked++
		c := m.open(ctx, "older")
		m.must(c.Err)
		if system != own.Toplevel.OutPath {
			t.Errorf("asked for %s", system)
		}
		return c.Release, own
	}
	verify := func(change func(*Verifier)) *report.Report {
		t.Helper()
		v := m.verifier()
		v.Pinned, v.Identify = false, identify
		v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, "accepted")} }
		change(v)
		return v.Verify(t.Context(), nil)
	}
	r := verify(func(*Verifier) {})
	expect(t, r, report.Drifted, "other-release /nix/var/nix/profiles/system")
	if f := r.Findings[0]; f.Detail != "it is release older, which the policy does not accept; it accepts accepted" || f.Want != string(other.Toplevel.OutPath) || f.Got != string(own.Toplevel.OutPath) {
		t.Errorf("%+v", f)
	}
	if r.Release.Tag != "older" || r.Against != "accepted" {
		t.Errorf("compared with %s, against %s", r.Release.Tag, r.Against)
	}
	if got := r.Headline(); !strings.HasPrefix(got, "drifted: the disk at "+m.root+" runs release older ("+testConfiguration+") as far as it was checked, not accepted") {
		t.Errorf("headline %s", got)
	}
	m.write(string(data)+"/a/file", "DATA")
	if r = verify(func(*Verifier) {}); len(r.Findings) != 2 || r.Findings[0].Cause != closure.DiskAltered || r.Findings[1].Cause != report.OtherRelease {
		t.Errorf("an altered file: %q", summary(r))
	}
	if got := r.Headline(); !strings.Contains(got, " with 1 difference, not accepted") {
		t.Errorf("headline %s", got)
	}
	m.write(string(data)+"/a/file", "data")

	asked = 0
	for name, change := range map[string]func(*Verifier){
		"nobody knows it": func(v *Verifier) {
			v.Identify = func(context.Context, closure.StorePath) (*release.Release, *closure.Manifest) { return nil, nil }
		},
		"it is another one": func(v *Verifier) {
			v.Identify = func(ctx context.Context, _ closure.StorePath) (*release.Release, *closure.Manifest) {
				return m.open(ctx, "accepted").Release, &other
			}
		},
		"nobody is to look": func(v *Verifier) { v.Skip = []report.TierName{report.TierLive} },
	} {
		if r := verify(change); r.Verdict() != report.Drifted || r.Release.Tag != "accepted" || asked != 0 {
			t.Errorf("%s: %s, compared with %s, %q", name, r.Verdict(), r.Release.Tag, summary(r))
		}
	}
	// Of two that are accepted the one that runs was to be compared with anyway.
	r = verify(func(v *Verifier) {
		v.Open = func(ctx context.Context) []Candidate {
			return []Candidate{m.open(ctx, "accepted"), m.open(ctx, "older")}
		}
	})
	expect(t, r, report.Verified)
	if asked != 0 {
		t.Error("somebody was asked for a release that is known")
	}
}
