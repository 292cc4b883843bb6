package release

import (
	"errors"
	"fmt"
	"time"
)

// Reason is a stable word for why a release is not trusted. Reports, metrics and
// tests use it; reasons may be added, but their meanings never change.
type Reason string

const (
	// ReasonUnsigned means: there is no bundle.
	ReasonUnsigned Reason = "unsigned"
	// ReasonMalformedBundle means: the bundle is truncated, damaged or no bundle.
	ReasonMalformedBundle Reason = "malformed-bundle"
	// ReasonUnsupportedBundle means: a bundle of a media type or key kind that this
	// program does not read.
	ReasonUnsupportedBundle Reason = "unsupported-bundle"
	// ReasonOtherContent means: the bundle signs other bytes than this
	// SHA256SUMS.txt. Either the file was changed, or the bundle belongs to another
	// file.
	ReasonOtherContent Reason = "signed-other-content"
	// ReasonBadSignature means: the signature does not verify with the key it names.
	ReasonBadSignature Reason = "bad-signature"
	// ReasonWrongKey means: signed by none of the policy's keys.
	ReasonWrongKey Reason = "wrong-key"
	// ReasonKeyWindow means: signed by a key outside its validity window.
	ReasonKeyWindow Reason = "key-window"
	// ReasonWrongIdentity means: the certificate is of another identity or issuer.
	ReasonWrongIdentity Reason = "wrong-identity"
	// ReasonBadCertificate means: the trusted root does not vouch for the
	// certificate, its log entry or its time stamp.
	ReasonBadCertificate Reason = "bad-certificate"
	// ReasonThreshold means: valid signatures, but by fewer signers than required.
	ReasonThreshold Reason = "threshold"
	// ReasonMalformedSums means: SHA256SUMS.txt breaks one of the rules of [ParseSums].
	ReasonMalformedSums Reason = "malformed-sums"
	// ReasonNotInSums means: a required asset has no line in SHA256SUMS.txt, so the
	// signature does not cover it.
	ReasonNotInSums Reason = "not-in-sums"
	// ReasonChecksum means: an asset has another digest than in SHA256SUMS.txt.
	ReasonChecksum Reason = "checksum"
	// ReasonTooLarge means: an asset exceeds the size limit of its kind.
	ReasonTooLarge Reason = "too-large"
	// ReasonMalformedInfo means: release.json breaks one of the rules of [ParseInfo].
	ReasonMalformedInfo Reason = "malformed-info"
	// ReasonWrongTag means: the release has another tag than the requested one.
	ReasonWrongTag Reason = "wrong-tag"
	// ReasonMalformedManifest means: a manifest is malformed or of an unknown schema.
	ReasonMalformedManifest Reason = "malformed-manifest"
	// ReasonWrongConfiguration means: a manifest is of another configuration.
	ReasonWrongConfiguration Reason = "wrong-configuration"
	// ReasonMalformedListing means: a listing is malformed, of another configuration,
	// or expands beyond its limit.
	ReasonMalformedListing Reason = "malformed-listing"
	// ReasonExpired means: past bestBefore and the grace period.
	ReasonExpired Reason = "expired"
	// ReasonRolledBack means: older than a release accepted before.
	ReasonRolledBack Reason = "rolled-back"
	// ReasonReplaced means: other contents than those accepted under this tag before.
	ReasonReplaced Reason = "replaced"
	// ReasonNotAccepted means: the policy does not list the tag.
	ReasonNotAccepted Reason = "not-accepted"
	// ReasonRevoked means: its publisher has revoked it.
	ReasonRevoked Reason = "revoked"
	// ReasonMalformedRevocations means: a list of revoked releases breaks one of the
	// rules of [ParseRevocations].
	ReasonMalformedRevocations Reason = "malformed-revocations"
	// ReasonWithheld means: a list of revoked releases is not there any more.
	ReasonWithheld Reason = "withheld"
	// ReasonNotRegular means: an asset is not a regular file.
	ReasonNotRegular Reason = "not-regular"
)

// UntrustedError means that a release was found and is not trusted. Nothing of it was
// used.
type UntrustedError struct {
	Reason Reason
	Tag    Tag    // "" if none was requested
	Source string // where it was found; "" if unknown
	// Detail is one line: what is not valid and, if possible, the remedy.
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

// Untrusted returns an *[UntrustedError] for use by [Verifier] implementations;
// [Open] sets its tag and source.
func Untrusted(reason Reason, format string, args ...any) *UntrustedError {
	return &UntrustedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// ErrNotFound matches every *[NotFoundError] in errors.Is.
var ErrNotFound = errors.New("not found")

// NotFoundError means that a release, an asset or a configuration does not exist in
// the place searched.
type NotFoundError struct {
	What   string // what was searched for, e.g. `asset "release.json" of boot-v1`
	Source string // where
	Hint   string // the remedy; may be empty
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("%s: not found in %s", e.What, e.Source)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Is makes every NotFoundError match [ErrNotFound].
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// UnavailableError means that something could not be obtained although it may exist:
// no network, a failing server, an unreadable disk.
type UnavailableError struct {
	What   string
	Source string
	Err    error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s: unavailable from %s: %v", e.What, e.Source, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// ClockError means that the node's clock can't be right, so nothing that depends on
// the time can be judged. It is not a finding against the release.
type ClockError struct {
	Now    time.Time // the clock's time
	Detail string    // how it is known to be wrong
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("this machine's clock says %s: %s; set the clock (is the time service running?) and try again",
		e.Now.UTC().Format(time.RFC3339), e.Detail)
}
