package node

import (
	"bytes"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/comin"
	"every.channel/ec-verify/internal/report"
)

// cominKind is the kind of the JSON that ec-verify gate comin --now prints.
const cominKind = "ec-verify-gate-comin"

// cominResult is the output of --output json; docs/gate.md documents each member.
type cominResult struct {
	SchemaVersion int            `json:"schemaVersion"`
	Kind          string         `json:"kind"`
	Verdict       report.Verdict `json:"verdict"`
	Generation    string         `json:"generation"`
	OutPath       string         `json:"outPath"`
	Confirmed     bool           `json:"confirmed"`
	Detail        string         `json:"detail"`
	Report        jsontext.Value `json:"report"`
}

// confirmation is one judgement of what comin waits with, as it is shown.
type confirmation struct {
	waiting   comin.Generation
	confirmed bool
	detail    string
	report    *report.Report // nil where nothing waits
	flags     textFlags
}

// WriteJSON writes the result, with the report in its own JSON form.
func (c *confirmation) WriteJSON(w io.Writer) error {
	out := bytes.NewBufferString("null")
	verdict := report.Verified
	if c.report != nil {
		out.Reset()
		verdict = c.report.Verdict()
		if err := c.report.WriteJSON(out); err != nil {
			return err
		}
	}
	return terminal.WriteJSON(w, &cominResult{
		SchemaVersion: 1, Kind: cominKind, Verdict: verdict, Generation: c.waiting.ID, OutPath: c.waiting.OutPath,
		Confirmed: c.confirmed, Detail: c.detail, Report: jsontext.Value(out.Bytes()),
	}, jsontext.WithIndent("  "), jsontext.AllowInvalidUTF8(true))
}

// Text implements [terminal.Result].
func (c *confirmation) Text(screen terminal.Screen) string {
	if c.report == nil {
		return c.detail + "\n"
	}
	about := fmt.Sprintf("generation %s, %s: %s", c.waiting.ID, c.waiting.OutPath, c.detail)
	return (&shownReport{c.report, c.flags}).Text(screen) + report.Escape(about) + "\n"
}
