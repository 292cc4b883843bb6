package closure

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/nar"
)

func hashOf(s string) nar.Hash { return nar.Hash(sha256.Sum256([]byte(s))) }

// object returns the store path of the tests whose digest repeats letter.
func object(letter, name string) StorePath {
	return StorePath("/nix/store/" + strings.Repeat(letter, digestLen) + "-" + name)
}

// The closure of the tests: top refers to lib and to itself, lib to data.
var (
	top  = object("c", "nixos-system")
	lib  = object("b", "lib")
	data = object("a", "data")
	drv  = object("d", "nixos-system.drv")
)

// testManifest returns a manifest that has something in every member.
func testManifest() *Manifest {
	return &Manifest{
		SchemaVersion: ManifestSchema, Kind: ManifestKind,
		Configuration: "ec-runner-x86_64", System: "x86_64-linux", StoreDir: DefaultStoreDir,
		Source:   Source{NarHash: hashOf("source"), LockNarHash: hashOf("lock")},
		Toplevel: Toplevel{DrvPath: drv, OutPath: top},
		Paths: []PathInfo{
			{Path: data, NarHash: hashOf("data"), NarSize: 96, References: []StorePath{}, CA: "fixed:r:sha256:" + strings.Repeat("0", 52)},
			{Path: lib, NarHash: hashOf("lib"), NarSize: 112, References: []StorePath{data}, Deriver: object("f", "lib.drv")},
			{Path: top, NarHash: hashOf("top"), NarSize: maxNarSize, References: []StorePath{lib, top}, Deriver: drv},
		},
		Unreproducible: []Unreproducible{
			{DrvPath: drv, Outputs: []string{"dev", "out"}, Reason: "the build date is in the manual"},
			{DrvPath: object("f", "lib.drv"), Outputs: []string{"out"}, Reason: "a random seed"},
		},
	}
}

// goldenManifest is a published form: what is in it must be read for ever.
const goldenManifest = "testdata/manifest-v1.json"

func TestManifestRoundTrip(t *testing.T) {
	want := testManifest()
	encoded, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(goldenManifest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(golden), string(encoded)); diff != "" {
		t.Errorf("Encode (-%s +got):\n%s", goldenManifest, diff)
	}
	got, err := DecodeManifest(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DecodeManifest (-want +got):\n%s", diff)
	}
}

// A flake need not be at the root of its source.
func TestManifestSourceDir(t *testing.T) {
	for dir, valid := range map[string]bool{
		"nixos": true, "a/b-1.2+c/_": true, "...": true, strings.Repeat("d", 200): true,
		".": false, "..": false, "a/..": false, "a/../b": false, "./a": false, "/a": false, "a/": false, "a//b": false,
		"a b": false, "a?b": false, "a&dir=b": false, "a\nb": false, "\xff": false, strings.Repeat("d", 201): false,
	} {
		want := testManifest()
		want.Source.Dir = dir
		encoded, err := want.Encode()
		if (err == nil) != valid {
			t.Errorf("directory %q: %v", dir, err)
		}
		if err != nil {
			continue
		}
		if got, err := DecodeManifest(encoded); err != nil || got.Source != want.Source {
			t.Errorf("directory %q: read as %+v, %v", dir, got, err)
		}
		if want.Source.LockFile() != dir+"/flake.lock" {
			t.Errorf("lock file of %q: %s", dir, want.Source.LockFile())
		}
	}
	if data, err := testManifest().Encode(); err != nil || bytes.Contains(data, []byte(`"dir"`)) {
		t.Errorf("a flake at the root has a directory: %v", err)
	}
	s := `"lockNarHash": "` + testManifest().Source.LockNarHash.String() + `"`
	data, err := testManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeManifest(bytes.Replace(data, []byte(s), []byte(s+`,
    "dir": ""`), 1)); err == nil {
		t.Error("an empty directory is taken for none")
	}
}

