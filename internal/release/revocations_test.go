package release

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func testRevocations() []Revocation {
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	return []Revocation{
		{Tag: "boot-v1", RevokedAt: at, Reason: "the kernel can be taken over (CVE-2026-0001)"},
		{Tag: "boot-v2", RevokedAt: at.Add(time.Hour), Reason: "verrückt: \"quoted\" <b>&amp;"},
	}
}

func TestRevocationsRoundTrip(t *testing.T) {
	for _, list := range [][]Revocation{nil, {}, testRevocations()} {
		data, err := EncodeRevocations(list)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRevocations(data)
		if err != nil || len(got) != len(list) || got == nil {
			t.Fatalf("%s: %v, %v", data, got, err)
		}
		for i := range got {
			if got[i] != list[i] {
				t.Errorf("%v became %v", list[i], got[i])
			}
		}
	}
}

func TestParseRevocationsRefuses(t *testing.T) {
	good, err := EncodeRevocations(testRevocations())
	if err != nil {
		t.Fatal(err)
	}
	many := make([]Revocation, MaxRevoked+1)
	for i := range many {
		many[i] = Revocation{Tag: Tag(fmt.Sprintf("boot-v%05d", i)), RevokedAt: testRevocations()[0].RevokedAt, Reason: "x"}
	}
	if _, err := EncodeRevocations(many); err == nil {
		t.Error("a list that is too long is written")
	}
	for name, c := range map[string]struct{ from, to, says string }{
		"newer schema":    {`"schemaVersion": 1`, `"schemaVersion": 2`, "unknown schema version 2"},
		"unknown member":  {`"revoked": [`, `"extra": 1, "revoked": [`, "unknown member"},
		"missing list":    {string(good), "{\n  \"schemaVersion\": 1\n}\n", "canonical"},
		"null list":       {string(good), "{\n  \"schemaVersion\": 1,\n  \"revoked\": null\n}\n", "canonical"},
		"cut short":       {"}\n  ]\n}\n", "", "malformed"},
		"not ascending":   {`"boot-v2"`, `"boot-v0"`, "out of order"},
		"doubled":         {`"boot-v2"`, `"boot-v1"`, "doubled"},
		"no tag":          {`"boot-v2"`, `"../boot"`, "parse tag"},
		"latest":          {`"boot-v2"`, `"latest"`, "no release"},
		"itself":          {`"boot-v2"`, `"revocations"`, "no release"},
		"no reason":       {testRevocations()[0].Reason, "", "reason"},
		"a blank reason":  {testRevocations()[0].Reason, " ", "reason"},
		"two lines":       {"taken over", `taken\nover`, "reason"},
		"an escape":       {"taken over", `taken\u001b[2J`, "reason"},
		"a hidden one":    {"taken over", `taken\u202eover`, "reason"},
		"a long reason":   {"taken over", strings.Repeat("x", MaxReasonSize), "reason"},
		"another zone":    {"08:00:00Z", "08:00:00+01:00", "UTC"},
		"no time":         {"2026-03-01T08:00:00Z", "0001-01-01T00:00:00Z", "revokedAt"},
		"a doubled name":  {`"tag": "boot-v1"`, `"tag": "boot-v0", "tag": "boot-v1"`, "malformed"},
		"other blanks":    {"  \"revoked\"", "\"revoked\"", "canonical"},
		"what is no JSON": {string(good), "<!DOCTYPE html>", "malformed"},
		"nothing":         {string(good), "", "malformed"},
	} {
		data := strings.Replace(string(good), c.from, c.to, 1)
		if data == string(good) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := ParseRevocations([]byte(data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.says)
		}
	}
	if _, err := ParseRevocations(make([]byte, MaxRevocationsSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("large: %v", err)
	}
}

func FuzzParseRevocations(f *testing.F) {
	good, err := EncodeRevocations(testRevocations())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("Z"), []byte("+01:00"), 1))
	f.Add([]byte(`{"schemaVersion":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseRevocations(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("the error has control characters: %q", err)
			}
			return
		}
		again, err := EncodeRevocations(list)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is accepted, but its one form is %q (%v)", data, again, err)
		}
	})
}

// TestWeigh: what answers make of what is known. Lists are named by their day; 5 is
// known, and the list of each day revokes one release that is called by it.
func TestWeigh(t *testing.T) {
	list := func(day int, sums string) *Revocations {
		at := time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC)
		return &Revocations{at, sums, []Revocation{{Tag("v" + sums), at, "x"}}}
	}
	remote, local := &HTTPSource{base: new(url.URL)}, NewDirSource("/srv")
	unavailable := &UnavailableError{"it", "there", errors.New("no answer")}
	missing := &NotFoundError{What: "it", Source: "there"}
	forged := Untrusted(ReasonBadSignature, "forged")
	now := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
	type answers = []listAnswer
	for name, c := range map[string]struct {
		known   *Revocations
		answers answers
		part    bool // not all sources have answered
		want    string
		refused string
		asked   bool
	}{
		"none ever":                   {nil, answers{{remote, nil, missing}}, false, "", "", true},
		"the first":                   {nil, answers{{remote, list(5, "a"), nil}}, false, "a", "", true},
		"the same":                    {list(5, "a"), answers{{remote, list(5, "a"), nil}}, false, "a", "", true},
		"a newer one":                 {list(5, "a"), answers{{remote, list(6, "b"), nil}}, false, "b", "", true},
		"the newest of several":       {list(5, "a"), answers{{remote, list(6, "b"), nil}, {local, list(7, "c"), nil}, {remote, list(4, "d"), nil}}, false, "c", "", true},
		"an older one":                {list(5, "a"), answers{{remote, list(4, "b"), nil}}, false, "a", "rolled-back", false},
		"an older one beside it":      {list(5, "a"), answers{{local, list(4, "b"), nil}, {remote, list(5, "a"), nil}}, false, "a", "", true},
		"an older one, not all":       {list(5, "a"), answers{{local, list(4, "b"), nil}}, true, "a", "", false},
		"another one of its time":     {list(5, "a"), answers{{remote, list(5, "b"), nil}}, false, "a", "replaced", false},
		"it is withheld":              {list(5, "a"), answers{{remote, nil, missing}}, false, "a", "withheld", false},
		"withheld, but not all":       {list(5, "a"), answers{{local, nil, missing}}, true, "a", "", false},
		"withheld by one":             {list(5, "a"), answers{{local, nil, missing}, {remote, list(5, "a"), nil}}, false, "a", "", true},
		"no answer":                   {list(5, "a"), answers{{remote, nil, unavailable}}, false, "a", "", false},
		"a wrong clock":               {list(5, "a"), answers{{remote, nil, &ClockError{}}}, false, "a", "", false},
		"forged":                      {list(5, "a"), answers{{remote, nil, forged}}, false, "a", "forged", false},
		"forged beside a newer one":   {list(5, "a"), answers{{remote, nil, forged}, {local, list(6, "b"), nil}}, false, "b", "forged", false},
		"forged, none known":          {nil, answers{{remote, nil, forged}}, false, "", "forged", false},
		"an unreadable directory":     {list(5, "a"), answers{{local, nil, unavailable}}, false, "a", "no answer", false},
		"forged by one, not all said": {list(5, "a"), answers{{remote, nil, forged}}, true, "a", "forged", false},
	} {
		s := revokedState{Revoked: []Revocation{}, Refused: "before"}
		if c.known != nil {
			s.CreatedAt, s.Sums, s.Revoked = c.known.CreatedAt, c.known.Sums, c.known.Revoked
		}
		weigh(&s, c.answers, !c.part, true, now)
		if s.Sums != c.want || c.want != "" && (len(s.Revoked) != 1 || s.Revoked[0].Tag != Tag("v"+c.want)) {
			t.Errorf("%s: %v is known", name, s)
		}
		if asked := !s.Asked.IsZero(); asked != c.asked {
			t.Errorf("%s: asked %v", name, s.Asked)
		}
		before := c.refused == "" && !c.asked // nothing says that what was wrong is not any more
		if got := s.Refused; before && got != "before" || !before && (got == "") != (c.refused == "") || !strings.Contains(got, c.refused) {
			t.Errorf("%s: refused %q, want %q", name, got, c.refused)
		}
	}
}
