package trust

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"
)

// Policy says whose signatures make a release one to believe. It is the value
// of "trust" in the configuration. The zero value believes nobody and is
// refused by [Policy.Validate].
type Policy struct {
	// Keys are public keys that may sign.
	Keys []Key `json:"keys,omitempty"`
	// Identities are certificate identities that may sign, for forges that
	// sigstore's certificate authority knows.
	Identities []Identity `json:"identities,omitempty"`
	// Threshold is how many different ones of Keys and Identities must have
	// signed. 0 stands for 1.
	Threshold int `json:"threshold,omitzero"`
}

// Key is a public key that may sign releases: ECDSA P-256 or Ed25519.
type Key struct {
	// Name is what reports call the key.
	Name string `json:"name"`
	// File holds the key, in PEM ("PUBLIC KEY"), as cosign and openssl write
	// it. Either File or PEM is set.
	File string `json:"file,omitempty"`
	// PEM is the key itself.
	PEM string `json:"pem,omitempty"`
	// NotBefore and NotAfter bound when this node believes the key's
	// signatures, by the node's clock. The zero value is no bound. A key that is
	// replaced is given a NotAfter; see docs/trust.md.
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
}

// Identity is a certificate identity that may sign releases.
type Identity struct {
	// Name is what reports call the identity.
	Name string `json:"name"`
	// Identity is the certificate's subject: for a workflow, its URL with the
	// ref. Either Identity or IdentityPattern is set.
	Identity string `json:"identity,omitempty"`
	// IdentityPattern is a regular expression (RE2) that the whole subject must
	// match. It is anchored here; it must not be so loose that others match it.
	IdentityPattern string `json:"identityPattern,omitempty"`
	// Issuer is who vouched for the identity to the certificate authority, e.g.
	// https://token.actions.githubusercontent.com. It must be equal.
	Issuer string `json:"issuer"`
	// TrustedRoot is a file with sigstore's trusted root in JSON: the
	// certificate authorities, logs and time stamp authorities to believe.
	TrustedRoot string `json:"trustedRoot"`
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 @._+-]{0,63}$`)

// maxSigners bounds how many keys and identities a policy may have, and how
// many bundles a release.
const maxSigners = 16

// Validate returns the first thing that is wrong with p, as [Policy.Check] finds
// it; the files that it names are not looked at.
func (p Policy) Validate() error {
	var first error
	p.Check(func(key string, err error) {
		if first == nil {
			first = fmt.Errorf("%s: %w", key, err)
		}
	})
	return first
}

// Check calls wrong with everything that is wrong with p, and the key in the
// configuration that it is about.
func (p Policy) Check(wrong func(key string, err error)) {
	n := len(p.Keys) + len(p.Identities)
	switch {
	case n == 0:
		wrong("trust", errors.New("no keys and no identities; name at least one under trust.keys or trust.identities"))
		return
	case n > maxSigners:
		wrong("trust", fmt.Errorf("%d keys and identities, at most %d are allowed", n, maxSigners))
	case p.Threshold < 0 || p.Threshold > n:
		wrong("trust.threshold", fmt.Errorf("%d, want 1 to %d, the number of keys and identities", p.Threshold, n))
	}
	names := make(map[string]bool, n)
	for i, k := range p.Keys {
		if err := k.validate(names); err != nil {
			wrong(fmt.Sprintf("trust.keys[%d]", i), err)
		}
	}
	for i, id := range p.Identities {
		if err := id.validate(names); err != nil {
			wrong(fmt.Sprintf("trust.identities[%d]", i), err)
		}
	}
}

func (p Policy) threshold() int { return max(1, p.Threshold) }

func (k Key) validate(names map[string]bool) error {
	if err := validateName(k.Name, names); err != nil {
		return err
	}
	switch {
	case (k.File == "") == (k.PEM == ""):
		return fmt.Errorf("key %q: want exactly one of file and pem", k.Name)
	case k.File != "" && !filepath.IsAbs(k.File):
		return fmt.Errorf("key %q: file %q is not an absolute path", k.Name, k.File)
	case !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotAfter.After(k.NotBefore):
		return fmt.Errorf("key %q: notAfter is not after notBefore", k.Name)
	}
	return nil
}

func (i Identity) validate(names map[string]bool) error {
	if err := validateName(i.Name, names); err != nil {
		return err
	}
	switch {
	case (i.Identity == "") == (i.IdentityPattern == ""):
		return fmt.Errorf("identity %q: want exactly one of identity and identityPattern", i.Name)
	case i.Issuer == "":
		return fmt.Errorf("identity %q: no issuer; anybody could obtain that identity from another one", i.Name)
	case !filepath.IsAbs(i.TrustedRoot):
		return fmt.Errorf("identity %q: trustedRoot %q is not an absolute path", i.Name, i.TrustedRoot)
	}
	if _, err := regexp.Compile(i.pattern()); err != nil {
		return fmt.Errorf("identity %q: identityPattern: %w", i.Name, err)
	}
	return nil
}

// pattern returns the regular expression for the whole of the subject, or ""
// where it must be equal to Identity. sigstore's matching is not anchored.
func (i Identity) pattern() string {
	if i.IdentityPattern == "" {
		return ""
	}
	return `\A(?:` + i.IdentityPattern + `)\z`
}

func validateName(name string, names map[string]bool) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("name %q: want 1 to 64 letters, digits, blanks and '@', '.', '_', '+', '-'", name)
	}
	if names[name] {
		return fmt.Errorf("name %q is used twice", name)
	}
	names[name] = true
	return nil
}