// A flake without inputs has no lock file, and a closure of one path needs
// nothing that is optional.
func TestManifestRoundTripOfTheLeast(t *testing.T) {
	want := testManifest()
	want.Source.LockNarHash = nar.Hash{}
	want.Paths = []PathInfo{{Path: top, NarHash: hashOf("top"), NarSize: minNarSize, References: []StorePath{}}}
	want.Unreproducible = []Unreproducible{}
	encoded, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"lockNarHash": null`, `"deriver": null`, `"ca": null`, `"references": []`, `"unreproducible": []`} {
		if !bytes.Contains(encoded, []byte(member)) {
			t.Errorf("Encode has no %s:\n%s", member, encoded)
		}
	}
	got, err := DecodeManifest(encoded)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("DecodeManifest: %v (-want +got):\n%s", err, diff)
	}
}

// Whatever order a builder comes to its paths in, it writes the same bytes.
func TestEncodeIsCanonical(t *testing.T) {
	want, err := testManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest()
	slices.Reverse(m.Paths)
	slices.Reverse(m.Unreproducible)
	for i := range m.Paths {
		slices.Reverse(m.Paths[i].References)
	}
	for i := range m.Unreproducible {
		slices.Reverse(m.Unreproducible[i].Outputs)
	}
	m.Paths[len(m.Paths)-1].References = nil // the same as none
	shuffled := fmt.Sprint(m)
	got, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("Encode of the same in another order (-want +got):\n%s", diff)
	}
	if fmt.Sprint(m) != shuffled {
		t.Error("Encode changed the manifest that it was given")
	}
}

// TestManifestRefusals breaks a valid manifest in one way each. What is broken
// in the values must not be written either.
func TestManifestRefusals(t *testing.T) {
	second := func(m *Manifest) *PathInfo { return &m.Paths[1] }
	for _, tc := range []struct {
		name string
		edit func(m *Manifest)
		want string
	}{
		{"configuration empty", func(m *Manifest) { m.Configuration = "" }, "configuration name"},
		{"configuration climbs", func(m *Manifest) { m.Configuration = "../x" }, "configuration name"},
		{"configuration begins with a dash", func(m *Manifest) { m.Configuration = "-x" }, "configuration name"},
		{"configuration with a newline", func(m *Manifest) { m.Configuration = "x\n" }, "configuration name"},
		{"system", func(m *Manifest) { m.System = "linux" }, "system"},
		{"store dir", func(m *Manifest) { m.StoreDir = "/nix/store/" }, "store directory"},
		{"no source", func(m *Manifest) { m.Source.NarHash = nar.Hash{} }, "narHash"},
		{"drvPath is no derivation", func(m *Manifest) { m.Toplevel.DrvPath = top }, "toplevel drvPath"},
		{"drvPath in another store", func(m *Manifest) { m.Toplevel.DrvPath = "/gnu/store/" + StorePath(drv.Base()) }, "toplevel drvPath"},
		{"outPath not among the paths", func(m *Manifest) { m.Toplevel.OutPath = object("z", "gone") }, "not among the paths"},
		{"no paths", func(m *Manifest) { m.Paths = nil }, "not among the paths"},
		{"path in another store", func(m *Manifest) { second(m).Path = "/gnu/store/" + StorePath(lib.Base()) }, "not in /nix/store"},
		{"path climbs", func(m *Manifest) { second(m).Path = "/nix/store/../store/" + StorePath(lib.Base()) }, "parse store path \"/nix/store/../store/"},
		{"path twice", func(m *Manifest) { m.Paths = append(m.Paths[:2:2], m.Paths[1:]...) }, "listed twice"},
		{"path not reached", func(m *Manifest) { m.Paths[2].References = []StorePath{top} }, "is not in the closure of"},
		{"no narHash", func(m *Manifest) { second(m).NarHash = nar.Hash{} }, "narHash"},
		{"narSize 0", func(m *Manifest) { second(m).NarSize = 0 }, "no NAR has"},
		{"narSize negative", func(m *Manifest) { second(m).NarSize = -112 }, "no NAR has"},
		{"narSize below the smallest", func(m *Manifest) { second(m).NarSize = 88 }, "no NAR has"},
		{"narSize not padded", func(m *Manifest) { second(m).NarSize = 113 }, "no NAR has"},
		{"narSize beyond the largest", func(m *Manifest) { second(m).NarSize = maxNarSize + 8 }, "no NAR has"},
		{"dangling reference", func(m *Manifest) { second(m).References = []StorePath{data, object("z", "gone")} }, "which is not among the paths"},
		{"reference climbs", func(m *Manifest) { second(m).References = []StorePath{data + "/../x"} }, `/../x": `},
		{"reference twice", func(m *Manifest) { second(m).References = []StorePath{data, data} }, "references of"},
		{"deriver is no derivation", func(m *Manifest) { second(m).Deriver = data }, "deriver of"},
		{"deriver in another store", func(m *Manifest) { second(m).Deriver = "/gnu/store/" + StorePath(drv.Base()) }, "deriver of"},
		{"ca with a control character", func(m *Manifest) { second(m).CA = "text:\x1b[31m" }, "ca of"},
		{"ca too long", func(m *Manifest) { second(m).CA = strings.Repeat("x", 301) }, "ca of"},
		{"unreproducible is no derivation", func(m *Manifest) { m.Unreproducible[0].DrvPath = top }, "unreproducible drvPath"},
		{"unreproducible twice", func(m *Manifest) { m.Unreproducible[1] = m.Unreproducible[0] }, "doubled"},
		{"unreproducible without outputs", func(m *Manifest) { m.Unreproducible[0].Outputs = nil }, "names no output"},
		{"output twice", func(m *Manifest) { m.Unreproducible[0].Outputs = []string{"out", "out"} }, `output "out"`},
		{"output malformed", func(m *Manifest) { m.Unreproducible[0].Outputs = []string{"../out"} }, `output "../out"`},
		{"reason empty", func(m *Manifest) { m.Unreproducible[0].Reason = "" }, "the reason"},
		{"reason on two lines", func(m *Manifest) { m.Unreproducible[0].Reason = "a\nb" }, "the reason"},
		{"reason not ASCII", func(m *Manifest) { m.Unreproducible[0].Reason = "\u202ereason" }, "the reason"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := testManifest()
			tc.edit(m)
			if encoded, err := m.Encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Encode = %s, %v, want the error %q", encoded, err, tc.want)
			}
			written, err := m.encode() // as somebody else might
			if err != nil {
				t.Fatal(err)
			}
			checkRefused(t, written, tc.want)
		})
	}
}

