package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/vectors"
)

// refusals are the vectors that must be refused, with the reasons. A reason other than the
// one in the vector's name would hide that its check is missing.
var refusals = map[string]struct {
	reason release.Reason // "" where the policy is refused, before any bundle
	detail string
}{
	"bundle-empty-certificate-chain_fail":                       {release.ReasonMalformedBundle, "its certificate chain is empty"},
	"bundle-from-wrong-instance_fail":                           {release.ReasonBadCertificate, "not enough verified log entries from transparency log: 0 < 1"},
	"bundle-invalid-base64-signature_fail":                      {release.ReasonMalformedBundle, "invalid value for bytes field signature"},
	"bundle-malformed-json_fail":                                {release.ReasonMalformedBundle, "it is not JSON, or truncated"},
	"bundle-negative-log-index_fail":                            {release.ReasonMalformedBundle, "a log entry has the index -1"},
	"bundle-unknown-version_fail":                               {release.ReasonUnsupportedBundle, "version=99.9"},
	"bundle-with-root-cert_fail":                                {release.ReasonMalformedBundle, "its certificate chain contains a root certificate"},
	"checkpoint-bad-keyhint_fail":                               {release.ReasonBadCertificate, "signature on checkpoint did not verify"},
	"checkpoint-wrong-roothash_fail":                            {release.ReasonBadCertificate, "proof root hash does not match signed tree head"},
	"dsse-invalid-sig_fail":                                     {release.ReasonBadSignature, ""},
	"dsse-mismatch-envelope_fail":                               {release.ReasonBadCertificate, "transparency log signature does not match"},
	"dsse-mismatch-sig_fail":                                    {release.ReasonBadCertificate, "transparency log signature does not match"},
	"inclusion-proof-corrupted-hash_fail":                       {release.ReasonBadCertificate, "does not match expected root"},
	"incorrect-public-key_fail":                                 {release.ReasonMalformedBundle, "verifying signature: invalid signature"},
	"integrated-time-in-future_fail":                            {release.ReasonBadCertificate, "integrated time outside certificate validity"},
	"intoto-expired-certificate_fail":                           {release.ReasonBadCertificate, "integrated time outside certificate validity"},
	"intoto-log-entry-mismatch_fail":                            {release.ReasonMalformedBundle, "could not verify envelope"},
	"intoto-missing-inclusion-proof_fail":                       {release.ReasonMalformedBundle, "inclusion proof missing in bundle"},
	"intoto-set-outside-signing-cert-validity_fail":             {release.ReasonBadCertificate, "integrated time outside certificate validity"},
	"intoto-tsa-timestamp-outside-cert-validity_fail":           {release.ReasonBadCertificate, "leaf certificate verification failed"},
	"invalid-checkpoint-signature_fail":                         {release.ReasonBadCertificate, "signature on checkpoint did not verify"},
	"invalid-ct-key_fail":                                       {release.ReasonBadCertificate, "only able to verify 0 SCT entries"},
	"invalid-inclusion-proof_fail":                              {release.ReasonMalformedBundle, "inclusion proof missing required checkpoint"},
	"managed-key-no-key_fail":                                   {release.ReasonWrongKey, "the policy names identities only"},
	"managed-key-wrong-key_fail":                                {"", "P256 point not on curve"},
	"message-digest-mismatch_fail":                              {release.ReasonOtherContent, ""},
	"rekor2-checkpoint-missing-log-signature_fail":              {release.ReasonBadCertificate, "malformed note"},
	"rekor2-checkpoint-missing-origin_fail":                     {release.ReasonBadCertificate, "invalid signature for key log2025-alpha1"},
	"rekor2-checkpoint-missing-root-hash_fail":                  {release.ReasonBadCertificate, "invalid signature for key log2025-alpha1"},
	"rekor2-checkpoint-missing-size_fail":                       {release.ReasonBadCertificate, "invalid signature for key log2025-alpha1"},
	"rekor2-checkpoint-no-matching-signature_fail":              {release.ReasonBadCertificate, "note has no verifiable signatures"},
	"rekor2-dsse-invalid-sig_fail":                              {release.ReasonBadSignature, ""},
	"rekor2-dsse-mismatch-envelope_fail":                        {release.ReasonBadCertificate, "verifying inclusion: calculated root"},
	"rekor2-dsse-mismatch-sig_fail":                             {release.ReasonBadCertificate, "verifying inclusion: calculated root"},
	"rekor2-no-inclusion-proof_fail":                            {release.ReasonMalformedBundle, "inclusion proof missing in bundle"},
	"rekor2-no-timestamp_fail":                                  {release.ReasonBadCertificate, "threshold not met for verified signed & log entry integrated timestamps: 0 < 1"},
	"rekor2-timestamp-outside-trust-root-tsa-validity_fail":     {release.ReasonBadCertificate, "timestamp is after the validity period end"},
	"rekor2-timestamp-outside-tsa-cert-validity_fail":           {release.ReasonBadCertificate, "error parsing response into Timestamp: pkcs7"},
	"rekor2-timestamp-payload-mismatch_fail":                    {release.ReasonBadCertificate, "hashed messages don't match"},
	"rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail":    {release.ReasonBadCertificate, "certificate embedded in the TSR does not matc"},
	"rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail": {release.ReasonBadCertificate, "error while verifying signature: pkcs7: No"},
	"rekor2-timestamp-with-incorrect-time_fail":                 {release.ReasonBadCertificate, "leaf certificate verification failed"},
	"set-invalid-signature_fail":                                {release.ReasonBadCertificate, "not enough verified log entries from transparency log: 0 < 1"},
	"signature-mismatch_fail":                                   {release.ReasonBadSignature, ""},
	"trust-root-tlog-missing-validity-start_fail":               {"", "tlog missing public key validity period start time"},
	"wrong-hashedrekord-artifact_fail":                          {release.ReasonBadCertificate, "transparency log signature does not match"},
	"wrong-hashedrekord-cert-and-sig_fail":                      {release.ReasonBadCertificate, "transparency log signature does not match"},
	"wrong-hashedrekord-entry_fail":                             {release.ReasonBadCertificate, "transparency log signature does not match"},
	"wrong-material_fail":                                       {release.ReasonOtherContent, ""},
}

