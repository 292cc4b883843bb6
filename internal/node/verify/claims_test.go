package verify

import (
	"fmt"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// TestExtra: a limited number of the paths that the release lacks is listed, and the last
// entry counts the rest.
func TestExtra(t *testing.T) {
	path := func(n int) closure.StorePath {
		return closure.StorePath(fmt.Sprintf("/nix/store/%032d-p", n))
	}
	for _, test := range []struct {
		extra, listed int
		detail        string
	}{
		{0, 0, ""},
		{1, 1, ""},
		{maxExtra, maxExtra, ""},
		{maxExtra + 1, maxExtra, "and 1 more that the release does not have"},
		{maxExtra + 7, maxExtra, "and 7 more that the release does not have"},
	} {
		r := &run{Verifier: &Verifier{}, report: &report.Report{}}
		r.manifest = &closure.Manifest{Paths: []closure.PathInfo{{Path: path(3)}}}
		running := nixstore.Registrations{path(3): {}}
		for n := range test.extra {
			running[path(n+4)] = &closure.PathInfo{}
		}
		r.findExtra(&claims{running: running})
		got := r.report.Findings
		if len(got) != test.listed {
			t.Errorf("%d extra: %d are listed", test.extra, len(got))
			continue
		}
		for i := range got {
			want := report.Finding{Tier: report.TierContents, Cause: closure.Extra, Path: string(path(i + 4)), Got: got[i].Got}
			if i == len(got)-1 {
				want.Detail = test.detail
			}
			if fmt.Sprint(got[i]) != fmt.Sprint(want) {
				t.Errorf("%d extra: finding %d is %+v", test.extra, i, got[i])
				break
			}
		}
	}
}
