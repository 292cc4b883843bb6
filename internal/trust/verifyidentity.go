package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

type trustedIdentity struct {
	Identity
	root     root.TrustedMaterial
	verifier *verify.Verifier
	want     verify.CertificateIdentity
}

// rootError means that a file is not a trusted root. Its text leaves out err, which
// is in a JSON or protobuf library's words; unwrap it to see err.
type rootError struct {
	file string
	err  error
}

func (e *rootError) Error() string {
	return fmt.Sprintf("%q is not a trusted root in JSON; want sigstore's trusted_root.json", e.file)
}

func (e *rootError) Unwrap() error { return e.err }

func loadIdentity(i Identity) (*trustedIdentity, error) {
	data, err := hostfile.ReadSmall(i.TrustedRoot, maxFile)
	if err != nil {
		return nil, err
	}
	trusted, err := root.NewTrustedRootFromJSON(data)
	if err != nil {
		return nil, &rootError{i.TrustedRoot, err}
	}
	opts, err := demands(trusted)
	if err != nil {
		return nil, fmt.Errorf("trusted root %q: %w", i.TrustedRoot, err)
	}
	sv, err := verify.NewVerifier(trusted, opts...)
	if err != nil {
		return nil, err
	}
	want, err := verify.NewShortCertificateIdentity(i.Issuer, "", i.Identity, i.pattern())
	if err != nil {
		return nil, err
	}
	return &trustedIdentity{i, trusted, sv, want}, nil
}

// demands returns the evidence that a signature must have: everything that the
// trusted root can check. A certificate is valid for minutes, so without a
// trustworthy signing time it proves nothing.
func demands(trusted *root.TrustedRoot) ([]verify.VerifierOption, error) {
	if len(trusted.FulcioCertificateAuthorities()) == 0 {
		return nil, errors.New("it names no certificate authority")
	}
	var opts []verify.VerifierOption
	switch {
	case len(trusted.RekorLogs()) > 0:
		opts = append(opts, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	case len(trusted.TimestampingAuthorities()) > 0:
		opts = append(opts, verify.WithSignedTimestamps(1))
	default:
		return nil, errors.New("it names neither a transparency log nor a time stamp authority, so no signing time could be trusted")
	}
	if len(trusted.CTLogs()) > 0 {
		opts = append(opts, verify.WithSignedCertificateTimestamps(1))
	}
	return opts, nil
}

// verifyIdentity checks a bundle signed with a certificate.
func (v *verifier) verifyIdentity(b *parsedBundle, sums []byte) (release.Signer, error) {
	leaf, err := x509.ParseCertificate(b.certificate())
	if err != nil {
		return release.Signer{}, malformed("its certificate is malformed")
	}
	summary, err := certificate.SummarizeCertificate(leaf)
	if err != nil {
		return release.Signer{}, malformed("its certificate states no identity")
	}
	identity, issuer := clip(summary.SubjectAlternativeName), clip(summary.Issuer)
	if len(v.identities) == 0 {
		return release.Signer{}, release.Untrusted(release.ReasonWrongIdentity, "signed with a certificate of %q, but the policy names keys only", identity)
	}
	var refused error
	for _, id := range v.identities {
		// This comes first: if the signature does not match the certificate, the log
		// entry does not match either.
		if !id.isSigned(b, sums) {
			return release.Signer{}, release.Untrusted(release.ReasonBadSignature, "the signature is not one with the certificate that comes with it, of %q", identity)
		}
		_, err := id.verifier.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(sums)), verify.WithCertificateIdentity(id.want)))
		if err == nil {
			return release.Signer{Kind: release.SignedByIdentity, Name: id.Name, Identity: summary.SubjectAlternativeName, Issuer: summary.Issuer}, nil
		}
		switch {
		case errors.As(err, new(*verify.ErrNoMatchingCertificateIdentity)):
			refused = release.Untrusted(release.ReasonWrongIdentity, "signed by %q (issuer %q), which is not the identity %q that the policy names", identity, issuer, id.Name)
		case isReason(refused, release.ReasonWrongIdentity):
			// The certificate may be valid under another root; report that.
		default:
			refused = release.Untrusted(release.ReasonBadCertificate, "the certificate of %q is not valid under the trusted root of identity %q: %q", identity, id.Name, clip(err.Error()))
		}
	}
	return release.Signer{}, refused
}

// isSigned reports whether the signature of b over artifact matches b's own
// certificate. It proves nothing about the certificate's owner.
func (i *trustedIdentity) isSigned(b *parsedBundle, artifact []byte) bool {
	signature, err := b.SignatureContent()
	if err != nil {
		return false
	}
	key, err := b.VerificationContent()
	if err != nil {
		return false
	}
	return verify.VerifySignatureWithArtifacts(signature, key, i.root, []io.Reader{bytes.NewReader(artifact)}) == nil
}
