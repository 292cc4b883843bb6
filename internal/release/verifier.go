package release

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Verifier decides whether a release is trusted, by the signature over its
// SHA256SUMS.txt. Package trust implements it for a policy.
type Verifier interface {
	// Verify returns the signer of sums, or an error if the signature does not
	// suffice: an *[UntrustedError] ([Untrusted]) or a *[ClockError]. bundle is the
	// contents of SHA256SUMS.txt.sigstore.json, nil if the release has none. Both are
	// untrusted bytes.
	Verify(ctx context.Context, sums, bundle []byte) (Signer, error)
}

// SignerKind is the kind of evidence for a release.
type SignerKind string

// The kinds of signer.
const (
	SignedByKey      SignerKind = "key"
	SignedByIdentity SignerKind = "identity"
	// Unsigned marks a release whose signature was not checked.
	Unsigned SignerKind = "unsigned"
)

// Signer is the signer of a release. The zero value is nobody.
type Signer struct {
	Kind SignerKind `json:"kind"`
	// Name is the policy's name for the key or identity.
	Name string `json:"name,omitempty"`
	// KeyID is the SHA-256 of the key in SubjectPublicKeyInfo form, in base64, as in
	// the hint of cosign's bundles.
	KeyID string `json:"keyId,omitempty"`
	// Identity is the subject of the certificate; Issuer vouched for that identity.
	Identity string `json:"identity,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	// Until is when the policy stops trusting this signature, together with those of
	// CoSigners; zero for never.
	Until time.Time `json:"until,omitzero"`
	// CoSigners are the further signers if the policy requires several.
	CoSigners []Signer `json:"coSigners,omitempty"`
}

// String returns s in one line. Text from a certificate is quoted.
func (s Signer) String() string {
	var b strings.Builder
	switch s.Kind {
	case SignedByKey:
		fmt.Fprintf(&b, "key %q (%s)", s.Name, s.KeyID)
	case SignedByIdentity:
		fmt.Fprintf(&b, "identity %q (issuer %q)", s.Identity, s.Issuer)
	case Unsigned:
		b.WriteString("nobody: the signature was not checked")
	default:
		b.WriteString("nobody")
	}
	for _, c := range s.CoSigners {
		b.WriteString(" and ")
		b.WriteString(c.String())
	}
	return b.String()
}
