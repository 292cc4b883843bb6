package flakelock

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/closure"
)

const hash = "sha256-voazdLZfTQc86BsgvrEleJH8SK1jzc0w+4in+4dlWT0="

// lock returns a lock file with these nodes, of which root names a and b.
func lock(nodes string) string {
	return `{"nodes":{"root":{"inputs":{"a":"a","b":"b"}},` + nodes + `},"root":"root","version":7}`
}

const b = `"b":{"locked":{"narHash":"` + hash + `","type":"tarball"}}`

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, lock string
		want       []string // names
		unlocked   []string
		err        string
	}{
		{"no inputs", `{"nodes":{"root":{}},"root":"root","version":7}`, nil, nil, ""},
		{"two", lock(`"a":{"locked":{"narHash":"` + hash + `","type":"github"}},` + b), []string{"a", "b"}, nil, ""},
		{"an input of an input, and one that follows", lock(`"a":{"inputs":{"c":"c","d":["b"]},"locked":{"narHash":"` + hash + `"}},"c":{"locked":{"narHash":"` + hash + `"}},` + b), []string{"a", "b", "c"}, nil, ""},
		{"one that nothing names", lock(`"a":{"locked":{"narHash":"` + hash + `"}},"z":{"locked":{}},` + b), []string{"a", "b"}, nil, ""},
		{"a directory of the flake itself", lock(`"a":{"locked":{"path":"./a","type":"path"},"parent":[]},` + b), []string{"b"}, nil, ""},
		{"each other", lock(`"a":{"inputs":{"b":"b"},"locked":{"narHash":"` + hash + `"}},"b":{"inputs":{"a":"a"},"locked":{"narHash":"` + hash + `"}}`), []string{"a", "b"}, nil, ""},

		{"a hash in info", lock(`"a":{"locked":{"type":"github"},"info":{"narHash":"` + hash + `","lastModified":1}},` + b), []string{"a", "b"}, nil, ""},
		{"info that is none", lock(`"a":{"locked":{"narHash":"` + hash + `"},"info":1},` + b), nil, nil, `input "a": info`},
		{"an md5", lock(`"a":{"locked":{"narHash":"md5-1B2M2Y8AsgTpgAmY7PhCfg=="}},` + b), nil, nil, `input "a": parse hash`},

		{"no hash", lock(`"a":{"locked":{"rev":"0","type":"github"}},` + b), nil, []string{"a"}, ""},
		{"no hash deeper down", lock(`"a":{"inputs":{"c":"c"},"locked":{"narHash":"` + hash + `"}},"c":{"locked":{"type":"indirect"}},` + b), nil, []string{"c"}, ""},
		{"a directory elsewhere", lock(`"a":{"locked":{"path":"/srv/a","type":"path"}},"b":{}`), nil, []string{"a", "b"}, ""},
		{"no node", lock(b), nil, nil, `no node "a"`},
		{"no root", `{"nodes":{}}`, nil, nil, `no node ""`},
		{"another hash", lock(`"a":{"locked":{"narHash":"sha1-xx"}},` + b), nil, nil, `input "a": parse hash`},
		{"no JSON", "x", nil, nil, "not the JSON"},
	} {
		inputs, err := Parse(closure.DefaultStoreDir, []byte(c.lock))
		var names []string
		for _, in := range inputs {
			names = append(names, in.Name)
		}
		var unlocked *UnlockedError
		switch errors.As(err, &unlocked); {
		case !slices.Equal(names, c.want):
			t.Errorf("%s: inputs %q, want %q", c.name, names, c.want)
		case unlocked != nil && (!slices.Equal(unlocked.Inputs, c.unlocked) || !strings.Contains(err.Error(), `"`+c.unlocked[0]+`"`)):
			t.Errorf("%s: %v, want %q", c.name, err, c.unlocked)
		case unlocked == nil && (len(c.unlocked) > 0 || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

// TestParseReal takes the lock file of the flake that test hosts are made of, whose
// input Nix puts where it is looked for here.
func TestParseReal(t *testing.T) {
	data, err := os.ReadFile("../../testdata/flake/system/flake.lock")
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := Parse(closure.DefaultStoreDir, data)
	const library = "/nix/store/kz9ilqnmml3bh1cwhxxzrxzq784kwhc5-source"
	if err != nil || len(inputs) != 1 || inputs[0].Name != "library" || inputs[0].Path != library {
		t.Fatalf("%+v, %v, want the one at %s", inputs, err, library)
	}
}
