package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestExplainIsDocumented: docs/explain.md has each cause, and each member of the JSON.
func TestExplainIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for cause := range causeWords {
		if !strings.Contains(page, "| `"+string(cause)+"` |") {
			t.Errorf("docs/explain.md does not have the cause %s", cause)
		}
	}
	for _, v := range []any{explanationJSON{}, explainedFile{}, explainedOrigin{}, explainedInput{}, withinJSON{}, causeJSON{}, partJSON{}, windowJSON{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if member != "tool" && !strings.Contains(page, "`"+member+"`") {
				t.Errorf("docs/explain.md does not have the member %s of %T", member, v)
			}
		}
	}
}
