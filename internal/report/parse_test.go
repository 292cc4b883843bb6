package report

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"every.channel/ec-verify/pkg/nar"
)

// TestParse: what was written is read again, whatever it holds; a report of which not
// all findings are listed counts the rest.
func TestParse(t *testing.T) {
	for name, make := range reports {
		t.Run(name, func(t *testing.T) {
			r := make()
			if r.Standing == nil {
				r.Standing = &Standing{Look: "it is about another disk", Verdict: Drifted, Since: r.Started}
			}
			for i := range r.Findings {
				r.Findings[i].Release = "boot-v2026.02.21"
				r.Findings[i].Releases = []string{"boot-v2026.02.28", "boot-v2026.02.21"}
			}
			var b, again bytes.Buffer
			if err := r.WriteJSON(&b); err != nil {
				t.Fatal(err)
			}
			got, err := Parse(b.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if err := got.WriteJSON(&again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b.String(), again.String()); diff != "" {
				t.Error(diff)
			}
			if got.Verdict() != r.Verdict() || !cmp.Equal(got.Counts(), r.Counts()) {
				t.Errorf("%s, %v; want %s, %v", got.Verdict(), got.Counts(), r.Verdict(), r.Counts())
			}
			if diff := cmp.Diff(r.Findings, got.Findings, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Finding{}), cmpopts.IgnoreFields(nar.Entry{}, "Path")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestParseLater: of a cause that only a later program knows, the class counts.
func TestParseLater(t *testing.T) {
	r := verified()
	r.Findings = []Finding{{Tier: TierLive, Cause: OtherSystem}}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Parse([]byte(strings.ReplaceAll(b.String(), string(OtherSystem), "some-later-cause")))
	if err != nil || got.Verdict() != Drifted || got.Findings[0].Class() != Drift {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSeconds(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 1979744, 1979743, 86399999999999} {
		var got time.Duration
		data, err := json.Marshal(d, encoders)
		if err == nil {
			err = json.Unmarshal(data, &got, decoders)
		}
		if err != nil || got != d {
			t.Errorf("%d ns are read as %d: %v", d, got, err)
		}
	}
}

// TestParseNumbers: each number of a report, including future ones, is refused if it is
// negative or impossibly large.
func TestParseNumbers(t *testing.T) {
	r := reports["drifted"]()
	r.More = map[Class]int{Notice: 3}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`("[a-zA-Z]+": |regular )(\d[0-9.]*)( bytes|,?\n)`)
	places := number.FindAllStringSubmatchIndex(b.String(), -1)
	if len(places) < 40 {
		t.Fatalf("found %d numbers in\n%s", len(places), b.String())
	}
	for _, p := range places {
		for _, bad := range []string{"-1", "-0.5", "1e300", "9223372036854775807", "99999999999999999999"} {
			text := b.String()[:p[4]] + bad + b.String()[p[5]:]
			if bad == "9223372036854775807" && strings.HasPrefix(b.String()[p[2]:], "regular") {
				continue // as large as a file can be
			}
			if _, err := Parse([]byte(text)); err == nil {
				t.Errorf("%s: %s is taken", b.String()[p[0]:p[1]], bad)
			}
		}
	}
	for name, change := range map[string]func(c *Coverage){
		"more hashed than there are":     func(c *Coverage) { c.Hashed = c.Paths + 1 },
		"more remembered than are left":  func(c *Coverage) { c.Remembered = 1 },
		"more overdue than there can be": func(c *Coverage) { c.Overdue = 1 },
	} {
		r, b := verified(), new(bytes.Buffer)
		change(&r.Coverage)
		if err := r.WriteJSON(b); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(b.Bytes()); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
