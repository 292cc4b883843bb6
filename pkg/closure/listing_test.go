package closure

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/nar"
)

const listedConfiguration = "ec-runner-x86_64"

// goldenListing is a published form, like [goldenManifest].
const goldenListing = "testdata/listing-v1.json.zst"

// testListing has every kind of file, and names that need care: not UTF-8,
// quotes, backslashes, and two whose order as names and as text differs.
func testListing() []PathFiles {
	return []PathFiles{
		{Path: data, NarHash: hashOf("data"), Files: []nar.Entry{{Type: nar.Regular, Size: 4, SHA256: hashOf("data")}}},
		{Path: lib, NarHash: hashOf("lib"), Files: []nar.Entry{{Type: nar.Symlink, Target: "/nix/store"}}},
		{Path: top, NarHash: hashOf("top"), Files: []nar.Entry{
			{Type: nar.Directory},
			{Path: "..foo", Type: nar.Directory},
			{Path: "a", Type: nar.Directory},
			{Path: "a/b", Type: nar.Regular, Size: 0, SHA256: hashOf("")},
			{Path: "a-b", Type: nar.Regular, Size: 1 << 40, SHA256: hashOf("x"), Executable: true},
			{Path: "caf\xc3\xa9", Type: nar.Symlink, Target: ""},
			{Path: "caf\xe9", Type: nar.Symlink, Target: "caf\xe9/\"\\\n"},
			{Path: "line\nend \"<&>\" \u202e", Type: nar.Directory},
		}},
	}
}

// writeListing returns the listing of paths.
func writeListing(t testing.TB, paths []PathFiles) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewListingWriter(&b, listedConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if err := w.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compress returns what somebody else may have written.
func compress(t testing.TB, text string) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(listingWindow))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll([]byte(text), nil)
}

// head is the first line of a listing.
var head = fmt.Sprintf(`{"schemaVersion":1,"kind":"ec-closure-files","configuration":%q}`+"\n", listedConfiguration)

func all(StorePath) bool { return true }

// collect returns the values of seq, and its error.
func collect(seq iter.Seq2[PathFiles, error]) (paths []PathFiles, err error) {
	for p, e := range seq {
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		paths = append(paths, p)
	}
	return paths, err
}

func TestListingRoundTrip(t *testing.T) {
	want := testListing()
	golden, err := os.ReadFile(goldenListing)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"written now": writeListing(t, want), goldenListing: golden} {
		// However the bytes come.
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
			got, err := collect(ReadListing(r, listedConfiguration, all))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
			}
		}
	}
}

func TestListingIsDeterministic(t *testing.T) {
	paths := testListing()
	for i := range 3000 { // more than a block of the compressor
		paths[2].Files = append(paths[2].Files, nar.Entry{Path: fmt.Sprintf("z%05d", i), Type: nar.Regular, SHA256: hashOf(fmt.Sprint(i))})
	}
	first := writeListing(t, paths)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !bytes.Equal(first, writeListing(t, paths)) {
		t.Error("the same paths gave other bytes on one processor")
	}
}

func TestReadListingOnlyWhatIsWanted(t *testing.T) {
	listing := writeListing(t, testListing())
	got, err := collect(ReadListing(bytes.NewReader(listing), listedConfiguration, func(p StorePath) bool { return p == lib }))
	if diff := cmp.Diff(testListing()[1:2], got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	// A loop that breaks ends it.
	n := 0
	for range ReadListing(bytes.NewReader(listing), listedConfiguration, all) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("after break: %d paths, want 1", n)
	}
}

