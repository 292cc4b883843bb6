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
	jsonReport struct {
		SchemaVersion int           `json:"schemaVersion"`
		Kind          string        `json:"kind"`
		Verdict       Verdict       `json:"verdict"`
		Counts        map[Class]int `json:"counts"`
		Against       string        `json:"against"`
		Configuration string        `json:"configuration"`
		Release       *jsonRelease  `json:"release"`
		Host          string        `json:"host"`
		StoreRoot     string        `json:"storeRoot"`
		Candidate     string        `json:"candidate,omitzero"`
		Tool          string        `json:"tool"`
		Nix           string        `json:"nix"`
		Started       time.Time     `json:"started"`
		Finished      time.Time     `json:"finished"`
		Unsafe        []string      `json:"unsafe"`
		Tiers         []jsonTier    `json:"tiers"`
		Coverage      jsonCoverage  `json:"coverage"`
		Standing      *jsonStanding `json:"standing"`
		Findings      []jsonFinding `json:"findings"`
		MoreFindings  int           `json:"moreFindings,omitzero"`
		Closure       []jsonPath    `json:"closure,omitzero"`
	}
	jsonPath struct {
		Path      closure.StorePath `json:"path"`
		NarSize   int64             `json:"narSize"`
		State     PathState         `json:"state"`
		CheckedAt *time.Time        `json:"checkedAt"`
	}
	jsonRelease struct {
		Tag        string            `json:"tag"`
		Commit     string            `json:"commit"`
		CreatedAt  *time.Time        `json:"createdAt"`
		BestBefore *time.Time        `json:"bestBefore"`
		Refused    *time.Time        `json:"refusedAfter"`
		KeyEnds    *time.Time        `json:"keyNotAfter"`
		Source     string            `json:"source"`
		Signer     string            `json:"signer"`
		Unsigned   bool              `json:"unsigned"`
		Sums       string            `json:"sums"`
		Manifest   string            `json:"manifest"`
		DrvPath    closure.StorePath `json:"drvPath"`
		OutPath    closure.StorePath `json:"outPath"`
		Special    string            `json:"specialisation"`
	}
	jsonStanding struct {
		Look    string     `json:"look"`
		Verdict Verdict    `json:"verdict"`
		Since   *time.Time `json:"since"`
	}
	jsonTier struct {
		Name    TierName `json:"name"`
		Status  Status   `json:"status"`
		Asked   bool     `json:"asked"`
		Why     string   `json:"why"`
		Checked int      `json:"checked"`
		Seconds float64  `json:"seconds"`
	}
	jsonCoverage struct {
		Paths            int     `json:"paths"`
		Hashed           int     `json:"hashed"`
		Files            int64   `json:"files"`
		Bytes            int64   `json:"bytes"`
		Read             string  `json:"read"`
		FromCache        int64   `json:"fromCache"`
		PausedSeconds    float64 `json:"pausedSeconds"`
		DatabaseReadOnly bool    `json:"databaseReadOnly"`
		Remembered       int     `json:"remembered"`
		Overdue          int     `json:"overdue"`

		PastCache    []string     `json:"pastCache"`
		ThroughCache []string     `json:"throughCache"`
		Origins      []jsonOrigin `json:"origins"`
	}
	jsonOrigin struct {
		Dir        string `json:"dir"`
		Type       string `json:"type"`
		Source     string `json:"source"`
		Device     string `json:"device"`
		Root       string `json:"root"`
		MountPoint string `json:"mountPoint"`
	}
	jsonFinding struct {
		Class         Class      `json:"class"`
		Cause         Cause      `json:"cause"`
		Tier          TierName   `json:"tier"`
		Path          string     `json:"path"`
		PathBase64    *string    `json:"pathBase64,omitzero"`
		Field         string     `json:"field"`
		Want          string     `json:"want"`
		Got           string     `json:"got"`
		Detail        string     `json:"detail"`
		Release       string     `json:"release,omitzero"`
		ConsequenceOf Cause      `json:"consequenceOf"`
		Files         []jsonFile `json:"files"`
		MoreFiles     int        `json:"moreFiles"`
	}
	jsonFile struct {
		Name       *string            `json:"name,omitzero"`
		NameBase64 *string            `json:"nameBase64,omitzero"`
		Change     closure.ChangeKind `json:"change"`
		Want       string             `json:"want"`
		Got        string             `json:"got"`
	}
)

