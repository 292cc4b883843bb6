package report

import (
	"encoding/base64"
	"fmt"
	"io"
	"sort"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Kind is the kind in every JSON report.
const Kind = "ec-verify-report"

// The JSON form; docs/report.md documents each member.
type (
	document struct {
		SchemaVersion int           `json:"schemaVersion"`
		Kind          string        `json:"kind"`
		Verdict       Verdict       `json:"verdict"`
		Counts        map[Class]int `json:"counts"`
		Report
		Coverage     jsonCoverage  `json:"coverage"`
		Findings     []jsonFinding `json:"findings"`
		MoreFindings int           `json:"moreFindings,omitzero"`
		Closure      []ClosurePath `json:"closure,omitzero"`
	}
	jsonCoverage struct {
		Coverage
		PastCache    []string `json:"pastCache"`
		ThroughCache []string `json:"throughCache"`
	}
	jsonFinding struct {
		Class Class `json:"class"`
		Finding
		PathBase64 *string    `json:"pathBase64,omitzero"`
		Files      []jsonFile `json:"files"`
	}
	jsonFile struct {
		Name       *string            `json:"name,omitzero"`
		NameBase64 *string            `json:"nameBase64,omitzero"`
		Change     closure.ChangeKind `json:"change"`
		Want       string             `json:"want"`
		Got        string             `json:"got"`
	}
)

// encoders write times in UTC, or null, and durations in seconds.
var encoders = json.WithMarshalers(json.JoinMarshalers(
	json.MarshalToFunc(func(e *jsontext.Encoder, t time.Time) error {
		if t.IsZero() {
			return e.WriteToken(jsontext.Null)
		}
		text, err := t.UTC().MarshalText()
		if err != nil {
			return err
		}
		return e.WriteToken(jsontext.String(string(text)))
	}),
	json.MarshalToFunc(func(e *jsontext.Encoder, d time.Duration) error {
		return e.WriteToken(jsontext.Float(d.Seconds()))
	}),
))

// WriteJSON writes r as one JSON object and a newline.
func (r *Report) WriteJSON(w io.Writer) error {
	out := r.json(len(r.Findings))
	out.Closure = r.Closure
	data, err := json.Marshal(&out, encoders, jsontext.WithIndent("  "), json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if _, err = w.Write(PrintableJSON(data)); err == nil {
		_, err = io.WriteString(w, "\n")
	}
	return err
}

// CompactJSON returns r as one JSON object without blanks, of at most limit bytes: the
// first findings that fit, and how many more there are. The counts cover all of them. The
// closure is left out, because these reports are kept.
func (r *Report) CompactJSON(limit int) ([]byte, error) {
	encode := func(findings int) ([]byte, error) {
		out := r.json(findings)
		data, err := json.Marshal(&out, encoders, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
		return PrintableJSON(data), err
	}
	data, err := encode(len(r.Findings))
	if err != nil || len(data) <= limit {
		return data, err
	}
	var failed error
	over := sort.Search(len(r.Findings), func(n int) bool {
		data, err := encode(n)
		if err != nil {
			failed = err
		}
		return len(data) > limit
	})
	if failed == nil && over == 0 {
		failed = fmt.Errorf("it does not fit in %d bytes even without findings", limit)
	}
	if failed != nil {
		return nil, fmt.Errorf("encode report: %w", failed)
	}
	return encode(over - 1)
}

// json returns the JSON form with the given number of findings, and without the closure.
func (r *Report) json(findings int) document {
	out := document{
		SchemaVersion: SchemaVersion, Kind: Kind, Verdict: r.Verdict(), Counts: r.Counts(), Report: *r, Coverage: jsonCoverage{Coverage: r.Coverage},
		MoreFindings: len(r.Findings) - findings + r.More[Untrusted] + r.More[Drift] + r.More[Inconclusive] + r.More[Notice],
	}
	out.Coverage.PastCache, out.Coverage.ThroughCache = r.Coverage.cacheSplit()
	for i := range findings {
		out.Findings = append(out.Findings, findingJSON(&r.Findings[i]))
	}
	return out
}

func findingJSON(f *Finding) jsonFinding {
	out := jsonFinding{Class: f.Class(), Finding: *f}
	if !utf8.ValidString(f.Path) {
		out.PathBase64 = new(base64.StdEncoding.EncodeToString([]byte(f.Path)))
	}
	for _, c := range f.Files {
		file := jsonFile{Change: c.Kind, Want: describe(c.Want, maxTarget), Got: describe(c.Got, maxTarget)}
		if name := string(c.Path); utf8.ValidString(name) {
			file.Name = &name
		} else {
			file.NameBase64 = new(base64.StdEncoding.EncodeToString([]byte(name)))
		}
		out.Files = append(out.Files, file)
	}
	return out
}

// describe describes one side of a changed file in a line of printable text, with at most
// limit bytes of a target; "" for a zero entry, a missing file.
func describe(e nar.Entry, limit int) string {
	switch e.Type {
	case nar.Regular:
		mode := ""
		if e.Executable {
			mode = "executable "
		}
		return fmt.Sprintf("%sregular %d bytes %s", mode, e.Size, e.SHA256)
	case nar.Symlink:
		return "symlink to " + escapeBounded(e.Target, limit)
	case nar.Directory:
		return "directory"
	}
	return ""
}

// Describe describes a file of a store path in a line of printable text; "" for a zero
// entry.
func Describe(e nar.Entry) string { return describe(e, maxShown) }

// maxTarget is the length limit of a symlink's target on Linux, in bytes.
const maxTarget = 4095
