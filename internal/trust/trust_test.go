package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

var sums = []byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  release.json\n")

// newKey returns a fresh key of kind "ecdsa" or "ed25519".
func newKey(t testing.TB, kind string) *trust.PrivateKey {
	t.Helper()
	k, err := trust.ParsePrivateKey(pkcs8(t, rawKey(t, kind)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rawKey(t testing.TB, kind string) any {
	t.Helper()
	var key any
	var err error
	switch kind {
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func named(t testing.TB, name string, k *trust.PrivateKey) trust.Key {
	t.Helper()
	pub, err := k.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	return trust.Key{Name: name, PEM: string(pub)}
}

func newVerifier(t testing.TB, p trust.Policy) release.Verifier {
	t.Helper()
	return newVerifierAt(t, p, time.Now)
}

func newVerifierAt(t testing.TB, p trust.Policy, now func() time.Time) release.Verifier {
	t.Helper()
	v, err := trust.NewAt(p, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, k *trust.PrivateKey, data []byte) []byte {
	t.Helper()
	b, err := trust.Sign(t.Context(), k, data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantReason(t *testing.T, err error, want release.Reason) {
	t.Helper()
	var untrusted *release.UntrustedError
	if !errors.As(err, &untrusted) {
		t.Errorf("error %v, want an UntrustedError (%s)", err, want)
		return
	}
	if untrusted.Reason != want {
		t.Errorf("reason %s, want %s (%v)", untrusted.Reason, want, err)
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
		t.Errorf("the message has control characters: %q", err)
	}
}

func TestSignAndVerify(t *testing.T) {
	for _, kind := range []string{"ecdsa", "ed25519"} {
		k := newKey(t, kind)
		v := newVerifier(t, trust.Policy{Keys: []trust.Key{named(t, "other", newKey(t, "ecdsa")), named(t, "release", k)}})
		b := sign(t, k, sums)
		got, err := v.Verify(t.Context(), sums, b)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got.Kind != release.SignedByKey || got.Name != "release" || got.KeyID != k.ID() {
			t.Errorf("%s: signer %+v", kind, got)
		}
		_, err = v.Verify(t.Context(), append([]byte{'x'}, sums...), b)
		wantReason(t, err, release.ReasonOtherContent)
		_, err = v.Verify(t.Context(), sums, nil)
		wantReason(t, err, release.ReasonUnsigned)
		_, err = v.Verify(t.Context(), sums, sign(t, newKey(t, kind), sums))
		wantReason(t, err, release.ReasonWrongKey)
		// The same key's hint over another key's signature.
		other := newKey(t, kind)
		forged := bytes.Replace(sign(t, other, sums), []byte(other.ID()), []byte(k.ID()), 1)
		_, err = v.Verify(t.Context(), sums, forged)
		wantReason(t, err, release.ReasonBadSignature)
		// No hint: every key is tried.
		for signer, want := range map[*trust.PrivateKey]release.Reason{k: "", other: release.ReasonWrongKey} {
			bare := bytes.Replace(sign(t, signer, sums), []byte(`"hint":"`+signer.ID()+`"`), nil, 1)
			_, err = v.Verify(t.Context(), sums, bare)
			if want != "" {
				wantReason(t, err, want)
			} else if err != nil {
				t.Errorf("%s without a hint: %v", kind, err)
			}
		}
	}
}

func TestBundleRefusals(t *testing.T) {
	k := newKey(t, "ecdsa")
	v := newVerifier(t, trust.Policy{Keys: []trust.Key{named(t, "release", k)}})
	good := string(sign(t, k, sums))
	for _, c := range []struct {
		name, bundle string
		want         release.Reason
	}{
		{"empty", "", release.ReasonMalformedBundle},
		{"blank", " \n", release.ReasonMalformedBundle},
		{"truncated", good[:len(good)/2], release.ReasonMalformedBundle},
		{"trailing garbage", good + "x", release.ReasonMalformedBundle},
		{"trailing array", good + "[]", release.ReasonMalformedBundle},
		{"array", "[" + good + "]", release.ReasonMalformedBundle},
		{"empty object", "{}", release.ReasonUnsupportedBundle},
		{"media type", strings.Replace(good, "bundle.v0.3+json", "bundle.v9.9+json", 1), release.ReasonUnsupportedBundle},
		{"other media type", strings.Replace(good, "application/vnd.dev.sigstore.bundle.v0.3+json", "text/\u001b[31m", 1), release.ReasonMalformedBundle},
		{"foreign media type", strings.Replace(good, "application/vnd.dev.sigstore.bundle.v0.3+json", "text/plain", 1), release.ReasonUnsupportedBundle},
		{"media type a number", strings.Replace(good, `"application/vnd.dev.sigstore.bundle.v0.3+json"`, "1", 1), release.ReasonMalformedBundle},
		{"legacy", `{"base64Signature":"eA==","cert":""}`, release.ReasonUnsupportedBundle},
		{"doubled member", strings.Replace(good, `{"mediaType"`, `{"mediaType":"x","mediaType"`, 1), release.ReasonMalformedBundle},
		{"unknown member", strings.Replace(good, `{"mediaType"`, `{"evil":1,"mediaType"`, 1), release.ReasonMalformedBundle},
		{"no digest", strings.Replace(good, "messageDigest", "x", 1), release.ReasonMalformedBundle},
		{"other digest algorithm", strings.Replace(good, "SHA2_256", "SHA2_512", 1), release.ReasonUnsupportedBundle},
		{"many", strings.Repeat(good, 17), release.ReasonMalformedBundle},
		{"large", strings.Repeat(" ", release.MaxBundleSize+1), release.ReasonTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), sums, []byte(c.bundle))
			wantReason(t, err, c.want)
		})
	}
}

func TestKeyWindow(t *testing.T) {
	old, young := newKey(t, "ecdsa"), newKey(t, "ecdsa")
	change := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	o, y := named(t, "2025", old), named(t, "2026", young)
	o.NotAfter = change.AddDate(0, 1, 0)
	y.NotBefore = change
	p := trust.Policy{Keys: []trust.Key{o, y}}
	byOld, byYoung := sign(t, old, sums), sign(t, young, sums)
	for _, c := range []struct {
		name   string
		now    time.Time
		bundle []byte
		want   release.Reason
	}{
		{"old before the change", change.AddDate(0, 0, -1), byOld, ""},
		{"new before the change", change.AddDate(0, 0, -1), byYoung, release.ReasonKeyWindow},
		{"old while both are valid", change.AddDate(0, 0, 1), byOld, ""},
		{"new while both are valid", change.AddDate(0, 0, 1), byYoung, ""},
		{"old at its end", o.NotAfter, byOld, ""},
		{"old after its end", o.NotAfter.Add(time.Second), byOld, release.ReasonKeyWindow},
		{"new after the old one's end", o.NotAfter.Add(time.Second), byYoung, ""},
		{"both signed, one is over", o.NotAfter.Add(time.Second), append(bytes.Clone(byOld), byYoung...), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVerifierAt(t, p, func() time.Time { return c.now })
			_, err := v.Verify(t.Context(), sums, c.bundle)
			if c.want != "" {
				wantReason(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	// Years past the end of every key, it is the clock.
	y.NotAfter = change.AddDate(1, 0, 0)
	for years, wantClock := range map[int]bool{1: false, 4: true} {
		v := newVerifierAt(t, trust.Policy{Keys: []trust.Key{o, y}}, func() time.Time { return y.NotAfter.AddDate(years, 0, 0) })
		_, err := v.Verify(t.Context(), sums, byYoung)
		var clock *release.ClockError
		if got := errors.As(err, &clock); got != wantClock {
			t.Errorf("%d years past: %v", years, err)
		}
	}
}

func TestThreshold(t *testing.T) {
	a, b, c, stranger := newKey(t, "ecdsa"), newKey(t, "ed25519"), newKey(t, "ecdsa"), newKey(t, "ecdsa")
	v := newVerifier(t, trust.Policy{Threshold: 2, Keys: []trust.Key{named(t, "a", a), named(t, "b", b), named(t, "c", c)}})
	join := func(keys ...*trust.PrivateKey) []byte {
		var out []byte
		for _, k := range keys {
			out = append(out, sign(t, k, sums)...)
		}
		return out
	}
	got, err := v.Verify(t.Context(), sums, join(a, stranger, b))
	if err != nil || got.Name != "a" || len(got.CoSigners) != 1 || got.CoSigners[0].Name != "b" {
		t.Errorf("two of three: %v, %v", got, err)
	}
	for name, keys := range map[string][]*trust.PrivateKey{"one": {a}, "one twice": {a, a}, "one and a stranger": {a, stranger}} {
		_, err := v.Verify(t.Context(), sums, join(keys...))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantReason(t, err, release.ReasonThreshold)
	}
	_, err = v.Verify(t.Context(), sums, join(stranger))
	wantReason(t, err, release.ReasonWrongKey)
}

// TestUntil: a release is believed until the key ends without which there are too few.
func TestUntil(t *testing.T) {
	keys := []*trust.PrivateKey{newKey(t, "ecdsa"), newKey(t, "ecdsa"), newKey(t, "ecdsa")}
	now := time.Now()
	ends := []time.Time{now.Add(time.Hour), now.Add(2 * time.Hour), {}}
	var policy trust.Policy
	var bundle []byte
	for i, k := range keys {
		key := named(t, string(rune('a'+i)), k)
		key.NotAfter = ends[i]
		policy.Keys, bundle = append(policy.Keys, key), append(bundle, sign(t, k, sums)...)
	}
	for threshold, want := range map[int]time.Time{1: {}, 2: ends[1], 3: ends[0]} {
		policy.Threshold = threshold
		got, err := newVerifier(t, policy).Verify(t.Context(), sums, bundle)
		if err != nil || !got.Until.Equal(want) {
			t.Errorf("threshold %d: until %s, want %s (%v)", threshold, got.Until, want, err)
		}
	}
}

func TestAddBundle(t *testing.T) {
	a, b := newKey(t, "ecdsa"), newKey(t, "ecdsa")
	v := newVerifier(t, trust.Policy{Threshold: 2, Keys: []trust.Key{named(t, "a", a), named(t, "b", b)}})
	both, err := trust.AddBundle(sign(t, a, sums), sign(t, b, sums), sums)
	if err != nil {
		t.Fatal(err)
	}
	again, err := trust.AddBundle(both, sign(t, a, sums), sums)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{both, again} {
		if n := bytes.Count(data, []byte{'\n'}); n != 2 {
			t.Errorf("%d lines, want 2", n)
		}
		if _, err := v.Verify(t.Context(), sums, data); err != nil {
			t.Error(err)
		}
	}
	_, err = trust.AddBundle(sign(t, a, []byte("other")), sign(t, b, sums), sums)
	wantReason(t, err, release.ReasonOtherContent)
}

func TestPolicyValidate(t *testing.T) {
	k := named(t, "k", newKey(t, "ecdsa"))
	id := trust.Identity{Name: "i", Identity: "https://example.org/w@refs/heads/main", Issuer: "https://example.org", TrustedRoot: "/root.json"}
	key := func(edit func(*trust.Key)) trust.Policy {
		k := k
		edit(&k)
		return trust.Policy{Keys: []trust.Key{k}}
	}
	identity := func(edit func(*trust.Identity)) trust.Policy {
		id := id
		edit(&id)
		return trust.Policy{Identities: []trust.Identity{id}}
	}
	for _, c := range []struct {
		name string
		p    trust.Policy
		want string // "" where it is fine
	}{
		{"key", key(func(*trust.Key) {}), ""},
		{"identity", identity(func(*trust.Identity) {}), ""},
		{"empty", trust.Policy{}, "no keys and no identities"},
		{"threshold", trust.Policy{Keys: []trust.Key{k}, Threshold: 2}, "want 1 to 1"},
		{"negative threshold", trust.Policy{Keys: []trust.Key{k}, Threshold: -1}, "want 1 to 1"},
		{"same name", trust.Policy{Keys: []trust.Key{k, k}}, "used twice"},
		{"too many", trust.Policy{Keys: make([]trust.Key, 17)}, "at most 16"},
		{"no name", key(func(k *trust.Key) { k.Name = "" }), "name"},
		{"name with control characters", key(func(k *trust.Key) { k.Name = "a\x1b" }), "name"},
		{"neither file nor pem", key(func(k *trust.Key) { k.PEM = "" }), "exactly one"},
		{"file and pem", key(func(k *trust.Key) { k.File = "/k" }), "exactly one"},
		{"relative file", key(func(k *trust.Key) { k.PEM, k.File = "", "k" }), "absolute"},
		{"window", key(func(k *trust.Key) { k.NotBefore = time.Unix(2, 0); k.NotAfter = time.Unix(1, 0) }), "notAfter"},
		{"no issuer", identity(func(i *trust.Identity) { i.Issuer = "" }), "no issuer"},
		{"no identity", identity(func(i *trust.Identity) { i.Identity = "" }), "exactly one"},
		{"identity and pattern", identity(func(i *trust.Identity) { i.IdentityPattern = "x" }), "exactly one"},
		{"bad pattern", identity(func(i *trust.Identity) { i.Identity, i.IdentityPattern = "", "(" }), "identityPattern"},
		{"no root", identity(func(i *trust.Identity) { i.TrustedRoot = "" }), "absolute"},
	} {
		err := c.p.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	k := named(t, "a", newKey(t, "ecdsa"))
	same := k
	same.Name = "b"
	for name, p := range map[string]trust.Policy{
		"one key under two names": {Keys: []trust.Key{k, same}},
		"no PEM":                  {Keys: []trust.Key{{Name: "a", PEM: "x"}}},
		"no such file":            {Keys: []trust.Key{{Name: "a", File: filepath.Join(t.TempDir(), "none")}}},
		"P-384":                   {Keys: []trust.Key{{Name: "a", PEM: publicPEM(t, "p384")}}},
		"RSA":                     {Keys: []trust.Key{{Name: "a", PEM: publicPEM(t, "rsa")}}},
	} {
		if _, err := trust.New(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func publicPEM(t *testing.T, kind string) string {
	t.Helper()
	var pub any
	switch key := rawKey(t, kind).(type) {
	case *ecdsa.PrivateKey:
		pub = key.Public()
	case *rsa.PrivateKey:
		pub = key.Public()
	}
	data, err := cryptoutils.MarshalPublicKeyToPEM(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestParsePrivateKey(t *testing.T) {
	password := func(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }
	encrypted, _, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), func(bool) ([]byte, error) { return []byte("right"), nil })
	if err != nil {
		t.Fatal(err)
	}
	unprotected, _, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), func(bool) ([]byte, error) { return []byte{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(rawKey(t, "ecdsa").(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		pem      []byte
		password func() ([]byte, error)
		want     string
	}{
		{"PKCS #8", pkcs8(t, rawKey(t, "ecdsa")), nil, ""},
		{"Ed25519", pkcs8(t, rawKey(t, "ed25519")), nil, ""},
		{"SEC 1", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec}), nil, ""},
		{"cosign's", encrypted, password("right"), ""},
		{"cosign's with an empty password", unprotected, password(""), ""},
		{"wrong password", encrypted, password("wrong"), "missing or wrong password"},
		{"no password", encrypted, nil, "missing or wrong password"},
		{"nil password", encrypted, func() ([]byte, error) { return nil, nil }, "missing or wrong password"},
		{"P-384", pkcs8(t, rawKey(t, "p384")), nil, "want P-256"},
		{"RSA", pkcs8(t, rawKey(t, "rsa")), nil, "want ECDSA P-256 or Ed25519"},
		{"nothing", nil, nil, "PEM"},
		{"a public key", []byte(publicPEM(t, "p384")), nil, "want a key in PEM"},
	} {
		k, err := trust.ParsePrivateKey(c.pem, c.password)
		if c.want == "" {
			if err != nil || k.ID() == "" {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// TestSeveralBlocks is of files with more than one key: to read the first only
// would leave out a signer that somebody put there on purpose.
func TestSeveralBlocks(t *testing.T) {
	a, b := newKey(t, "ecdsa"), newKey(t, "ed25519")
	one, two := named(t, "a", a).PEM, named(t, "b", b).PEM
	private := string(pkcs8(t, rawKey(t, "ecdsa")))
	for _, c := range []struct {
		name, pem string
		want      []string
	}{
		{"two keys", one + two, []string{a.ID(), b.ID()}},
		{"one key twice", one + one, []string{a.ID()}},
		{"text between them", "# ours\n" + one + "# theirs\n" + two, []string{a.ID(), b.ID()}},
		{"a key and a private key", one + private, []string{a.ID(), "PRIVATE KEY"}},
		{"one that is cut short", one + two[:len(two)-20], []string{a.ID(), "1 that cannot be read"}},
		{"many", strings.Repeat(one, 40), []string{"and 24 more"}},
	} {
		_, err := trust.New(trust.Policy{Keys: []trust.Key{{Name: "release", PEM: c.pem}}})
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want an error that names %s", c.name, err, want)
			}
		}
	}
	if _, err := trust.New(trust.Policy{Keys: []trust.Key{{Name: "release", PEM: "# ours\n" + one + "# no more\n"}}}); err != nil {
		t.Errorf("one key with text about it: %v", err)
	}
	if _, err := trust.ParsePrivateKey([]byte(private+private), nil); err == nil || !strings.Contains(err.Error(), `"PRIVATE KEY", "PRIVATE KEY"`) {
		t.Errorf("two private keys: %v", err)
	}
}

func TestUnsafeUnsigned(t *testing.T) {
	s, err := trust.UnsafeUnsigned().Verify(t.Context(), sums, nil)
	if err != nil || s.Kind != release.Unsigned || !strings.Contains(s.String(), "nobody") {
		t.Errorf("%v, %v", s, err)
	}
}

func FuzzBundle(f *testing.F) {
	k := newKey(f, "ecdsa")
	good := sign(f, k, sums)
	v := newVerifier(f, trust.Policy{Keys: []trust.Key{named(f, "release", k)}})
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":{"rawBytes":"MAA="}},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"AA=="},"signature":"AA=="}}`))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		_, err := v.Verify(t.Context(), sums, bundle)
		var untrusted *release.UntrustedError
		if err != nil && !errors.As(err, &untrusted) {
			t.Errorf("%T: %v", err, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
			t.Errorf("the message has control characters: %q", err)
		}
		if err == nil && !bytes.Contains(bundle, []byte(k.ID())) && !bytes.Contains(bundle, []byte("signature")) {
			t.Errorf("accepted without a signature: %q", bundle)
		}
	})
}
