package publish

import (
	"strings"
	"testing"

	"every.channel/ec-verify/internal/rebuild/drvdiff"
)

func TestNaming(t *testing.T) {
	for _, c := range []struct{ field, want, got, probably string }{
		{"env.revision", "", commitA, "system.configurationRevision"},
		{"env.revision", "none", "26.05." + commitA[:7], "self.shortRev"},
		{"env.revision", "none", "fedcba9-dirty", "self.dirtyShortRev"},
		{"env.date", "19700101000000", "20260228120000", "self.lastModifiedDate"},
		{"builder", "/bin/sh", "/bin/bash", ""},
	} {
		d := drvdiff.Difference{Want: object("a", "etc.drv"), Got: object("b", "etc.drv"), Field: c.field, WantValue: c.want, GotValue: c.got}
		n := &Naming{DrvPath: object("c", "top.drv"), Differences: []drvdiff.Difference{d}, Probably: probably([]drvdiff.Difference{d}, commitA)}
		if !strings.Contains(n.Probably, c.probably) || c.probably == "" && n.Probably != "" {
			t.Errorf("%s %q: probably %q, want %q", c.field, c.got, n.Probably, c.probably)
		}
		for _, want := range []string{string(n.DrvPath), "other-system", "etc.drv has the " + c.field, c.got, n.Probably} {
			if !strings.Contains(n.String(), want) {
				t.Errorf("it does not say %q: %s", want, n)
			}
		}
	}
	if got := probably([]drvdiff.Difference{{GotValue: "0123456"}}, ""); got != "" {
		t.Errorf("without a commit: %q", got)
	}
}
