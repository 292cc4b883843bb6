package config

import (
	"strings"
	"testing"

	"every.channel/ec-verify/internal/rebuild"
)

func TestRebuild(t *testing.T) {
	c, err := Parse([]byte(`{"rebuild": {"choice": "first-party", "firstParty": ["every-channel-*", "src=*-source"], "budget": "30m"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Rebuild.Choice != rebuild.FirstParty || len(c.Rebuild.FirstParty) != 2 || c.Rebuild.Share != rebuild.DefaultShare || c.Rebuild.Jobs != 1 {
		t.Errorf("got %+v", c.Rebuild)
	}
	if d := Default(); d.Rebuild.Choice != rebuild.None {
		t.Errorf("by default %q is rebuilt", d.Rebuild.Choice)
	}
	for text, want := range map[string]string{
		`{"choice": "everything"}`:  "everything",
		`{"choice": "first-party"}`: "rebuild.firstParty",
		`{"firstParty": ["[a"]}`:    "rebuild.firstParty[0]",
		`{"firstParty": [""]}`:      "rebuild.firstParty[0]",
		`{"firstParty": ["=x"]}`:    "rebuild.firstParty[0]",
		`{"share": 0}`:              "rebuild.share",
		`{"budget": "-1s"}`:         "rebuild.budget",
		`{"buildTimeout": "0s"}`:    "rebuild.buildTimeout",
		`{"scratchSize": 1000}`:     "rebuild.scratchSize",
		`{"reserve": -1}`:           "rebuild.reserve",
		`{"jobs": 0}`:               "rebuild.jobs",
		`{"unknown": 0}`:            "rebuild.unknown",
	} {
		if _, err := Parse([]byte(`{"rebuild": ` + text + `}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, err, want)
		}
	}
}
