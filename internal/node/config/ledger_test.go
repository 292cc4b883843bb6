package config

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/node/ledger"
)

func TestLedger(t *testing.T) {
	if got := Default().Ledger.Policy(); got != ledger.DefaultPolicy() {
		t.Errorf("by default: %+v", got)
	}
	c, err := Parse([]byte(`{"ledger": {"contentsEvery": "24h", "rebuildEvery": "48h"}, "contents": {"budget": "10m"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Policy{Contents: 24 * time.Hour, Rebuild: 48 * time.Hour}
	if c.Ledger.Policy() != want || c.Contents.Budget != Duration(10*time.Minute) {
		t.Errorf("got %+v, %+v", c.Ledger, c.Contents)
	}
	for text, want := range map[string]string{
		`{"ledger": {"contentsEvery": "0s"}}`:  "ledger.contentsEvery",
		`{"ledger": {"rebuildEvery": "-24h"}}`: "ledger.rebuildEvery",
		`{"ledger": {"every": "24h"}}`:         "ledger.every",
		`{"contents": {"budget": "-1s"}}`:      "contents.budget",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, err, want)
		}
	}
}

func TestSubstitute(t *testing.T) {
	for text, want := range map[string]string{
		`true`:  `true`,
		`false`: `false`,
		`["file:///srv/cache","https://cache.example.org?priority=10"]`: "",
	} {
		c, err := Parse([]byte(`{"rebuild": {"substitute": ` + text + `}}`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s := c.Rebuild.Substitute
		if s.Wanted != (text != "false") || (len(s.From) == 2) != (want == "") {
			t.Errorf("%s: got %+v", text, s)
		}
		// config show prints what is read again.
		if shown, err := json.Marshal(c.Rebuild.Substitute); err != nil || string(shown) != text {
			t.Errorf("%s is shown as %s, %v", text, shown, err)
		}
	}
	if Default().Rebuild.Substitute.Wanted {
		t.Error("by default something is fetched")
	}
	for text, want := range map[string]string{
		`3`:                               "want true, false or a list",
		`"https://cache.example.org"`:     "want true, false or a list",
		`[3]`:                             "want true, false or a list",
		`[]`:                              "is empty",
		`["daemon"]`:                      "want http://",
		`["local?root=/"]`:                "want http://",
		`["https://a.example b"]`:         "has blanks",
		`["https://a.example?trusted=1"]`: "without a signature",
		`["file:///srv/%zz"]`:             "not a URL",
	} {
		_, err := Parse([]byte(`{"rebuild": {"substitute": ` + text + `}}`))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rebuild.substitute") {
			t.Errorf("%s: got error %v, want one with %q and the key", text, err, want)
		}
	}
}