// TestDecodeManifestRefusals is of what only bytes can get wrong.
func TestDecodeManifestRefusals(t *testing.T) {
	golden, err := os.ReadFile(goldenManifest)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		t.Helper()
		if !bytes.Contains(golden, []byte(old)) {
			t.Fatalf("the manifest has no %s", old)
		}
		return bytes.Replace(golden, []byte(old), []byte(new), 1)
	}
	var paths [][]byte
	for _, p := range []StorePath{data, lib} {
		begin := bytes.Index(golden, fmt.Appendf(nil, "    {\n      \"path\": %q", p))
		end := begin + bytes.Index(golden[begin:], []byte("\n    },\n")) + len("\n    },\n")
		paths = append(paths, golden[begin:end])
	}
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "unexpected EOF"},
		{"null", []byte("null"), "kind"},
		{"a list", []byte("[]"), "not of the expected kind"},
		{"no JSON", []byte("\x7fELF"), "at byte 0"},
		{"truncated", golden[:len(golden)/2], "unexpected EOF"},
		{"of another kind", replace(ManifestKind, "ec-closure-files"), `kind is "ec-closure-files"`},
		{"version 2", replace(`"schemaVersion": 1`, `"schemaVersion": 2`), "unknown schema version 2"},
		{"version 0", replace(`"schemaVersion": 1`, `"schemaVersion": 0`), "unknown schema version 0"},
		{"version 1.0", replace(`"schemaVersion": 1`, `"schemaVersion": 1.0`), "/schemaVersion"},
		{"version is text", replace(`"schemaVersion": 1`, `"schemaVersion": "1"`), "/schemaVersion"},
		{"version is huge", replace(`"schemaVersion": 1`, `"schemaVersion": 1`+strings.Repeat("0", 400)), "/schemaVersion"},
		{"unknown member", replace(`"configuration":`, `"tag": "v1", "configuration":`), `unknown member "/tag"`},
		{"unknown member of a path", replace(`"narSize": 112`, `"narSize": 112, "signatures": []`), `unknown member "/paths/1/signatures"`},
		{"unknown member that misleads", replace(`"configuration":`, `"\u001b[31m\n": 1, "configuration":`), `unknown member`},
		{"case of a member", replace(`"configuration"`, `"Configuration"`), `unknown member "/Configuration"`},
		{"doubled member", replace(`"configuration":`, `"system": "i686-linux", "configuration":`), `member "/system" is there twice`},
		{"doubled member in other words", replace(`"configuration":`, `"\u0073ystem": "i686-linux", "configuration":`), `member "/system" is there twice`},
		{"missing member", replace(`  "system": "x86_64-linux",`+"\n", ""), "system"},
		{"missing member of a path", replace(`      "deriver": null,`+"\n", ""), "not in canonical form"},
		{"paths are null", replace(string(golden[bytes.Index(golden, []byte(`"paths": [`)):bytes.Index(golden, []byte("\n  ],"))+4]), `"paths": null`), "not among the paths"},
		{"references are null", replace(`"references": []`, `"references": null`), "not in canonical form"},
		{"references hold null", replace("\"references\": [\n        \""+string(data)+"\"", "\"references\": [\n        null"), "references of"},
		{"source is null", replace(string(golden[bytes.Index(golden, []byte(`"source": {`)):bytes.Index(golden, []byte("\n  },"))+4]), `"source": null`), "source has no narHash"},
		{"path is null", replace(fmt.Sprintf(`"path": %q`, data), `"path": null`), "not in /nix/store"},
		{"deriver is empty", replace(`"deriver": null`, `"deriver": ""`), "parse store path"},
		{"ca is empty", replace(`"ca": null`, `"ca": ""`), "not in canonical form"},
		{"lock hash is empty", replace(`"lockNarHash": "`+hashOf("lock").String(), `"lockNarHash": "`), "parse hash"},
		{"hash in base 16", replace(hashOf("lib").String(), fmt.Sprintf("sha256:%x", hashOf("lib"))), "parse hash"},
		{"hash without its algorithm", replace(hashOf("lib").String(), hashOf("lib").String()[7:]), "parse hash"},
		{"hash of zeros", replace(hashOf("lib").String(), "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "has no narHash"},
		{"hash that ends otherwise", replace(`Ffg="`, `Ffh="`), "parse hash"}, // the same bytes: base64 has bits to spare
		{"narSize is text", replace(`"narSize": 112`, `"narSize": "112"`), "/paths/1/narSize"},
		{"narSize is fractional", replace(`"narSize": 112`, `"narSize": 112.5`), "/paths/1/narSize"},
		{"narSize with an exponent", replace(`"narSize": 112`, `"narSize": 1.12e2`), "/paths/1/narSize"},
		{"narSize beyond 64 bits", replace(`"narSize": 112`, `"narSize": 18446744073709551728`), "/paths/1/narSize"},
		{"path climbs", replace(`"path": "`+string(lib), `"path": "`+string(lib)+"/../"+lib.Base()), "/paths/1/path"},
		{"paths out of order", replace(string(paths[0])+string(paths[1]), string(paths[1])+string(paths[0])), "ascending order"},
		{"a path after the last one", replace(string(paths[0]), string(paths[0][:len(paths[0])-2])+"\n  "+string(paths[0])), "after array element"},
		{"a second list of paths", replace(`"unreproducible"`, "\"paths\": [],\n  \"unreproducible\""), `member "/paths" is there twice`},
		{"ca with an escape", replace("fixed:r:", `fixed:\u0072:`), "not in canonical form"},
		{"references out of order", replace(fmt.Sprintf("        %q,\n        %q\n", lib, top), fmt.Sprintf("        %q,\n        %q\n", top, lib)), "ascending order"},
		{"unreproducible is null", replace(string(golden[bytes.Index(golden, []byte(`"unreproducible": [`)):len(golden)-3]), `"unreproducible": null`), "not in canonical form"},
		{"CRLF", bytes.ReplaceAll(golden, []byte("\n"), []byte("\r\n")), "not in canonical form from byte 1"},
		{"byte order mark", append([]byte("\ufeff"), golden...), "at byte 0"},
		{"no newline at the end", bytes.TrimSpace(golden), "not in canonical form"},
		{"blank at the end", append(slices.Clone(golden), ' '), "not in canonical form"},
		{"more after the end", append(slices.Clone(golden), golden...), "after top-level value"},
		{"NUL after the end", append(slices.Clone(golden), 0), "after top-level value"},
		{"compact", bytes.ReplaceAll(golden, []byte("\n"), nil), "not in canonical form"},
		{"escaped", replace(`"x86_64-linux"`, `"x86\u005f64-linux"`), "not in canonical form"},
		{"invalid UTF-8", replace("random", "r\xe4ndom"), "invalid UTF-8"},
		{"nested deeply", append([]byte(`{"x":`), strings.Repeat("[", 100_000)...), "depth"},
		{"too large", make([]byte, MaxManifestSize+1), "67108865 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkRefused(t, tc.data, tc.want) })
	}
}

// TestScanHostile: a scan of what is no manifest ends before it takes much memory, as the
// digest of what comes in is known only at its end.
func TestScanHostile(t *testing.T) {
	golden, err := os.ReadFile(goldenManifest)
	if err != nil {
		t.Fatal(err)
	}
	const references = "\"references\": ["
	before, _, _ := strings.Cut(string(golden), references)
	paths, _, _ := strings.Cut(string(golden), "\n  ]")
	for name, tc := range map[string]struct {
		begin, more string // more has the place of a number
		most        int    // bytes that are read
	}{
		"short references":     {before + references, "\n        \"%x\",", 1 << 20},
		"different references": {before + references, "\n        \"/nix/store/%032x-a\",", 40 << 20},
		"after the paths":      {paths + "\n  ]", ",\n  \"x%d\": {}", maxRest + 1<<20},
	} {
		in := &endless{rest: []byte(tc.begin), more: tc.more}
		if m := ScanManifest(in); m != nil || in.read > tc.most {
			t.Errorf("%s: %d bytes were read, want at most %d", name, in.read, tc.most)
		}
	}
}

// endless is a manifest that never ends, but for its greatest size.
type endless struct {
	rest    []byte
	more    string
	i, read int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read >= MaxManifestSize {
		return 0, io.ErrUnexpectedEOF
	}
	for len(e.rest) < len(p) {
		e.rest = fmt.Appendf(e.rest, e.more, e.i)
		e.i++
	}
	n := copy(p, e.rest)
	e.rest = append(e.rest[:0], e.rest[n:]...)
	e.read += n
	return n, nil
}

// TestScanPaths has each change of one byte decoded with and without the scanner, which
// agree in the result and in the error.
func TestScanPaths(t *testing.T) {
	golden, err := os.ReadFile(goldenManifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]io.Reader{
		"whole": bytes.NewReader(golden), "byte by byte": iotest.OneByteReader(bytes.NewReader(golden)), "with its end": iotest.DataErrReader(bytes.NewReader(golden)),
	} {
		if diff := cmp.Diff(testManifest(), ScanManifest(in)); diff != "" {
			t.Errorf("read %s (-want +got):\n%s", name, diff)
		}
	}
	if m := ScanManifest(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(golden)))); m != nil {
		t.Error("half a manifest was scanned")
	}
	compare := func(changed []byte) {
		t.Helper()
		got, err := DecodeManifest(changed)
		want, wantErr := decodeManifest(changed, nil)
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%q: error %v, want %v (-without the scanner +with it):\n%s", changed, err, wantErr, diff)
		}
	}
	for i := range golden {
		compare(slices.Delete(slices.Clone(golden), i, i+1))
		for _, b := range []byte("\n \"\\,]}01a\x7f") {
			compare(slices.Insert(slices.Clone(golden), i, b))
			changed := slices.Clone(golden)
			changed[i] = b
			compare(changed)
		}
	}
}

