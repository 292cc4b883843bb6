package node

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/flakelock"
	"every.channel/ec-verify/internal/node/explain"
	"every.channel/ec-verify/internal/node/filediff"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// TestExplainJSON: a result has its own JSON form, with names that are not UTF-8 in base64.
func TestExplainJSON(t *testing.T) {
	said := excerpt.Raw("\xff")
	e := &explained{SchemaVersion: 1, Kind: "ec-explanation", State: explain.Different, Explanation: &explain.Explanation{
		Path: "/nix/store/x", File: "caf\xe9", Notes: []string{"caf\xe9"},
		Files: []explain.File{{
			FileChange: closure.FileChange{Path: "", Kind: closure.FileContent, Want: nar.Entry{Size: 1}}, Want: "w", Got: "g",
			Within:     &filediff.Result{Format: filediff.Binary, Parts: []filediff.Part{{Kind: "field", Name: "n"}}, Window: &filediff.Window{A: []byte("a")}},
			Diffoscope: &said,
		}},
	}}
	var out strings.Builder
	if err := terminal.WriteJSON(&out, e); err != nil {
		t.Fatal(err)
	}
	const want = `{"schemaVersion":1,"kind":"ec-explanation","tool":"","tag":"","configuration":"","state":"different",` +
		`"path":"/nix/store/x","file":{"base64":"Y2Fm6Q=="},"chain":[],` +
		`"origin":{"commit":"","builder":[],"fetched":[],"sources":[],"flakeSource":false,"inputs":[],"allInputs":[]},` +
		`"files":[{"name":{"text":""},"change":"content","want":"w","got":"g","within":{"format":"binary","first":0,"count":0,"sizeA":0,"sizeB":0,` +
		`"parts":[{"kind":"field","name":{"text":"n"},"change":"","a":{"text":""},"b":{"text":""}}],"moreParts":0,"moreDiff":0,` +
		`"window":{"at":0,"a":"YQ==","b":""},"causes":[],"explained":false,"notes":[]},"diffoscope":{"base64":"/w=="}}],` +
		`"moreFiles":0,"notes":["caf` + "\ufffd\"]}\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExplainIsDocumented: docs/report.md has each cause, and each member of the JSON.
func TestExplainIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../../../docs/report.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, ok := strings.Cut(string(data), "\n## From a finding to the byte")
	if !ok {
		t.Fatal("docs/report.md has no section about explain")
	}
	for cause := range causeWords {
		if !strings.Contains(page, "| `"+string(cause)+"` |") {
			t.Errorf("docs/report.md does not have the cause %s", cause)
		}
	}
	for _, v := range []any{explained{}, explain.Explanation{}, explain.File{}, explain.Origin{}, flakelock.Input{}, filediff.Result{}, filediff.Cause{}, filediff.Part{}, filediff.Window{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if member != "" && member != "-" && member != "tool" && !strings.Contains(page, "`"+member+"`") {
				t.Errorf("docs/report.md does not have the member %s of %T", member, v)
			}
		}
	}
}

// TestOriginWithoutCommit: no commit is referred to where the release names none.
func TestOriginWithoutCommit(t *testing.T) {
	e := &explained{Explanation: &explain.Explanation{}}
	e.Want.Path = "/nix/store/x"
	e.Origin.All = []flakelock.Input{{Name: "nixpkgs", Ref: "x"}}
	text := e.Text(terminal.Screen{})
	if strings.Contains(text, "commit") || !strings.Contains(text, "the flake of this release created") {
		t.Errorf("%s", text)
	}
}
