package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// A release's bundle file is one sigstore bundle, as cosign and [Sign] write it. If a
// policy requires several signers, it contains several bundles, each on its own line
// (JSON Lines); cosign accepts each line as a bundle.

// splitBundles returns the raw bundles in data.
func splitBundles(data []byte) ([]jsontext.Value, error) {
	if len(data) > release.MaxBundleSize {
		return nil, release.Untrusted(release.ReasonTooLarge, "%s has %d bytes, at most %d are allowed", release.BundleName, len(data), release.MaxBundleSize)
	}
	// The decoder refuses duplicate members: two readers might each use a different
	// one.
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	var parts []jsontext.Value
	for {
		part, err := dec.ReadValue()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed("it is not JSON, or truncated")
		}
		if part.Kind() != '{' {
			return nil, malformed("it is no JSON object")
		}
		if len(parts) == maxSigners {
			return nil, malformed("it has more than %d bundles", maxSigners)
		}
		parts = append(parts, part.Clone())
	}
	if len(parts) == 0 {
		return nil, malformed("it is empty")
	}
	return parts, nil
}

func malformed(format string, args ...any) error {
	return release.Untrusted(release.ReasonMalformedBundle, "%s: "+format, append([]any{release.BundleName}, args...)...)
}

func unsupported(format string, args ...any) error {
	return release.Untrusted(release.ReasonUnsupportedBundle, "%s: "+format, append([]any{release.BundleName}, args...)...)
}

// parsedBundle is a well-formed bundle; nothing in it is verified.
type parsedBundle struct{ *bundle.Bundle }

// parseBundle parses a bundle with a signature over a file.
func parseBundle(data []byte) (*parsedBundle, error) {
	b, err := readBundle(data)
	if err != nil {
		return nil, err
	}
	if b.GetMessageSignature() == nil {
		return nil, unsupported("it is an attestation, not a signature over %s", release.SumsName)
	}
	return b, nil
}

// readBundle parses a bundle of versions 0.1 to 0.3. Before 0.3 the certificate is
// the first of a chain; of the others only their not being roots is checked, because
// trust comes from the trusted root alone.
func readBundle(data []byte) (*parsedBundle, error) {
	// The media type determines the allowed members, so it is read first; an
	// unsupported one is named in the error.
	var head struct {
		MediaType string         `json:"mediaType"`
		Legacy    jsontext.Value `json:"base64Signature"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, malformed("its mediaType is not text")
	}
	if head.MediaType == "" && head.Legacy != nil {
		return nil, unsupported("it is in cosign's old form; sign with a cosign that writes the bundle format (version 3, or version 2 with --new-bundle-format)")
	}
	b := &parsedBundle{new(bundle.Bundle)}
	err := b.UnmarshalJSON(data)
	if errors.Is(err, bundle.ErrUnsupportedMediaType) {
		return nil, unsupported("unknown media type %q; bundles of the versions 0.1, 0.2 and 0.3 are read", clip(head.MediaType))
	}
	// Errors in the parts are clearer than the errors that follow from them.
	if err := b.checkParts(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, malformed("%q", clip(err.Error()))
	}
	if b.VerificationMaterial.GetPublicKey() == nil && !b.hasCertificate() {
		return nil, unsupported("it names neither a public key nor a certificate")
	}
	return b, nil
}

// checkParts returns an error for a bad certificate or log entry in b, as far as b
// could be parsed.
func (b *parsedBundle) checkParts() error {
	if chain := b.VerificationMaterial.GetX509CertificateChain(); chain != nil && len(chain.GetCertificates()) == 0 {
		return malformed("its certificate chain is empty")
	}
	for _, raw := range b.chain() {
		c, err := x509.ParseCertificate(raw.GetRawBytes())
		if err != nil {
			return malformed("a certificate of its chain is malformed")
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			return malformed("its certificate chain contains a root certificate; roots are taken from the policy alone")
		}
	}
	for _, entry := range b.VerificationMaterial.GetTlogEntries() {
		if entry.GetLogIndex() < 0 {
			return malformed("a log entry has the index %d", entry.GetLogIndex())
		}
	}
	return nil
}

func (b *parsedBundle) chain() []*protocommon.X509Certificate {
	return b.VerificationMaterial.GetX509CertificateChain().GetCertificates()
}

// over returns an error if b claims another digest than digest. The signature check
// would fail too, but could not tell other bytes from a bad signature.
func (b *parsedBundle) over(digest [32]byte) error {
	md := b.GetMessageSignature().GetMessageDigest()
	if md == nil {
		return malformed("it has no messageDigest")
	}
	if md.GetAlgorithm() != protocommon.HashAlgorithm_SHA2_256 {
		return unsupported("its digest is %s, not SHA2_256", md.GetAlgorithm())
	}
	if !bytes.Equal(md.GetDigest(), digest[:]) {
		return release.Untrusted(release.ReasonOtherContent, "the signature is over a file with SHA-256 %s, but %s has %x: it was changed, or the bundle belongs to another file",
			clip(hex.EncodeToString(md.GetDigest())), release.SumsName, digest)
	}
	return nil
}

func (b *parsedBundle) hasCertificate() bool {
	return b.VerificationMaterial.GetCertificate() != nil || b.VerificationMaterial.GetX509CertificateChain() != nil
}

// certificate returns the certificate that b was signed with, nil for none.
func (b *parsedBundle) certificate() []byte {
	if chain := b.chain(); len(chain) > 0 {
		return chain[0].GetRawBytes()
	}
	return b.VerificationMaterial.GetCertificate().GetRawBytes()
}

// hint returns the key that b claims to be signed with.
func (b *parsedBundle) hint() string { return b.VerificationMaterial.GetPublicKey().GetHint() }

// clip limits the length of untrusted text on a terminal.
func clip(s string) string { return excerpt.Of(s, 200) }
