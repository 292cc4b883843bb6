package report

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCausesAreDocumented: programs know causes from docs/report.md alone.
func TestCausesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/report.md")
	if err != nil {
		t.Fatal(err)
	}
	classes := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| (`[a-z`, -]+`) \\| (untrusted|drift|inconclusive|notice) \\|")
	for _, m := range row.FindAllStringSubmatch(string(data), -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			classes[strings.Trim(name, "`")] = m[2]
		}
	}
	for _, c := range Causes() {
		if got := classes[string(c)]; got != string(ClassOf(c)) {
			t.Errorf("docs/report.md has cause %s as class %q, want %s", c, got, ClassOf(c))
		}
		delete(classes, string(c))
	}
	for name := range classes {
		t.Errorf("docs/report.md has cause %s, which there is not", name)
	}
}
