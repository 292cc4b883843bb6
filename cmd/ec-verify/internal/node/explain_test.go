package node

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

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
	for _, v := range []any{explanationJSON{}, explainedFile{}, explainedOrigin{}, explainedInput{}, withinJSON{}, causeJSON{}, partJSON{}, windowJSON{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if member != "tool" && !strings.Contains(page, "`"+member+"`") {
				t.Errorf("docs/report.md does not have the member %s of %T", member, v)
			}
		}
	}
}
