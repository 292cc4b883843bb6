package release

import (
	"errors"
	"fmt"
	"time"
)

// Reason says in a stable word why a release is not trusted. Reports, metrics
// and tests use it; new ones may be added, meanings never change.
type Reason string

const (
	// ReasonUnsigned means: there is no bundle.
	ReasonUnsigned Reason = "unsigned"
	// ReasonMalformedBundle means: the bundle is truncated, damaged or no bundle.
	ReasonMalformedBundle Reason = "malformed-bundle"
	// ReasonUnsupportedBundle means: a bundle of a media type or key kind that this
	// program does not read.
	ReasonUnsupportedBundle Reason = "unsupported-bundle"
	// ReasonOtherContent means: the bundle is a signature over other bytes than this
	// SHA256SUMS.txt, which was changed or got the bundle of another file.
	ReasonOtherContent Reason = "signed-other-content"
	// ReasonBadSignature means: the signature does not verify with the key it names.
	ReasonBadSignature Reason = "bad-signature"
	// ReasonWrongKey means: signed by no key that the policy names.
	ReasonWrongKey Reason = "wrong-key"
	// ReasonKeyWindow means: signed by a key outside its validity window.
	ReasonKeyWindow Reason = "key-window"
	// ReasonWrongIdentity means: the certificate is of another identity or issuer.
	ReasonWrongIdentity Reason = "wrong-identity"
	// ReasonBadCertificate means: the certificate, its log entry or its time stamp is
	// not vouched for by the trusted root.
	ReasonBadCertificate Reason = "bad-certificate"
	// ReasonThreshold means: good signatures, but by fewer signers than required.
	ReasonThreshold Reason = "threshold"
	// ReasonMalformedSums means: SHA256SUMS.txt breaks one of the rules of [ParseSums].
	ReasonMalformedSums Reason = "malformed-sums"
	// ReasonNotInSums means: an asset that the release needs has no line in
	// SHA256SUMS.txt, so the signature does not cover it.
	ReasonNotInSums Reason = "not-in-sums"
	// ReasonChecksum means: an asset's bytes are not those that SHA256SUMS.txt names.
	ReasonChecksum Reason = "checksum"
	// ReasonTooLarge means: an asset is larger than its kind may be.
	ReasonTooLarge Reason = "too-large"
	// ReasonMalformedInfo means: release.json breaks one of the rules of [ParseInfo].
	ReasonMalformedInfo Reason = "malformed-info"
	// ReasonWrongTag means: the release is of another tag than the one asked for.
	ReasonWrongTag Reason = "wrong-tag"
	// ReasonMalformedManifest means: a manifest is not one, or of an unknown schema.
	ReasonMalformedManifest Reason = "malformed-manifest"
	// ReasonWrongConfiguration means: a manifest is of another configuration.
	ReasonWrongConfiguration Reason = "wrong-configuration"
	// ReasonMalformedListing means: a listing is not one, of another configuration,
	// or expands beyond its limit.
	ReasonMalformedListing Reason = "malformed-listing"
	// ReasonExpired means: past bestBefore and the grace.
	ReasonExpired Reason = "expired"
	// ReasonRolledBack means: older than a release that was accepted before.
	ReasonRolledBack Reason = "rolled-back"
	// ReasonReplaced means: other contents than were accepted under this tag before.
	ReasonReplaced Reason = "replaced"
	// ReasonNotAccepted means: not among the tags that the policy lists.
	ReasonNotAccepted Reason = "not-accepted"
	// ReasonNotRegular means: something other than a file stands in an asset's place.
	ReasonNotRegular Reason = "not-regular"
)

// UntrustedError says that a release was found and is not believed. Nothing of
// it was used.
type UntrustedError struct {
	Reason Reason
	Tag    Tag    // "" where none was asked for
	Source string // where it was found; "" where that is not known
	// Detail is one line: what does not hold and, where there is something to
	// be done, what to do.
	Detail string
}

func (e *UntrustedError) Error() string {
	what := "release"
	if e.Tag != "" {
		what += " " + string(e.Tag)
	}
	if e.Source != "" {
		what += " from " + e.Source
	}
	return fmt.Sprintf("%s is not trusted (%s): %s", what, e.Reason, e.Detail)
}

// Untrusted returns an *[UntrustedError] whose tag and source are filled in by
// [Open]; it is for [Verifier] implementations.
func Untrusted(reason Reason, format string, args ...any) *UntrustedError {
	return &UntrustedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ErrNotFound is what every *[NotFoundError] is, for errors.Is.
var ErrNotFound = errors.New("not found")

// NotFoundError says that a release, one of its assets or a configuration in
// it does not exist where it was looked for.
type NotFoundError struct {
	What   string // what was looked for, e.g. `asset "release.json" of boot-v1`
	Source string // where
	Hint   string // what to do; may be empty
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("%s: not found in %s", e.What, e.Source)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Is makes every NotFoundError an [ErrNotFound].
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// UnavailableError says that something which may well be there could not be
// had: no network, a server that fails, an unreadable disk.
type UnavailableError struct {
	What   string
	Source string
	Err    error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s: unavailable from %s: %v", e.What, e.Source, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// ClockError says that the node's clock cannot be right, so that nothing that
// depends on the time can be judged. It is no finding against the release.
type ClockError struct {
	Now    time.Time // what the clock says
	Detail string    // how it is known to be wrong
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("this node's clock says %s: %s; set the clock (is the time service running?) and try again",
		e.Now.UTC().Format(time.RFC3339), e.Detail)
}