// checkRefused wants data refused for the reason want, in one printable line
// of a length that can be shown.
func checkRefused(t *testing.T, data []byte, want string) {
	t.Helper()
	m, err := DecodeManifest(data)
	switch {
	case err == nil || m != nil:
		t.Errorf("DecodeManifest = %+v, %v, want the error %q", m, err, want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("DecodeManifest: %q, want %q", err, want)
	case strings.ContainsAny(err.Error(), "\n\x1b\u202e") || len(err.Error()) > 1500:
		t.Errorf("DecodeManifest: %q is not one short line", err)
	}
}

func TestErrSchemaOnlyForVersions(t *testing.T) {
	newer := fmt.Sprintf(`{"schemaVersion": 2, "kind": %q, "everything": "else"}`, ManifestKind)
	if _, err := DecodeManifest([]byte(newer)); !errors.Is(err, ErrSchema) {
		t.Errorf("a newer manifest: got %v, want ErrSchema", err)
	}
	if _, err := DecodeManifest([]byte(`{"schemaVersion": 2, "kind": "other"}`)); err == nil || errors.Is(err, ErrSchema) {
		t.Errorf("a newer file of another kind: got %v, want another error than ErrSchema", err)
	}
}

func TestCheckConfiguration(t *testing.T) {
	for name, ok := range map[string]bool{
		"ec-runner-x86_64": true, "a": true, "_": true, "A.b": true, strings.Repeat("a", 100): true,
		"": false, ".": false, "..": false, ".a": false, "-a": false, "a/b": false, "a b": false, "a\x00": false,
		"a\n": false, "ä": false, strings.Repeat("a", 101): false,
	} {
		if err := CheckConfiguration(name); (err == nil) != ok {
			t.Errorf("CheckConfiguration(%q) = %v, want ok %v", name, err, ok)
		}
	}
}