// masked are vectors that are refused for another defect than their own; only the key of a
// log could repair that other defect.
var masked = []string{
	"invalid-inclusion-proof_fail",   // the proof has no checkpoint either
	"intoto-log-entry-mismatch_fail", // the entry's envelope is no envelope
	"managed-key-wrong-key_fail",     // the key is none; see below
}

// unwrapped returns what err says, and what the errors within it do.
func unwrapped(err error) string {
	var text []string
	for ; err != nil; err = errors.Unwrap(err) {
		text = append(text, err.Error())
	}
	return strings.Join(text, "\n")
}

// TestVectors takes sigstore's own bundles, each under its own key or trusted
// root and identity. Statements, which are no signatures over a release, go the
// way that signatures go from where the form of the bundle is known.
func TestVectors(t *testing.T) {
	dir := vectors.Dir(t, "sigstore-bundles")
	names, err := filepath.Glob(filepath.Join(dir, "*/bundle.sigstore.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no bundles in %s: %v", dir, err)
	}
	left := maps.Clone(refusals)
	for _, name := range names {
		c := vector{t: t, dir: filepath.Dir(name)}
		name := filepath.Base(c.dir)
		want, refused := left[name]
		delete(left, name)
		if refused != strings.HasSuffix(name, "_fail") {
			t.Errorf("%s: this table has no reason for it", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			c.t = t
			err := c.verify(c.policy())
			if !refused {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var untrusted *release.UntrustedError
			if errors.As(err, &untrusted) != (want.reason != "") || untrusted != nil && untrusted.Reason != want.reason {
				t.Errorf("got %v, want it to be refused as %q", err, want.reason)
			}
			if err == nil || !strings.Contains(unwrapped(err), want.detail) {
				t.Errorf("got %v, want %q", err, want.detail)
			}
		})
	}
	for name := range left {
		t.Errorf("%s: no such vector", name)
	}
	for _, name := range masked {
		if _, ok := refusals[name]; !ok {
			t.Errorf("%s is not refused", name)
		}
	}
	t.Logf("%d of %d refusals are for another defect than the vector's own: %s", len(masked), len(refusals), strings.Join(masked, ", "))

	// The key of a vector that is none stands for any other key.
	c := vector{t: t, dir: filepath.Join(dir, "managed-key-wrong-key_fail")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	err = c.verify(Policy{Keys: []Key{{Name: "another", PEM: string(pem)}}})
	if !isReason(err, release.ReasonWrongKey) {
		t.Errorf("managed-key-wrong-key_fail with another key: %v, want %s", err, release.ReasonWrongKey)
	}
}

var signedTimestamp = regexp.MustCompile(`"signedTimestamp": "[^"]*"`)

type vector struct {
	t   *testing.T
	dir string
}

// read returns the first of these files that the vector has, nil for none.
func (c vector) read(names ...string) []byte {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(c.dir, name))
		if err == nil {
			return data
		}
		if !errors.Is(err, os.ErrNotExist) {
			c.t.Fatal(err)
		}
	}
	return nil
}

func (c vector) policy() Policy {
	if key := c.read("key.pub"); key != nil {
		return Policy{Keys: []Key{{Name: "key", PEM: string(key)}}}
	}
	text := func(name, otherwise string) string {
		if data := c.read(name); data != nil {
			return strings.TrimSpace(string(data))
		}
		return otherwise
	}
	return Policy{Identities: []Identity{{
		Name:        "identity",
		Identity:    text("identity", "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"),
		Issuer:      text("issuer", "https://token.actions.githubusercontent.com"),
		TrustedRoot: c.trustedRoot(),
	}}}
}

// trustedRoot returns the file of the vector's root, or of that of sigstore's
// public instance, which one vector has with an end to its log.
func (c vector) trustedRoot() string {
	if c.read("trusted_root.json") != nil {
		return filepath.Join(c.dir, "trusted_root.json")
	}
	var r map[string]any
	if err := json.Unmarshal(c.read("../trust-root-tlog-validity-end-inclusive/trusted_root.json"), &r); err != nil {
		c.t.Fatal(err)
	}
	for _, log := range r["tlogs"].([]any) {
		delete(log.(map[string]any)["publicKey"].(map[string]any)["validFor"].(map[string]any), "end")
	}
	data, err := json.Marshal(r)
	if err != nil {
		c.t.Fatal(err)
	}
	name := filepath.Join(c.t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return name
}

func (c vector) verify(p Policy) error {
	v, err := New(p)
	if err != nil {
		return err
	}
	artifact, bundle := c.read("artifact", "../a.txt"), c.read("bundle.sigstore.json")
	if filepath.Base(c.dir) == "rekor2-timestamp-with-incorrect-time_fail" {
		// Its time stamp is in lines, which is no base64 in JSON.
		bundle = signedTimestamp.ReplaceAllFunc(bundle, func(value []byte) []byte {
			return bytes.ReplaceAll(value, []byte(`\n`), nil)
		})
	}
	if b, err := readBundle(bundle); err == nil && b.GetMessageSignature() == nil {
		_, err := v.(*verifier).verifyIdentity(b, artifact)
		return err
	}
	_, err = v.Verify(c.t.Context(), artifact, bundle)
	return err
}
