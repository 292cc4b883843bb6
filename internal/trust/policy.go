package trust

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Policy defines whose signatures make a release trusted. It is the value of "trust"
// in the configuration. The zero value trusts nobody and fails [Policy.Validate].
type Policy struct {
	// Keys are the public keys that may sign.
	Keys []Key `json:"keys,omitempty"`
	// Identities are the certificate identities that may sign, for forges known to
	// sigstore's certificate authority.
	Identities []Identity `json:"identities,omitempty"`
	// Threshold is how many different Keys and Identities must have signed. 0 means
	// 1.
	Threshold int `json:"threshold,omitzero"`
}

// Key is a public key that may sign releases: ECDSA P-256 or Ed25519.
type Key struct {
	// Name identifies the key in reports.
	Name string `json:"name"`
	// File is the path of the key, in PEM ("PUBLIC KEY"), as cosign and openssl write
	// it. Exactly one of File and PEM is set.
	File string `json:"file,omitempty"`
	// PEM is the key itself.
	PEM string `json:"pem,omitempty"`
	// NotBefore and NotAfter limit when this machine trusts the key's signatures, by the
	// node's clock. Zero means no limit. Set NotAfter when a key is replaced; see
	// docs/trust.md.
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
}

// Identity is a certificate identity that may sign releases.
type Identity struct {
	// Name identifies the identity in reports.
	Name string `json:"name"`
	// Identity is the certificate's subject: for a workflow, its URL with the ref.
	// Exactly one of Identity and IdentityPattern is set.
	Identity string `json:"identity,omitempty"`
	// IdentityPattern is a regular expression (RE2) that must match the whole
	// subject. It is anchored automatically; it must be strict enough not to match
	// others.
	IdentityPattern string `json:"identityPattern,omitempty"`
	// Issuer vouched for the identity to the certificate authority, e.g.
	// https://token.actions.githubusercontent.com. It must match exactly.
	Issuer string `json:"issuer"`
	// TrustedRoot is the path of sigstore's trusted root in JSON: the trusted
	// certificate authorities, logs and time stamp authorities.
	TrustedRoot string `json:"trustedRoot"`
}

var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 @._+-]*$`) })

// maxSigners limits the keys and identities of a policy, and the bundles of a
// release.
const maxSigners = 16

// Validate returns the first error that [Policy.Check] finds; it does not read the
// files that p names.
func (p Policy) Validate() error {
	var first error
	p.Check(func(key string, err error) {
		if first == nil {
			first = fmt.Errorf("%s: %w", key, err)
		}
	})
	return first
}

// Check calls wrong for every error in p, with the configuration key that it
// concerns.
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

// pattern returns the regular expression for the whole subject, or "" if the subject
// must equal Identity. sigstore's own matching is not anchored.
func (i Identity) pattern() string {
	if i.IdentityPattern == "" {
		return ""
	}
	return `\A(?:` + i.IdentityPattern + `)\z`
}

// NameOf returns the name for the key in a file: that of the file, or "key" if it is no
// valid name.
func NameOf(file string) string {
	if name := filepath.Base(file); namePattern().MatchString(name) {
		return name
	}
	return "key"
}

func validateName(name string, names map[string]bool) error {
	if len(name) > 64 || !namePattern().MatchString(name) {
		return fmt.Errorf("name %q: want 1 to 64 letters, digits, blanks and '@', '.', '_', '+', '-'", name)
	}
	if names[name] {
		return fmt.Errorf("name %q is used twice", name)
	}
	names[name] = true
	return nil
}
