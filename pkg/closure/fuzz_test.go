package closure

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A manifest has one form: a decoded one is exactly what Encode writes.
func FuzzDecodeManifest(f *testing.F) {
	golden, err := os.ReadFile(goldenManifest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(bytes.ReplaceAll(golden, []byte(`"deriver": null`), []byte(`"deriver": ""`)))
	f.Add([]byte(`{"schemaVersion": 2, "kind": "ec-closure-manifest"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data)
		if whole, wholeErr := decodeManifest(data, nil); fmt.Sprint(err) != fmt.Sprint(wholeErr) || !cmp.Equal(m, whole) {
			t.Errorf("got %v, %v; without the scanner %v, %v", m, err, whole, wholeErr)
		}
		if err != nil {
			if m != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v and the error %q", m, err)
			}
			return
		}
		encoded, err := m.Encode()
		if err != nil || !bytes.Equal(encoded, data) {
			t.Errorf("%q was taken and encodes as %q, %v", data, encoded, err)
		}
		for _, info := range m.Paths {
			if _, err := m.StoreDir.Parse(string(info.Path)); err != nil {
				t.Error(err)
			}
		}
	})
}

// A listing ends, with an error as its last thing if there is one, and what was
// read of it can be written again and reads the same. The input is the listing
// decompressed: the compression is fuzzed where it comes from.
func FuzzReadListing(f *testing.F) {
	entries := []string{`{"name":"","type":"directory"}`, `{"nameBase64":"/w==","type":"symlink","target":"x"}`}
	for n := range len(entries) + 1 {
		f.Add(fmt.Appendf(nil, `%s{"path":%q,"narHash":%q,"files":[%s]}`+"\n", head, data, hashOf("x"), strings.Join(entries[:n], ",")))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var first []PathFiles
		var failed error
		for p, err := range readListing(bytes.NewReader(input), listedConfiguration, all) {
			if failed != nil {
				t.Fatal("something is yielded after an error")
			}
			if failed = err; err == nil {
				first = append(first, p)
			}
		}
		b := &buffer{}
		w := &ListingWriter{w: b}
		for _, p := range first {
			if err := w.Add(p); err != nil {
				t.Fatal(err)
			}
		}
		second, err := collect(readListing(io.MultiReader(strings.NewReader(head), b), listedConfiguration, all))
		if diff := cmp.Diff(first, second); err != nil || diff != "" {
			t.Errorf("what was read does not read the same when it is written again: %v (-first +second):\n%s", err, diff)
		}
	})
}

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

// A store path is what it was parsed from, and its parts make it up again.
func FuzzParseStorePath(f *testing.F) {
	for _, tc := range bases {
		f.Add("/nix/store/" + tc.base)
	}
	f.Add("/a/" + string(data))
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseStorePath(s)
		if err != nil {
			if p != "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q and the error %q", p, err)
			}
			return
		}
		if joined := string(p.Dir()) + "/" + p.Digest() + "-" + p.Name(); string(p) != s || joined != s {
			t.Errorf("ParseStorePath(%q) = %q, whose parts make %q", s, p, joined)
		}
		for i := range len(s) {
			if s[i] <= ' ' || s[i] > '~' {
				t.Errorf("ParseStorePath takes %q", s)
			}
		}
		for _, parse := range []func(string) (StorePath, error){
			p.Dir().Parse,
			func(s string) (StorePath, error) { return p.Dir().ParseBase(s[strings.LastIndexByte(s, '/')+1:]) },
			func(s string) (StorePath, error) { p, _, err := p.Dir().Within(s + "/x"); return p, err },
		} {
			if again, err := parse(s); err != nil || again != p {
				t.Errorf("the parsers differ about %q: %q, %v", s, again, err)
			}
		}
	})
}
