package excerpt

import (
	"testing"

	"github.com/go-json-experiment/json"
)

func TestRaw(t *testing.T) {
	for raw, want := range map[Raw]string{
		"":          `{"text":""}`,
		"caf\u00e9": `{"text":"café"}`,
		"caf\xe9":   `{"base64":"Y2Fm6Q=="}`,
		"a\x00\n\"": `{"text":"a\u0000\n\""}`,
	} {
		got, err := json.Marshal(raw)
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v; want %s", raw, got, err, want)
		}
		var again Raw
		if err := json.Unmarshal(got, &again); err != nil || again != raw {
			t.Errorf("%s: %q, %v; want %q", got, again, err, raw)
		}
	}
	for _, bad := range []string{`"x"`, `{}`, `{"text":"a","base64":"YQ=="}`, `{"base64":"?"}`} {
		if err := json.Unmarshal([]byte(bad), new(Raw)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
