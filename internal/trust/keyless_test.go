package trust_test

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

const (
	subject = "releases@example.org"
	issuer  = "https://issuer.example.org"
)

func virtualSigstore(t testing.TB) *ca.VirtualSigstore {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// trustedRoot writes the trusted root of v to a file. Its certificate transparency log is
// left out, since the certificates of v have no proof of one.
func trustedRoot(t testing.TB, v *ca.VirtualSigstore, withLog bool) string {
	t.Helper()
	logs := make(map[string]*root.TransparencyLog)
	if withLog {
		for id, log := range v.RekorLogs() {
			raw, err := hex.DecodeString(id)
			if err != nil {
				t.Fatal(err)
			}
			log.ID = raw // which v keeps in hexadecimal
			logs[id] = log
		}
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, v.FulcioCertificateAuthorities(), nil, v.TimestampingAuthorities(), logs)
	if err != nil {
		t.Fatal(err)
	}
	data, err := r.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyless returns a bundle in which subject signs data, logged at the time
// given; with stamp, a time stamp authority vouches for the present time too.
func keyless(t testing.TB, v *ca.VirtualSigstore, data []byte, logged time.Time, stamp bool) []byte {
	t.Helper()
	entity, err := v.SignAtTime(subject, issuer, data, logged)
	if err != nil {
		t.Fatal(err)
	}
	content, err := entity.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	key, err := entity.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	m := content.MessageSignatureContent()
	b := &protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: key.Certificate().Raw}},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: m.Digest()},
			Signature:     content.Signature(),
		}},
	}
	if !logged.IsZero() {
		b.VerificationMaterial.TlogEntries = []*protorekor.TransparencyLogEntry{logEntry(t, v, entity)}
	}
	if stamp {
		stamps, err := entity.Timestamps()
		if err != nil {
			t.Fatal(err)
		}
		b.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
		}
	}
	wrapped, err := bundle.NewBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := wrapped.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// chained turns data into a bundle of a version before 0.3: its certificate is
// the first of a chain, before the roots of authorities, or is left out.
func chained(t testing.TB, data []byte, version string, rootsOnly bool, authorities ...root.CertificateAuthority) []byte {
	t.Helper()
	return edited(t, data, func(b *bundle.Bundle) {
		chain := new(protocommon.X509CertificateChain)
		if !rootsOnly {
			chain.Certificates = append(chain.Certificates, b.VerificationMaterial.GetCertificate())
		}
		for _, a := range authorities {
			chain.Certificates = append(chain.Certificates, &protocommon.X509Certificate{RawBytes: a.(*root.FulcioCertificateAuthority).Root.Raw})
		}
		b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=" + version
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: chain}
	})
}

// resigned puts the signature of another bundle into data.
func resigned(t testing.TB, data, other []byte) []byte {
	t.Helper()
	var o bundle.Bundle
	if err := o.UnmarshalJSON(other); err != nil {
		t.Fatal(err)
	}
	return edited(t, data, func(b *bundle.Bundle) {
		b.GetMessageSignature().Signature = o.GetMessageSignature().GetSignature()
	})
}