func TestListingWriterRefuses(t *testing.T) {
	if w, err := NewListingWriter(io.Discard, "../x"); err == nil || w != nil {
		t.Errorf("NewListingWriter of a malformed configuration = %v, %v", w, err)
	}
	w, err := NewListingWriter(io.Discard, listedConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(testListing()[1]); err != nil {
		t.Fatal(err)
	}
	root, file := nar.Entry{Type: nar.Directory}, nar.Entry{Path: "x", Type: nar.Directory}
	climbs := nar.Entry{Path: "../x", Type: nar.Directory}
	for name, p := range map[string]PathFiles{
		"path twice":         testListing()[1],
		"path out of order":  testListing()[0],
		"no files":           {Path: top, NarHash: hashOf("top")},
		"no hash":            {Path: top, Files: []nar.Entry{root}},
		"no root":            {Path: top, NarHash: hashOf("top"), Files: []nar.Entry{file}},
		"file twice":         {Path: top, NarHash: hashOf("top"), Files: []nar.Entry{root, file, file}},
		"files out of order": {Path: top, NarHash: hashOf("top"), Files: []nar.Entry{file, root}},
		"name that climbs":   {Path: top, NarHash: hashOf("top"), Files: []nar.Entry{root, climbs}},
	} {
		if err := w.Add(p); err == nil {
			t.Errorf("%s: Add succeeds", name)
		}
	}
	if err := w.Add(testListing()[2]); err != nil {
		t.Errorf("Add after a refusal: %v", err)
	}
}

func TestReadListingRefuses(t *testing.T) {
	line := func(p StorePath, files string) string {
		return fmt.Sprintf(`{"path":%q,"narHash":%q,"files":[%s]}`+"\n", p, hashOf("x"), files)
	}
	const (
		root = `{"name":"","type":"directory"}`
		sha  = `"sha256":"sha256-n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="`
	)
	file := func(members string) string { return head + line(data, root+","+members) }
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "unexpected EOF"},
		{"head without an end", strings.TrimSpace(head), "unexpected EOF"},
		{"head is no JSON", "x\n", "at byte 0"},
		{"head with an unknown member", strings.Replace(head, `{`, `{"tag":"v1",`, 1), `unknown member "/tag"`},
		{"head without end in sight", strings.Repeat(" ", 1<<20), "longer than 4096 bytes"},
		{"of another kind", strings.Replace(head, ListingKind, ManifestKind, 1), "kind is"},
		{"of another version", strings.Replace(head, `:1`, `:2`, 1), "unknown schema version 2"},
		{"of another configuration", strings.Replace(head, listedConfiguration, "other", 1), `configuration "other"`},
		{"line of something else", head + `{"schemaVersion":1}` + "\n", "does not begin with a path"},
		{"blank line", head + "\n" + line(data, root), "does not begin with a path"},
		{"blank before a line", head + " " + line(data, root), "does not begin with a path"},
		{"malformed path", head + line("/nix/store/x", root), "parse store path"},
		{"path that climbs", head + line(data+"/../x", root), "parse store path"},
		{"path without end", head + pathPrefix + strings.Repeat("x", 1<<20), "path is too long"},
		{"path twice", head + line(data, root) + line(data, root), "twice or out of order"},
		{"paths out of order", head + line(lib, root) + line(data, root), "twice or out of order"},
		{"line without an end", head + strings.TrimSpace(line(data, root)), "unexpected EOF"},
		{"line cut short", head + strings.Replace(line(data, root), "]}", "", 1), "unexpected EOF"},
		{"two values in a line", head + strings.TrimSpace(line(data, root)) + "{}\n", "more in the line"},
		{"unknown member", head + strings.Replace(line(data, root), `"narHash"`, `"deriver":null,"narHash"`, 1), `want "narHash"`},
		{"no hash", head + strings.Replace(line(data, root), hashOf("x").String(), "", 1), "parse hash"},
		{"hash is null", head + strings.Replace(line(data, root), `"`+hashOf("x").String()+`"`, "null", 1), "no narHash"},
		{"no files", head + line(data, ""), "not even the root"},
		{"no root", head + line(data, `{"name":"x","type":"directory"}`), "is the root"},
		{"two roots", file(root), "is the root"},
		{"file twice", file(`{"name":"x","type":"directory"},{"name":"x","type":"directory"}`), "doubled or out of order"},
		{"files out of order", file(`{"name":"a-b","type":"directory"},{"name":"a/b","type":"directory"}`), "doubled or out of order"},
		{"file is a list", file(`[]`), "not of the expected kind"},
		{"file with an unknown member", file(`{"name":"x","type":"directory","mode":493}`), "unknown member"},
		{"file with a doubled member", file(`{"name":"x","name":"y","type":"directory"}`), "is there twice"},
		{"unknown type", file(`{"name":"x","type":"fifo"}`), "unknown type"},
		{"no name", file(`{"type":"directory"}`), "as text or as base64"},
		{"two names", file(`{"name":"x","nameBase64":"/w==","type":"directory"}`), "as text or as base64"},
		{"absolute name", file(`{"name":"/x","type":"directory"}`), "not a relative path"},
		{"name that ends in a slash", file(`{"name":"x/","type":"directory"}`), "not a relative path"},
		{"name that climbs", file(`{"name":"x/../../y","type":"directory"}`), "not a relative path"},
		{"name with a NUL", file(`{"name":"x\u0000","type":"directory"}`), "not a relative path"},
		{"name in base64 that is text", file(`{"nameBase64":"eA==","type":"directory"}`), "base64"},
		{"name in malformed base64", file(`{"nameBase64":"/x==","type":"directory"}`), "base64"},
		{"name is invalid UTF-8", file("{\"name\":\"\xff\",\"type\":\"directory\"}"), "invalid UTF-8"},
		{"file without a size", file(`{"name":"x","type":"regular",` + sha + `}`), "has size and sha256"},
		{"file without a digest", file(`{"name":"x","type":"regular","size":1}`), "has size and sha256"},
		{"file of negative size", file(`{"name":"x","type":"regular","size":-1,` + sha + `}`), "has size and sha256"},
		{"file with a target", file(`{"name":"x","type":"regular","size":1,` + sha + `,"target":"y"}`), "no target"},
		{"directory with a size", file(`{"name":"x","type":"directory","size":1}`), "a directory has neither"},
		{"directory that is executable", file(`{"name":"x","type":"directory","executable":true}`), "a directory has neither"},
		{"link without a target", file(`{"name":"x","type":"symlink"}`), "target: want it once"},
		{"link with a digest", file(`{"name":"x","type":"symlink","target":"y",` + sha + `}`), "nothing else"},
		{"link that is executable", file(`{"name":"x","type":"symlink","target":"y","executable":true}`), "nothing else"},
		{"name that misleads", file("{\"name\":\"\u202e\\u001b\\n/\",\"type\":\"directory\"}"), "not a relative path"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkListingRefused(t, compress(t, tc.text), tc.want) })
	}
}

