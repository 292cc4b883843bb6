package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/config"
)

// TestZeroIsDocumented: config show says the same of a zero value as docs/configuration.md.
func TestZeroIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(data), "`", "")
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	values, err := loaded.Values()
	if err != nil {
		t.Fatal(err)
	}
	explained := 0
	for _, v := range values {
		if v.Means == "" {
			continue
		}
		explained++
		if !strings.Contains(page, "\n| "+v.Key+" | "+v.Means+" |") {
			t.Errorf("docs/configuration.md does not have %q as the default of %s", v.Means, v.Key)
		}
	}
	if explained != 10 {
		t.Errorf("%d zero values are explained", explained)
	}
}

// TestLongListIsCounted: hundreds of learned exceptions don't hide the other keys.
func TestLongListIsCounted(t *testing.T) {
	entry := `{"match": "/etc/base", "reason": "base"}`
	short := "[" + entry + ", " + entry + "]"
	long := "[" + strings.Repeat(entry+", ", 732) + entry + "]"
	for value, want := range map[string]string{
		short:                   short,
		long:                    "733 entries (--output json shows them)",
		`"` + long[1:200] + `"`: `"` + long[1:200] + `"`,
	} {
		if got := shownValue(value); got != want {
			t.Errorf("%.60s: %.60s, want %.60s", value, got, want)
		}
	}
}
