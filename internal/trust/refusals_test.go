package trust_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/internal/trust"
)

// refusals is where each release that must be refused has its directory; see
// the README.md there.
const refusals = "../../testdata/release"

var update = flag.Bool("update", false, "write testdata/release anew, with new signatures by the keys there")

// refusal is the case.json of one directory.
type refusal struct {
	About string      `json:"about"`
	Tag   release.Tag `json:"tag"`
	Now   time.Time   `json:"now"`
	// Keys is the policy: the keys of testdata/release/keys by name.
	Keys      []refusalKey `json:"keys"`
	Threshold int          `json:"threshold,omitzero"`
	// Accepted is what the node has accepted before.
	Accepted []release.Accepted `json:"accepted,omitempty"`
	// Exit is the exit code of ec-verify: 3, or 0 for the one that is accepted.
	Exit   int            `json:"exit"`
	Reason release.Reason `json:"reason"`
	Detail string         `json:"detail"`
}

type refusalKey struct {
	Name      string    `json:"name"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
}

// TestRefusals checks every directory of testdata/release: the release in it
// is refused for the reason, and with the words, that its case.json names.
func TestRefusals(t *testing.T) {
	if *update {
		writeRefusals(t)
	}
	dirs, err := filepath.Glob(filepath.Join(refusals, "*", "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < 25 {
		t.Fatalf("only %d cases in %s", len(dirs), refusals)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := readRefusal(t, path)
			err := useAll(t, dir, c)
			if *update {
				c.Exit, c.Reason, c.Detail = 0, "", ""
				var untrusted *release.UntrustedError
				if errors.As(err, &untrusted) {
					c.Exit, c.Reason, c.Detail = 3, untrusted.Reason, untrusted.Detail
				} else if err != nil {
					t.Fatal(err)
				}
				writeRefusal(t, path, c)
				return
			}
			if c.Exit == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantReason(t, err, c.Reason)
			var untrusted *release.UntrustedError
			if errors.As(err, &untrusted) && untrusted.Detail != c.Detail {
				t.Errorf("it says\n%q, want\n%q", untrusted.Detail, c.Detail)
			}
		})
	}
}

// useAll opens the release of a case and reads everything in it.
func useAll(t *testing.T, dir string, c refusal) error {
	t.Helper()
	p := trust.Policy{Threshold: c.Threshold}
	for _, k := range c.Keys {
		p.Keys = append(p.Keys, trust.Key{Name: k.Name, PEM: string(releasetest.Read(t, filepath.Join(refusals, "keys"), k.Name+".pub")), NotBefore: k.NotBefore, NotAfter: k.NotAfter})
	}
	clock := func() time.Time { return c.Now }
	opts := []release.Option{release.WithClock(clock)}
	if len(c.Accepted) > 0 {
		state := t.TempDir()
		data, err := json.Marshal(struct {
			SchemaVersion int                `json:"schemaVersion"`
			Accepted      []release.Accepted `json:"accepted"`
		}{1, c.Accepted})
		if err != nil {
			t.Fatal(err)
		}
		releasetest.File(t, state, "accepted.json", data)
		m, err := release.OpenMemory(state)
		if err != nil {
			t.Fatal(err)
		}
		opts = append(opts, release.WithMemory(m))
	}
	r, err := release.Open(t.Context(), release.NewDirSource(dir), c.Tag, newVerifierAt(t, p, clock), opts...)
	if err != nil {
		return err
	}
	return r.CheckComplete(t.Context(), filepath.Join(dir, string(c.Tag)))
}

func readRefusal(t *testing.T, path string) refusal {
	t.Helper()
	var c refusal
	if err := json.Unmarshal(releasetest.Read(t, filepath.Dir(path), "case.json"), &c, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func writeRefusal(t *testing.T, path string, c refusal) {
	t.Helper()
	data, err := json.Marshal(&c, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, filepath.Dir(path), "case.json", append(data, '\n'))
}

// refusalKeyPair returns a key of testdata/release/keys, which it makes if need
// be.
func refusalKeyPair(t *testing.T, name string) *trust.PrivateKey {
	t.Helper()
	dir := filepath.Join(refusals, "keys")
	path := filepath.Join(dir, name+".TEST-ONLY.key")
	if _, err := os.Stat(path); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		releasetest.File(t, dir, name+".TEST-ONLY.key", pkcs8(t, rawKey(t, "ecdsa")))
	}
	k, err := trust.ParsePrivateKey(releasetest.Read(t, dir, name+".TEST-ONLY.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, dir, name+".pub", pub)
	return k
}

// writeRefusals writes the releases of testdata/release. What is tampered with
// is so before or after the signature, as each case says.
func writeRefusals(t *testing.T) {
	key, other := refusalKeyPair(t, "release"), refusalKeyPair(t, "other")
	old, err := filepath.Glob(filepath.Join(refusals, "*", "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range old {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
	}
	const tag, configuration = releasetest.Tag, releasetest.Configuration
	manifest, listing := release.ManifestName(configuration), release.ListingName(configuration)
	created := releasetest.Created
	for _, c := range []struct {
		name, about string
		spec        releasetest.Spec
		before      func(dir string) // changes the release before SHA256SUMS.txt is made and signed
		signed      func(dir string) // changes SHA256SUMS.txt before it is signed
		after       func(dir string) // changes the release after it was signed
		edit        func(*refusal)
	}{
		{name: "accepted", about: "nothing is wrong with it: the case that the others differ from"},
		{name: "unsigned", about: "no bundle", after: func(dir string) { remove(t, dir, release.BundleName) }},
		{name: "wrong-key", about: "signed with a key that the policy does not name", after: func(dir string) { resign(t, dir, other) }},
		{name: "wrong-key-right-hint", about: "signed with another key under the name of the right one", after: func(dir string) {
			resign(t, dir, other)
			edit(t, dir, release.BundleName, other.ID(), key.ID())
		}},
		{name: "key-over", about: "signed with a key past its window", edit: func(c *refusal) { c.Keys[0].NotAfter = created.AddDate(0, 0, 1) }},
		{name: "key-not-yet", about: "signed with a key before its window", edit: func(c *refusal) { c.Keys[0].NotBefore = created.AddDate(0, 6, 0) }},
		{name: "threshold", about: "signed by one where the policy asks for two", edit: func(c *refusal) {
			c.Keys = append(c.Keys, refusalKey{Name: "other"})
			c.Threshold = 2
		}},
		{name: "bundle-of-another-file", about: "a good signature, over something else", after: func(dir string) {
			releasetest.File(t, dir, release.BundleName, sign(t, key, []byte("another file\n")))
		}},
		{name: "bundle-truncated", about: "a bundle that is cut short", after: func(dir string) {
			b := releasetest.Read(t, dir, release.BundleName)
			releasetest.File(t, dir, release.BundleName, b[:len(b)/2])
		}},
		{name: "bundle-empty", about: "an empty bundle", after: func(dir string) { releasetest.File(t, dir, release.BundleName, nil) }},
		{name: "bundle-media-type", about: "a bundle of an unknown media type", after: func(dir string) { edit(t, dir, release.BundleName, "bundle.v0.3+json", "bundle.v9.9+json") }},
		{name: "bundle-old-form", about: "a bundle in cosign's old form", after: func(dir string) {
			releasetest.File(t, dir, release.BundleName, []byte(`{"base64Signature":"MEUCIQ==","cert":""}`+"\n"))
		}},
		{name: "sums-tampered", about: "SHA256SUMS.txt was changed after it was signed", after: func(dir string) {
			image := releasetest.Read(t, dir, "image.iso")
			image[0] ^= 1
			releasetest.File(t, dir, "image.iso", image)
			if err := release.WriteSums(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "manifest-tampered", about: "the manifest was changed after SHA256SUMS.txt was made", after: func(dir string) { edit(t, dir, manifest, `"narSize": 120`, `"narSize": 128`) }},
		{name: "image-tampered", about: "an image was changed", after: func(dir string) {
			image := releasetest.Read(t, dir, "image.iso")
			image[100] ^= 1
			releasetest.File(t, dir, "image.iso", image)
		}},
		{name: "manifest-of-another-configuration", about: "a signed manifest under another one's name", before: func(dir string) {
			releasetest.File(t, dir, manifest, releasetest.Manifest(t, "ec-other"))
		}},
		{name: "manifest-unknown-schema", about: "a manifest of a schema that is not known", before: func(dir string) { edit(t, dir, manifest, `"schemaVersion": 1`, `"schemaVersion": 9`) }},
		{name: "info-unknown-schema", about: "a release.json of a schema that is not known", before: func(dir string) { edit(t, dir, release.InfoName, `"schemaVersion": 1`, `"schemaVersion": 9`) }},
		{name: "sums-without-info", about: "release.json is not in SHA256SUMS.txt", signed: func(dir string) { dropLine(t, dir, release.InfoName) }},
		{name: "sums-without-manifest", about: "a manifest is not in SHA256SUMS.txt", signed: func(dir string) { dropLine(t, dir, manifest) }},
		{name: "sums-without-image", about: "an image is not in SHA256SUMS.txt", signed: func(dir string) { dropLine(t, dir, "image.iso") }},
		{name: "sums-slash", about: "a line with a directory", signed: func(dir string) { edit(t, dir, release.SumsName, "  image.iso", "  sub/image.iso") }},
		{name: "sums-parent", about: "a line that leads out", signed: func(dir string) { edit(t, dir, release.SumsName, "  image.iso", "  ../image.iso") }},
		{name: "sums-absolute", about: "a line with an absolute name", signed: func(dir string) { edit(t, dir, release.SumsName, "  image.iso", "  /image.iso") }},
		{name: "sums-duplicate", about: "a name twice", signed: func(dir string) {
			s := releasetest.Read(t, dir, release.SumsName)
			line := s[bytes.LastIndexByte(s[:len(s)-1], '\n')+1:]
			releasetest.File(t, dir, release.SumsName, append(s, line...))
		}},
		{name: "sums-crlf", about: "lines that end with CR LF", signed: func(dir string) { edit(t, dir, release.SumsName, "\n", "\r\n") }},
		{name: "sums-short-hash", about: "a digest that is too short", signed: func(dir string) {
			s := releasetest.Read(t, dir, release.SumsName)
			releasetest.File(t, dir, release.SumsName, s[1:])
		}},
		{name: "sums-upper-case", about: "a digest in capital letters", signed: func(dir string) {
			s := releasetest.Read(t, dir, release.SumsName)
			releasetest.File(t, dir, release.SumsName, append(bytes.ToUpper(s[:64]), s[64:]...))
		}},
		{name: "other-tag", about: "an older release under the name of a newer one", spec: releasetest.Spec{Tag: "boot-v2026.01.31"}},
		{name: "expired", about: "past its bestBefore", edit: func(c *refusal) { c.Now = created.AddDate(0, 0, 91) }},
		{name: "rolled-back", about: "older than one that was accepted before", edit: func(c *refusal) {
			c.Accepted = []release.Accepted{{Tag: "boot-v2026.03.05", CreatedAt: created.AddDate(0, 0, 5), Sums: strings.Repeat("0", 64)}}
		}},
		{name: "replaced", about: "other contents than were accepted under the same tag", edit: func(c *refusal) {
			c.Accepted = []release.Accepted{{Tag: tag, CreatedAt: created, Sums: strings.Repeat("0", 64)}}
		}},
		{name: "too-large", about: "a release.json of 300,000 bytes", before: func(dir string) {
			releasetest.File(t, dir, release.InfoName, bytes.Repeat([]byte{' '}, 300_000))
		}},
		{name: "listing-gzip-bomb", about: "a listing that is gzip, of 64 MiB of nothing", before: func(dir string) {
			releasetest.File(t, dir, listing, gzipOf(t, 64<<20))
		}},
		{name: "listing-zstd-bomb", about: "a listing whose second line has 2 GiB", before: func(dir string) {
			releasetest.File(t, dir, listing, zstdBomb(t, configuration, 2<<30))
		}},
		{name: "listing-truncated", about: "a listing that is cut short", before: func(dir string) {
			l := releasetest.Listing(t, configuration)
			releasetest.File(t, dir, listing, l[:len(l)-9])
		}},
		{name: "listing-of-another-configuration", about: "a signed listing under another one's name", before: func(dir string) {
			releasetest.File(t, dir, listing, releasetest.Listing(t, "ec-other"))
		}},
	} {
		dir := filepath.Join(refusals, c.name, string(tag))
		releasetest.Write(t, dir, c.spec)
		if c.before != nil {
			c.before(dir)
			if err := release.WriteSums(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}
		if c.signed != nil {
			c.signed(dir)
		}
		resign(t, dir, key)
		if c.after != nil {
			c.after(dir)
		}
		r := refusal{About: c.about, Tag: tag, Now: releasetest.Now, Keys: []refusalKey{{Name: "release"}}}
		if c.edit != nil {
			c.edit(&r)
		}
		writeRefusal(t, filepath.Join(refusals, c.name, "case.json"), r)
	}
}

func resign(t *testing.T, dir string, k *trust.PrivateKey) {
	t.Helper()
	releasetest.File(t, dir, release.BundleName, sign(t, k, releasetest.Read(t, dir, release.SumsName)))
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, name, old, replacement string) {
	t.Helper()
	before := releasetest.Read(t, dir, name)
	after := bytes.ReplaceAll(before, []byte(old), []byte(replacement))
	if bytes.Equal(before, after) {
		t.Fatalf("%s has no %q", name, old)
	}
	releasetest.File(t, dir, name, after)
}

func dropLine(t *testing.T, dir, name string) {
	t.Helper()
	s := string(releasetest.Read(t, dir, release.SumsName))
	line := regexp.MustCompile(`(?m)^[0-9a-f]{64}  ` + regexp.QuoteMeta(name) + "\n")
	if !line.MatchString(s) {
		t.Fatalf("no line for %s", name)
	}
	releasetest.File(t, dir, release.SumsName, []byte(line.ReplaceAllString(s, "")))
}

func gzipOf(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zstdBomb returns a listing with a valid beginning, followed by n blanks.
func zstdBomb(t *testing.T, configuration string, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	begin := `{"schemaVersion":1,"kind":"ec-closure-files","configuration":"` + configuration + `"}` + "\n" +
		`{"path":"` + string(releasetest.Path("a", "nixos-system")) + `"`
	if _, err := w.Write([]byte(begin)); err != nil {
		t.Fatal(err)
	}
	blanks := bytes.Repeat([]byte{' '}, 1<<20)
	for range n / len(blanks) {
		if _, err := w.Write(blanks); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