// checkListingRefused wants one error, the last thing yielded.
func checkListingRefused(t *testing.T, listing []byte, want string) {
	t.Helper()
	var errs []error
	for _, err := range ReadListing(bytes.NewReader(listing), listedConfiguration, all) {
		if len(errs) > 0 {
			t.Error("something is yielded after an error")
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), want) || strings.ContainsAny(errs[0].Error(), "\n\x1b\u202e") {
		t.Errorf("got the errors %q, want one line with %q", errs, want)
	}
}

func TestReadListingRefusesBytes(t *testing.T) {
	listing := writeListing(t, testListing())
	for n := range len(listing) {
		if _, err := collect(ReadListing(bytes.NewReader(listing[:n]), listedConfiguration, all)); err == nil {
			t.Errorf("truncated to %d of %d bytes: no error", n, len(listing))
		}
	}
	for name, more := range map[string][]byte{"text": []byte("more"), "NULs": make([]byte, 16), "half a frame": listing[:20], "a second listing": listing} {
		if _, err := collect(ReadListing(bytes.NewReader(append(bytes.Clone(listing), more...)), listedConfiguration, all)); err == nil {
			t.Errorf("followed by %s: no error", name)
		}
	}
	broken := errors.New("disk on fire")
	_, err := collect(ReadListing(io.MultiReader(bytes.NewReader(listing[:len(listing)/2]), iotest.ErrReader(broken)), listedConfiguration, all))
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("reader that fails: got %v, want %v", err, broken)
	}
}

// TestReadListingBombs reads listings of a few kilobytes that expand to more
// than a gigabyte, and looks at how much was held for it.
func TestReadListingBombs(t *testing.T) {
	run := compress(t, strings.Repeat(" ", 1<<20)) // one frame; more may follow
	wanted := head + pathPrefix + string(data) + `"`
	for _, tc := range []struct {
		name, begin string
		want        func(StorePath) bool
		refusal     string
	}{
		{"head", "", all, "longer than 4096 bytes"},
		{"path", head + pathPrefix, all, "path is too long"},
		{"line that is skipped", wanted, func(StorePath) bool { return false }, "larger than"},
		{"line that is wanted", wanted, all, "more than 1048576 bytes"},
		{"name", wanted + fmt.Sprintf(`,"narHash":%q,"files":[{"name":"`, hashOf("x")), all, "more than 1048576 bytes"},
		{"files", wanted + fmt.Sprintf(`,"narHash":%q,"files":[{"name":"","type":"directory"}`, hashOf("x")), all, "more than 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bomb := append(compress(t, tc.begin), bytes.Repeat(run, 1025)...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := collect(ReadListing(bytes.NewReader(bomb), listedConfiguration, tc.want))
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.refusal) {
				t.Errorf("got %v, want %q", err, tc.refusal)
			}
			// All that was ever allocated bounds what was held.
			if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
				t.Errorf("%d MiB allocated, want at most 32", got>>20)
			}
		})
	}
}

// TestListingHeld: the files of one path are in memory together, and limited by their bytes,
// both when a listing is written and when it is read.
func TestListingHeld(t *testing.T) {
	target := strings.Repeat("t", 1<<20-100)
	p := PathFiles{Path: top, NarHash: hashOf("top"), Files: []nar.Entry{{Type: nar.Directory}}}
	var text strings.Builder
	fmt.Fprintf(&text, `{"schemaVersion":%d,"kind":%q,"configuration":%q}`+"\n", ListingSchema, ListingKind, listedConfiguration)
	fmt.Fprintf(&text, `{"path":%q,"narHash":%q,"files":[{"name":"","type":"directory"}`, p.Path, p.NarHash)
	for i := range maxListedHeld/len(target) + 1 {
		e := nar.Entry{Path: fmt.Sprintf("%03d", i), Type: nar.Symlink, Target: target}
		p.Files = append(p.Files, e)
		fmt.Fprintf(&text, `,{"name":%q,"type":"symlink","target":%q}`, e.Path, e.Target)
	}
	text.WriteString("]}\n")
	const want = "bytes of memory"
	for _, err := range readListing(strings.NewReader(text.String()), listedConfiguration, all) {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadListing: %v; want %q", err, want)
		}
	}
	w, err := NewListingWriter(io.Discard, listedConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(p); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("ListingWriter.Add: %v; want %q", err, want)
	}
}
