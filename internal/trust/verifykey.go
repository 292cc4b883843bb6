package trust

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"every.channel/ec-verify/internal/release"
)

// clockYears is how far past the last key's end a plausible clock may be.
const clockYears = 2 * 365 * 24 * time.Hour

// verifyKey checks a bundle signed with a key.
func (v *verifier) verifyKey(b *parsedBundle, sums []byte) (release.Signer, error) {
	if len(v.keys) == 0 {
		return release.Signer{}, release.Untrusted(release.ReasonWrongKey, "signed with a key (%q), but the policy names identities only", clip(b.hint()))
	}
	var candidates []*trustedKey
	for _, k := range v.keys {
		// The hint is optional in the format and not trusted: it only selects the
		// keys to try.
		if b.hint() == k.id || b.hint() == "" {
			candidates = append(candidates, k)
		}
	}
	if len(candidates) == 0 {
		return release.Signer{}, release.Untrusted(release.ReasonWrongKey, "signed with the key %q, which the policy does not name; it names %s", clip(b.hint()), v.keyNames())
	}
	for _, k := range candidates {
		if k.verify(b, sums) != nil {
			continue
		}
		if err := v.checkWindow(k); err != nil {
			return release.Signer{}, err
		}
		return release.Signer{Kind: release.SignedByKey, Name: k.Name, KeyID: k.id, Until: k.NotAfter}, nil
	}
	if b.hint() == "" {
		return release.Signer{}, release.Untrusted(release.ReasonWrongKey, "signed with none of the keys that the policy names: %s", v.keyNames())
	}
	return release.Signer{}, release.Untrusted(release.ReasonBadSignature, "the signature is not one by key %q, which it names", candidates[0].Name)
}

func (k *trustedKey) verify(b *parsedBundle, sums []byte) error {
	// The validity period is left open here, because the option for keys
	// (WithNoObserverTimestamps) ignores it. checkWindow checks it.
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(k.verifier, time.Time{}, time.Time{}), nil
	})
	sv, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		return err
	}
	_, err = sv.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(sums)), verify.WithKey()))
	return err
}

// checkWindow checks the validity period of k, which has signed, against the clock. A
// signature does not state when it was made, so a key past its end proves nothing,
// whenever it signed.
func (v *verifier) checkWindow(k *trustedKey) error {
	now := v.now()
	if !k.NotBefore.IsZero() && now.Before(k.NotBefore) {
		return release.Untrusted(release.ReasonKeyWindow, "signed with key %q, which is not valid before %s; the clock says %s", k.Name, stamp(k.NotBefore), stamp(now))
	}
	if k.NotAfter.IsZero() || !now.After(k.NotAfter) {
		return nil
	}
	if end := v.lastKeyEnd(); !end.IsZero() && now.After(end.Add(clockYears)) {
		return &release.ClockError{Now: now, Detail: fmt.Sprintf("every key that the policy names ended years before that, the last on %s", stamp(end))}
	}
	return release.Untrusted(release.ReasonKeyWindow, "signed with key %q, which was valid until %s; the clock says %s", k.Name, stamp(k.NotAfter), stamp(now))
}

// lastKeyEnd returns when the policy's last key ends, or the zero time if one never
// does.
func (v *verifier) lastKeyEnd() time.Time {
	var last time.Time
	for _, k := range v.keys {
		if k.NotAfter.IsZero() {
			return time.Time{}
		}
		if k.NotAfter.After(last) {
			last = k.NotAfter
		}
	}
	return last
}

func (v *verifier) keyNames() string {
	names := make([]string, len(v.keys))
	for i, k := range v.keys {
		names[i] = fmt.Sprintf("%q (%s)", k.Name, k.id)
	}
	return strings.Join(names, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
