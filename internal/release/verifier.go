package release

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Verifier decides whether to believe a release by the signature over its
// SHA256SUMS.txt. Package trust implements it over a policy.
type Verifier interface {
	// Verify returns who signed sums, or why that is not good enough: an
	// *[UntrustedError] ([Untrusted]) or a *[ClockError]. bundle is the contents
	// of SHA256SUMS.txt.sigstore.json, nil where the release has none. Both are
	// an outsider's bytes.
	Verify(ctx context.Context, sums, bundle []byte) (Signer, error)
}

// SignerKind says what vouches for a release.
type SignerKind string

// The kinds of signer.
const (
	SignedByKey      SignerKind = "key"
	SignedByIdentity SignerKind = "identity"
	// Unsigned is a release that was taken without a look at any signature.
	Unsigned SignerKind = "unsigned"
)

// Signer says who signed a release. The zero value is nobody.
type Signer struct {
	Kind SignerKind `json:"kind"`
	// Name is what the policy calls the key or identity.
	Name string `json:"name,omitempty"`
	// KeyID is the SHA-256 of the key in SubjectPublicKeyInfo form, in base64,
	// as cosign writes it into a bundle's hint.
	KeyID string `json:"keyId,omitempty"`
	// Identity is the subject of the certificate, and Issuer who vouched for
	// that identity.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	// Until is when the policy ceases to believe this signature, together with those of
	// CoSigners; zero where it does not.
	Until time.Time `json:"until,omitzero"`
	// CoSigners are the further signers of a policy that asks for several.
	CoSigners []Signer `json:"coSigners,omitempty"`
}

// String returns s in one line. What comes from a certificate is quoted.
func (s Signer) String() string {
	var b strings.Builder
	switch s.Kind {
	case SignedByKey:
		fmt.Fprintf(&b, "key %q (%s)", s.Name, s.KeyID)
	case SignedByIdentity:
		fmt.Fprintf(&b, "identity %q (issuer %q)", s.Identity, s.Issuer)
	case Unsigned:
		b.WriteString("nobody: the signature was not looked at")
	default:
		b.WriteString("nobody")
	}
	for _, c := range s.CoSigners {
		b.WriteString(" and ")
		b.WriteString(c.String())
	}
	return b.String()
}
