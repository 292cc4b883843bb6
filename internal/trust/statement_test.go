package trust_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/trust"
)

// aStatement is one as sigstore takes it, about nothing in particular.
var aStatement = []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"report","digest":{"sha256":"` +
	strings.Repeat("ab", 32) + `"}}],"predicateType":"https://every.channel/test","predicate":{"a":1}}`)

func keyring(t *testing.T, keys ...*trust.PrivateKey) *trust.Keyring {
	t.Helper()
	var all []trust.Key
	for i, k := range keys {
		pem, err := k.PublicPEM()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, trust.Key{Name: "node-" + string(rune('a'+i)), PEM: string(pem)})
	}
	ring, err := trust.NewKeyring(all)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func signStatement(t *testing.T, k *trust.PrivateKey, statement []byte) []byte {
	t.Helper()
	b, err := trust.SignStatement(t.Context(), k, statement)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStatement(t *testing.T) {
	for _, kind := range []string{"ecdsa", "ed25519"} {
		a, b, c := newKey(t, kind), newKey(t, kind), newKey(t, kind)
		bundle := signStatement(t, b, aStatement)
		if n := bytes.Count(bundle, []byte("\n")); n != 1 {
			t.Errorf("%s: a bundle of %d lines", kind, n)
		}
		got, err := keyring(t, a, b).Open(bundle)
		if err != nil || !bytes.Equal(got.Payload, aStatement) || got.KeyName != "node-b" || got.KeyID != b.ID() {
			t.Errorf("%s: Open = %s by %s, %v", kind, got.Payload, got.KeyName, err)
		}
		// The hint says which key to try; without it each is tried.
		blind := bytes.Replace(bundle, []byte(b.ID()), nil, 1)
		if got, err := keyring(t, a, b).Open(blind); err != nil || got.KeyName != "node-b" {
			t.Errorf("%s, without a hint: %s, %v", kind, got.KeyName, err)
		}
		for name, data := range map[string][]byte{"another key": bundle, "another key, no hint": blind} {
			if _, err := keyring(t, a, c).Open(data); err == nil || !strings.Contains(err.Error(), "signed by another key") {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

func TestStatementRefuses(t *testing.T) {
	key := newKey(t, "ecdsa")
	ring := keyring(t, key)
	good := string(signStatement(t, key, aStatement))
	payload := base64.StdEncoding.EncodeToString(aStatement)
	altered := base64.StdEncoding.EncodeToString(bytes.Replace(aStatement, []byte(`"a":1`), []byte(`"a":2`), 1))
	for name, tc := range map[string]struct{ data, want string }{
		"empty":              {"", "no JSON object"},
		"cut short":          {good[:len(good)/2], "no JSON object"},
		"a list":             {"[" + good + "]", "no JSON object"},
		"two":                {good + good, "there is data after"},
		"too large":          {good + strings.Repeat(" ", trust.MaxStatementBundle), "at most"},
		"doubled member":     {strings.Replace(good, `"mediaType"`, `"mediaType":"x","mediaType"`, 1), "no JSON object"},
		"unknown member":     {strings.Replace(good, `"mediaType"`, `"evil":1,"mediaType"`, 1), "no sigstore bundle"},
		"media type":         {strings.Replace(good, "v0.3", "v9.9", 1), "no sigstore bundle"},
		"payload":            {strings.Replace(good, payload, altered, 1), "not made with the key that it names"},
		"payload type":       {strings.Replace(good, "application/vnd.in-toto+json", "text/plain", 1), "payload is of type"},
		"no signature":       {replaceBetween(good, `"signatures":[`, `]`, ""), ""},
		"two signatures":     {strings.Replace(good, `"signatures":[`, `"signatures":[{"sig":"AAAA"},`, 1), ""},
		"another signature":  {replaceBetween(good, `"sig":"`, `"`, "AAAA"), "not made with the key that it names"},
		"the hint":           {strings.Replace(good, key.ID(), "AAAA", 1), "signed by another key"},
		"a release's bundle": {string(sign(t, key, sums)), "a bundle without a statement"},
	} {
		_, err := ring.Open([]byte(tc.data))
		var refused *trust.StatementError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	// A statement vouches for no release.
	v := newVerifier(t, trust.Policy{Keys: []trust.Key{{Name: "node", PEM: pemOf(t, key)}}})
	if _, err := v.Verify(t.Context(), sums, []byte(good)); err == nil {
		t.Error("the signature of a report is taken for that of a release")
	}
}

func pemOf(t *testing.T, k *trust.PrivateKey) string {
	t.Helper()
	pem, err := k.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem)
}

// replaceBetween replaces what stands between from and the next to.
func replaceBetween(s, from, to, with string) string {
	before, after, _ := strings.Cut(s, from)
	_, rest, _ := strings.Cut(after, to)
	return before + from + with + to + rest
}

func TestNewKeyringRefuses(t *testing.T) {
	pem := pemOf(t, newKey(t, "ecdsa"))
	for name, keys := range map[string][]trust.Key{
		"none":          nil,
		"the same key":  {{Name: "a", PEM: pem}, {Name: "b", PEM: pem}},
		"the same name": {{Name: "a", PEM: pem}, {Name: "a", PEM: pemOf(t, newKey(t, "ecdsa"))}},
		"no key":        {{Name: "a", PEM: "x"}},
		"no file":       {{Name: "a", File: "/nonexistent"}},
		"too many":      make([]trust.Key, 1025),
	} {
		if _, err := trust.NewKeyring(keys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What is signed is what sigstore would refuse to read.
func TestSignStatementRefuses(t *testing.T) {
	for _, bad := range []string{"", "x", "[]"} {
		if b, err := trust.SignStatement(t.Context(), newKey(t, "ecdsa"), []byte(bad)); err == nil {
			t.Errorf("%q is signed: %s", bad, b)
		}
	}
}

func FuzzOpenStatement(f *testing.F) {
	key := newKey(f, "ecdsa")
	b, err := trust.SignStatement(f.Context(), key, aStatement)
	if err != nil {
		f.Fatal(err)
	}
	pem, _ := key.PublicPEM()
	ring, err := trust.NewKeyring([]trust.Key{{Name: "a", PEM: string(pem)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{"payloadType":"application/vnd.in-toto+json"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := ring.Open(data); err == nil && !bytes.Equal(got.Payload, aStatement) {
			t.Errorf("a statement that nobody signed: %s", got.Payload)
		}
	})
}