// WriteJSON writes r as one JSON object and a newline.
func (r *Report) WriteJSON(w io.Writer) error {
	out := r.json(len(r.Findings))
	for _, p := range r.Closure {
		out.Closure = append(out.Closure, jsonPath{p.Path, p.Size, p.State, timeOrNull(p.Checked)})
	}
	data, err := json.Marshal(&out, jsontext.WithIndent("  "), json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
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
		data, err := json.Marshal(&out, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
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

// json returns the JSON form with the given number of findings.
func (r *Report) json(findings int) jsonReport {
	out := jsonReport{
		MoreFindings: len(r.Findings) - findings + r.More[Untrusted] + r.More[Drift] + r.More[Inconclusive] + r.More[Notice],

		SchemaVersion: SchemaVersion, Kind: Kind, Verdict: r.Verdict(), Counts: r.Counts(),
		Against: r.Against, Configuration: r.Configuration, Host: r.Host, StoreRoot: r.StoreRoot, Candidate: r.Candidate, Tool: r.Tool, Nix: r.Nix,
		Started: r.Started.UTC(), Finished: r.Finished.UTC(), Unsafe: r.Unsafe,
		Coverage: jsonCoverage{
			Paths: r.Coverage.Paths, Hashed: r.Coverage.Hashed, Files: r.Coverage.Files, Bytes: r.Coverage.Bytes,
			Read: r.Coverage.Read.String(), FromCache: r.Coverage.FromCache, PausedSeconds: r.Coverage.Paused.Seconds(), DatabaseReadOnly: r.Coverage.DatabaseReadOnly,
			Remembered: r.Coverage.Remembered, Overdue: r.Coverage.Overdue,
		},
	}
	out.Coverage.PastCache, out.Coverage.ThroughCache = r.Coverage.cacheSplit()
	for _, o := range r.Coverage.Origins {
		out.Coverage.Origins = append(out.Coverage.Origins, jsonOrigin{o.Dir, o.Type, o.Source, o.Device, o.Root, o.Point})
	}
	if rel := r.Release; rel != nil {
		out.Release = &jsonRelease{
			Tag: rel.Tag, Commit: rel.Commit, CreatedAt: timeOrNull(rel.Created), BestBefore: timeOrNull(rel.BestBefore),
			Refused: timeOrNull(rel.RefusedAfter), KeyEnds: timeOrNull(rel.KeyNotAfter),
			Source: rel.Source, Signer: rel.Signer, Unsigned: rel.Unsigned, Sums: rel.Sums, Manifest: rel.Manifest, DrvPath: rel.DrvPath, OutPath: rel.OutPath,
			Special: rel.Specialisation,
		}
	}
	if s := r.Standing; s != nil {
		out.Standing = &jsonStanding{s.Look, s.Verdict, timeOrNull(s.Since)}
	}
	for _, t := range r.Tiers {
		out.Tiers = append(out.Tiers, jsonTier{t.Name, t.Status, t.Asked, t.Why, t.Checked, t.Took.Seconds()})
	}
	for i := range findings {
		out.Findings = append(out.Findings, findingJSON(&r.Findings[i]))
	}
	return out
}

func findingJSON(f *Finding) jsonFinding {
	out := jsonFinding{
		Class: f.Class(), Cause: f.Cause, Tier: f.Tier, Path: f.Path, Field: f.Field, Want: f.Want, Got: f.Got,
		Detail: f.Detail, Release: f.Release, ConsequenceOf: f.ConsequenceOf, MoreFiles: f.MoreFiles,
	}
	if !utf8.ValidString(f.Path) {
		out.PathBase64 = encoded(f.Path)
	}
	for _, c := range f.Files {
		file := jsonFile{Change: c.Kind, Want: describe(c.Want, maxTarget), Got: describe(c.Got, maxTarget)}
		if name := string(c.Path); utf8.ValidString(name) {
			file.Name = &name
		} else {
			file.NameBase64 = encoded(name)
		}
		out.Files = append(out.Files, file)
	}
	return out
}

// encoded returns raw in base64 if JSON cannot represent it, else nil.
func encoded(raw string) *string {
	s := base64.StdEncoding.EncodeToString([]byte(raw))
	return &s
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

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
