package main

import (
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/verify"
	"every.channel/ec-verify/pkg/closure"
)

// A plan with a budget doesn't promise to hash everything, unless there is
// nobody to answer for the rest.
func TestPlanContents(t *testing.T) {
	m := &closure.Manifest{Paths: []closure.PathInfo{{Path: "/nix/store/a", NarSize: 1 << 20}}}
	const part = "as many as 10m0s allow"
	for _, test := range []struct {
		v    verify.Verifier
		want bool
	}{
		{verify.Verifier{}, false},
		{verify.Verifier{ContentsBudget: 10 * time.Minute}, false},
		{verify.Verifier{ContentsBudget: 10 * time.Minute, Ledger: stateLedger{}}, true},
	} {
		got := planContents(&test.v, m)
		if !strings.HasPrefix(got, "hash 1 store paths, 1.0 MiB") || strings.Contains(got, part) != test.want {
			t.Errorf("%v: %s", test.v.ContentsBudget, got)
		}
	}
}
