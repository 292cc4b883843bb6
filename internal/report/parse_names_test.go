package report

import (
	"os"
	"strings"
	"testing"
)

// TestParseNames: names are shown as they are, so that what is no name is refused,
// whoever wrote the report.
func TestParseNames(t *testing.T) {
	data, err := os.ReadFile("testdata/drifted.json.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{`"tier": "`, `"cause": "`, `"consequenceOf": "`, `"status": "`, `"name": "`} {
		forged := strings.Replace(string(data), old, old+`\u001b[2Jverified\n`, 1)
		if forged == string(data) {
			t.Errorf("there is no %s", old)
			continue
		}
		if _, err := Parse([]byte(forged)); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", old, err)
		}
	}
}
