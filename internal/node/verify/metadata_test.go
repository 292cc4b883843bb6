package verify

import (
	"fmt"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// A whole store may have modes that Nix never sets, and names as long as can be:
// what is kept and said of it is bounded, and counts what is left out.
func TestMetadataIsBounded(t *testing.T) {
	m := newMachine(t)
	r := &contentsCheck{run: m.verifier().begin(nil)}
	for path := range 1000 {
		var seen metadata
		opts := nar.Options{}
		seen.watch(&opts)
		for file := range 100 {
			opts.OnMode(fmt.Sprintf("file-%d", file), 0o755)
			opts.OnTime(fmt.Sprintf("file-%d", file), 0, 0)
			opts.OnAttributes(fmt.Sprintf("file-%d", file), []string{"user.x"})
		}
		if len(seen.loose) != maxLoose || seen.more != 100-maxLoose || seen.dated.n != 100 || seen.attributed.n != 100 {
			t.Fatalf("kept %d and %d more, %d times", len(seen.loose), seen.more, seen.dated.n)
		}
		r.judgeMetadata(object("z", fmt.Sprint(path)), &seen)
	}
	if n := len(r.report.Findings); n < 1000 || n > maxLooseFindings+maxLoose+1000 {
		t.Errorf("%d findings", n)
	}
	if last := r.report.Findings[len(r.report.Findings)-1]; last.Detail != "and 99 more in this path" {
		t.Errorf("the last one says %q", last.Detail)
	}
	var seen metadata
	opts := nar.Options{}
	seen.watch(&opts)
	long := strings.Repeat("x/", maxLooseBytes)
	opts.OnMode(long, 0o755)
	opts.OnOwner(long, 1, 1)
	opts.OnTime(long, 0, 0)
	if len(seen.loose) != 0 || seen.more != 3 || seen.dated.n != 1 || seen.dated.first.name != "" {
		t.Errorf("of long names: %+v", seen)
	}
	r.report.Findings, r.looseFindings = nil, 0
	r.judgeMetadata(data, &seen)
	if len(r.report.Findings) != 1 || r.report.Findings[0].Cause != report.PermissionsAltered || r.report.Findings[0].Detail != "and 2 more in this path" {
		t.Errorf("of long names: %+v", r.report.Findings)
	}
}

// What gives a right is an alarm, what Nix leaves is nothing, and all else is told.
func TestAttributes(t *testing.T) {
	for _, c := range []struct {
		names       []string
		loose, told string
	}{
		{[]string{"security.selinux", "system.nfs4_acl", "security.csm"}, "", ""},
		{[]string{"security.capability"}, "file capabilities", ""},
		{[]string{"system.posix_acl_default"}, "an access control list", ""},
		{[]string{"user.b", "security.selinux", "trusted.a"}, "", "trusted.a, user.b"},
		{[]string{"user.x", "system.posix_acl_access"}, "an access control list", "user.x"},
	} {
		var seen metadata
		opts := nar.Options{}
		seen.watch(&opts)
		opts.OnAttributes("f", c.names)
		var loose string
		for _, l := range seen.loose {
			loose += l.what
		}
		if loose != c.loose || seen.attributed.first.what != c.told {
			t.Errorf("%q: %q and %q, want %q and %q", c.names, loose, seen.attributed.first.what, c.loose, c.told)
		}
	}
}