func edited(t testing.TB, data []byte, edit func(*bundle.Bundle)) []byte {
	t.Helper()
	var b bundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	edit(&b)
	out, err := b.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// logEntry completes the log entry of entity, which lacks what only the
// bundle's JSON needs.
func logEntry(t testing.TB, v *ca.VirtualSigstore, entity *ca.TestEntity) *protorekor.TransparencyLogEntry {
	t.Helper()
	entries, err := entity.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	e := entries[0].TransparencyLogEntry()
	e.KindVersion = &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.1"}
	set, err := v.RekorSignPayload(tlog.RekorPayload{
		Body:           base64.StdEncoding.EncodeToString(e.CanonicalizedBody),
		IntegratedTime: e.IntegratedTime, LogIndex: e.LogIndex, LogID: hex.EncodeToString(e.LogId.KeyId),
	})
	if err != nil {
		t.Fatal(err)
	}
	e.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: set}
	proof, err := v.GetInclusionProof(e.CanonicalizedBody)
	if err != nil {
		t.Fatal(err)
	}
	rootHash, err := hex.DecodeString(*proof.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	e.InclusionProof = &protorekor.InclusionProof{
		LogIndex: *proof.LogIndex, TreeSize: *proof.TreeSize, RootHash: rootHash,
		Checkpoint: &protorekor.Checkpoint{Envelope: *proof.Checkpoint},
	}
	return e
}

func TestKeyless(t *testing.T) {
	v := virtualSigstore(t)
	withLog, stampsOnly, otherRoot := trustedRoot(t, v, true), trustedRoot(t, v, false), trustedRoot(t, virtualSigstore(t), true)
	soon, late, never := time.Now().Add(5*time.Minute), time.Now().Add(24*time.Hour), time.Time{}
	good := trust.Identity{Name: "ci", Identity: subject, Issuer: issuer, TrustedRoot: withLog}
	with := func(edit func(*trust.Identity)) trust.Identity {
		i := good
		edit(&i)
		return i
	}
	for _, c := range []struct {
		name     string
		identity trust.Identity
		bundle   []byte
		want     release.Reason
	}{
		{"logged", good, keyless(t, v, sums, soon, false), ""},
		{"logged and stamped", good, keyless(t, v, sums, soon, true), ""},
		{"stamped", with(func(i *trust.Identity) { i.TrustedRoot = stampsOnly }), keyless(t, v, sums, never, true), ""},
		{"pattern", with(func(i *trust.Identity) { i.Identity, i.IdentityPattern = "", `[a-z]+@example\.org` }), keyless(t, v, sums, soon, false), ""},

		{"version 0.1", good, chained(t, keyless(t, v, sums, soon, false), "0.1", false), ""},
		{"version 0.2", good, chained(t, keyless(t, v, sums, soon, true), "0.2", false), ""},
		{"version 0.2 with a root", good, chained(t, keyless(t, v, sums, soon, true), "0.2", true, v.FulcioCertificateAuthorities()...), release.ReasonMalformedBundle},
		{"version 0.2 without a certificate", good, chained(t, keyless(t, v, sums, soon, true), "0.2", true), release.ReasonMalformedBundle},
		{"another signature", good, resigned(t, keyless(t, v, sums, soon, true), keyless(t, v, sums, soon, true)), release.ReasonBadSignature},
		{"another identity", with(func(i *trust.Identity) { i.Identity = "others@example.org" }), keyless(t, v, sums, soon, false), release.ReasonWrongIdentity},
		{"pattern of a part", with(func(i *trust.Identity) { i.Identity, i.IdentityPattern = "", `releases@example` }), keyless(t, v, sums, soon, false), release.ReasonWrongIdentity},
		{"another issuer", with(func(i *trust.Identity) { i.Issuer = "https://other.example.org" }), keyless(t, v, sums, soon, false), release.ReasonWrongIdentity},
		{"another root", with(func(i *trust.Identity) { i.TrustedRoot = otherRoot }), keyless(t, v, sums, soon, false), release.ReasonBadCertificate},
		{"another virtual sigstore", good, keyless(t, virtualSigstore(t), sums, soon, true), release.ReasonBadCertificate},
		{"logged after the certificate's end", good, keyless(t, v, sums, late, false), release.ReasonBadCertificate},
		{"stamped, but not logged", good, keyless(t, v, sums, never, true), release.ReasonBadCertificate},
		{"no time of signing", with(func(i *trust.Identity) { i.TrustedRoot = stampsOnly }), keyless(t, v, sums, never, false), release.ReasonBadCertificate},
		{"over something else", good, keyless(t, v, []byte("other"), soon, false), release.ReasonOtherContent},
		{"a key", good, sign(t, newKey(t, "ecdsa"), sums), release.ReasonWrongKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := newVerifier(t, trust.Policy{Identities: []trust.Identity{c.identity}}).Verify(t.Context(), sums, c.bundle)
			switch {
			case c.want != "":
				wantReason(t, err, c.want)
			case err != nil:
				t.Error(err)
			case got.Kind != release.SignedByIdentity || got.Name != "ci" || got.Identity != subject || got.Issuer != issuer:
				t.Errorf("signer %+v", got)
			}
		})
	}
	// With several, the refusal that comes closest is the one to hear.
	far, near := with(func(i *trust.Identity) { i.Name, i.TrustedRoot = "far", otherRoot }), with(func(i *trust.Identity) { i.Name, i.Identity = "near", "x" })
	for _, ids := range [][]trust.Identity{{far, near}, {near, far}} {
		_, err := newVerifier(t, trust.Policy{Identities: ids}).Verify(t.Context(), sums, keyless(t, v, sums, soon, false))
		wantReason(t, err, release.ReasonWrongIdentity)
	}
	// A key and an identity together make two.
	k := newKey(t, "ecdsa")
	two := newVerifier(t, trust.Policy{Threshold: 2, Keys: []trust.Key{named(t, "k", k)}, Identities: []trust.Identity{good}})
	if _, err := two.Verify(t.Context(), sums, append(keyless(t, v, sums, soon, false), sign(t, k, sums)...)); err != nil {
		t.Error(err)
	}
	_, err := two.Verify(t.Context(), sums, keyless(t, v, sums, soon, false))
	wantReason(t, err, release.ReasonThreshold)
}

func TestTrustedRootRefusals(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"empty": "", "object": "{}", "nothing in it": `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`,
	} {
		path := filepath.Join(dir, "root.json")
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := trust.New(trust.Policy{Identities: []trust.Identity{{Name: "i", Identity: "x", Issuer: "y", TrustedRoot: path}}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
