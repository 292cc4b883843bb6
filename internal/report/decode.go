package report

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Summary is an excerpt of a report in JSON. Its strings are unescaped: escape them
// before they are shown.
type Summary struct {
	Verdict       Verdict       `json:"verdict"`
	Counts        map[Class]int `json:"counts"`
	Configuration string        `json:"configuration"`
	Host          string        `json:"host"`
	StoreRoot     string        `json:"storeRoot"`
	Finished      time.Time     `json:"finished"`
	Unsafe        []string      `json:"unsafe"`
	// Tag, Sums and Manifest identify the release that was compared with; empty if there
	// was none.
	Tag      string `json:"tag"`
	Sums     string `json:"-"`
	Manifest string `json:"-"`
}

// Decode reads a report in JSON, written by this version or a later one with the same
// schema: unknown members and causes are ignored. It returns an error unless the verdict
// and counts are those that the report's findings and tiers give.
func Decode(data []byte) (*Summary, error) {
	in, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	s := &Summary{
		Verdict: in.Verdict, Counts: in.Counts, Configuration: in.Configuration,
		Host: in.Host, StoreRoot: in.StoreRoot, Finished: in.Finished, Unsafe: in.Unsafe,
	}
	if rel := in.Release; rel != nil {
		s.Tag, s.Sums, s.Manifest = rel.Tag, rel.Sums, rel.Manifest
	}
	return s, nil
}

func decode(data []byte) (*document, error) {
	in := new(document)
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("it is empty")
	}
	if err := json.Unmarshal(data, in, decoders); err != nil {
		return nil, err
	}
	switch {
	case in.Kind != Kind:
		return nil, fmt.Errorf("it is of kind %q, not %s", clipped(in.Kind), Kind)
	case in.SchemaVersion != SchemaVersion:
		return nil, fmt.Errorf("its schemaVersion is %d; this program reads %d", in.SchemaVersion, SchemaVersion)
	case in.Started.IsZero() || in.Finished.IsZero():
		return nil, errors.New("it does not say when the run took place")
	}
	if err := in.checkNumbers(); err != nil {
		return nil, err
	}
	if err := in.checkCounts(); err != nil {
		return nil, err
	}
	if want := judge(in.Tiers, in.Counts); in.Verdict != want {
		return nil, fmt.Errorf("it says %s, but its contents make %s", in.Verdict, want)
	}
	if in.Verdict == Verified && in.Release == nil {
		return nil, errors.New("it says verified, and names no release")
	}
	return in, nil
}

// decoders read durations in seconds, which may be rounded, and refuse impossible ones:
// negative, or longer than a duration can be.
var decoders = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, out *time.Duration) error {
	var n float64
	if err := json.UnmarshalDecode(d, &n); err != nil {
		return err
	}
	if !(n >= 0 && n <= 1e9) { // a second is 1e9 of a duration's int64
		return fmt.Errorf("a duration is %v seconds", n)
	}
	*out = time.Duration(math.Round(n * float64(time.Second)))
	return nil
}))

// checkNumbers refuses impossible counts and sizes: negative, or beyond the exact range of
// JSON numbers.
func (in *document) checkNumbers() error {
	const maxCount = 1 << 53
	var failed error
	count := func(name string, n int64) {
		if failed == nil && (n < 0 || n > maxCount) {
			failed = fmt.Errorf("%s is %d", name, n)
		}
	}
	count("moreFindings", int64(in.MoreFindings))
	for class, n := range in.Counts {
		count("counts."+clipped(string(class)), int64(n))
	}
	for i, t := range in.Tiers {
		count(fmt.Sprintf("tiers[%d].checked", i), int64(t.Checked))
	}
	c := &in.Coverage
	count("coverage.paths", int64(c.Paths))
	count("coverage.hashed", int64(c.Hashed))
	count("coverage.files", c.Files)
	count("coverage.bytes", c.Bytes)
	count("coverage.fromCache", c.FromCache)
	count("coverage.remembered", int64(c.Remembered))
	count("coverage.overdue", int64(c.Overdue))
	for i := range in.Findings {
		count(fmt.Sprintf("findings[%d].moreFiles", i), int64(in.Findings[i].MoreFiles))
		count(fmt.Sprintf("findings[%d].allowed", i), int64(in.Findings[i].Allowed))
	}
	for i, p := range in.Closure {
		count(fmt.Sprintf("closure[%d].narSize", i), p.Size)
	}
	if failed == nil && c.Hashed+c.Remembered+c.Overdue > c.Paths {
		failed = fmt.Errorf("of %d paths, %d are hashed, %d remembered and %d overdue", c.Paths, c.Hashed, c.Remembered, c.Overdue)
	}
	return failed
}

// checkCounts compares the counts, which must have every class, with the findings.
func (in *document) checkCounts() error {
	listed := (&Report{}).Counts()
	for i := range in.Findings {
		f := &in.Findings[i]
		if _, known := listed[f.Class]; !known {
			return fmt.Errorf("a finding is of the class %q", clipped(string(f.Class)))
		}
		if c, known := causes[f.Cause]; known && c.class != f.Class {
			return fmt.Errorf("a finding with the cause %s is of the class %s, not %s", f.Cause, c.class, f.Class)
		}
		listed[f.Class]++
	}
	if len(in.Counts) != len(listed) {
		return fmt.Errorf("it counts %d classes of findings, want %d", len(in.Counts), len(listed))
	}
	more := 0
	for class, n := range listed {
		counted, known := in.Counts[class]
		if !known || counted < n {
			return fmt.Errorf("it counts %d findings of class %s and lists %d", counted, class, n)
		}
		more += counted - n
	}
	if more != in.MoreFindings {
		return fmt.Errorf("it counts %d findings more than it lists, not %d", more, in.MoreFindings)
	}
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: the inverse of String.
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, known := range []Verdict{Unsettled, Verified, Drifted, Refused} {
		if string(text) == known.String() {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("%q is no verdict", clipped(string(text)))
}

func clipped(s string) string { return escapeBounded(s, 60) }
