package trust

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

// verifier implements release.Verifier for a policy.
type verifier struct {
	now        func() time.Time
	threshold  int
	keys       []*trustedKey
	identities []*trustedIdentity
}

// New returns a verifier for p and reads p's files now. It needs no network and is
// safe for concurrent use.
func New(p Policy) (release.Verifier, error) { return newVerifier(p, time.Now) }

func newVerifier(p Policy, now func() time.Time) (release.Verifier, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	v := &verifier{now: now, threshold: p.threshold()}
	seen := make(map[string]string)
	for i, k := range p.Keys {
		key, err := loadKey(k)
		if err != nil {
			return nil, fmt.Errorf("trust.keys[%d]: key %q: %w", i, k.Name, err)
		}
		// The same key under two names would count twice.
		if other, ok := seen[key.id]; ok {
			return nil, fmt.Errorf("trust.keys[%d]: key %q is the same key as %q", i, k.Name, other)
		}
		seen[key.id] = k.Name
		v.keys = append(v.keys, key)
	}
	for i, id := range p.Identities {
		identity, err := loadIdentity(id)
		if err != nil {
			return nil, fmt.Errorf("trust.identities[%d]: identity %q: %w", i, id.Name, err)
		}
		v.identities = append(v.identities, identity)
	}
	return v, nil
}

type trustedKey struct {
	Key
	id       string
	verifier signature.Verifier
}

func loadKey(k Key) (*trustedKey, error) {
	pem := []byte(k.PEM)
	if k.File != "" {
		var err error
		if pem, err = hostfile.ReadSmall(k.File, maxFile); err != nil {
			return nil, err
		}
	}
	pub, err := parsePublicKey(pem)
	if err != nil {
		return nil, err
	}
	id, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	sv, err := signature.LoadVerifier(pub, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return &trustedKey{k, id, sv}, nil
}

// Verify implements release.Verifier. It counts the different keys and identities of
// the policy that have signed sums; other signatures are ignored.
func (v *verifier) Verify(ctx context.Context, sums, bundle []byte) (release.Signer, error) {
	if bundle == nil {
		return release.Signer{}, release.Untrusted(release.ReasonUnsigned, "it has no %s", release.BundleName)
	}
	parts, err := splitBundles(bundle)
	if err != nil {
		return release.Signer{}, err
	}
	digest := sha256.Sum256(sums)
	var signers []release.Signer
	var refused error
	for _, part := range parts {
		if err := ctx.Err(); err != nil {
			return release.Signer{}, err
		}
		b, err := parseBundle(part)
		if err != nil {
			return release.Signer{}, err
		}
		if err := b.over(digest); err != nil {
			return release.Signer{}, err
		}
		signer, err := v.verifyOne(b, sums)
		switch {
		case err == nil:
			signers = addSigner(signers, signer)
		case refused == nil || isReason(refused, release.ReasonWrongKey):
			refused = err
		}
	}
	switch {
	case len(signers) >= v.threshold:
		until := v.until(signers)
		first := signers[0]
		first.CoSigners, first.Until = signers[1:], until
		return first, nil
	case len(signers) == 0:
		return release.Signer{}, refused
	}
	detail := fmt.Sprintf("signed by %d of the %d signers that the policy requires: %s", len(signers), v.threshold, joined(signers))
	if refused != nil {
		detail += "; another signature does not count: " + refused.Error()
	}
	return release.Signer{}, release.Untrusted(release.ReasonThreshold, "%s", detail)
}

func (v *verifier) verifyOne(b *parsedBundle, sums []byte) (release.Signer, error) {
	if b.hasCertificate() {
		return v.verifyIdentity(b, sums)
	}
	return v.verifyKey(b, sums)
}

// until returns when fewer signers remain valid than the policy requires; zero for
// never.
func (v *verifier) until(signers []release.Signer) time.Time {
	var ends []time.Time
	for _, s := range signers {
		if !s.Until.IsZero() {
			ends = append(ends, s.Until)
		}
	}
	spare := len(signers) - v.threshold
	if len(ends) <= spare {
		return time.Time{}
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[spare]
}

// addSigner adds s unless it is present: a signer counts once.
func addSigner(signers []release.Signer, s release.Signer) []release.Signer {
	for _, other := range signers {
		if other.Kind == s.Kind && other.Name == s.Name {
			return signers
		}
	}
	return append(signers, s)
}

func joined(signers []release.Signer) string {
	first := signers[0]
	first.CoSigners = signers[1:]
	return first.String()
}

func isReason(err error, reason release.Reason) bool {
	var untrusted *release.UntrustedError
	return errors.As(err, &untrusted) && untrusted.Reason == reason
}
