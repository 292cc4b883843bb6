package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	// RevocationsTag is the name of the release that contains the list of revoked
	// releases and nothing else. Every kind of source can carry it, and it is signed,
	// published, fetched and verified like any other release; its createdAt says which
	// list is newer.
	RevocationsTag Tag = "revocations"
	// RevocationsName is the asset of that release which is the list.
	RevocationsName = "revocations.json"
	// RevocationsSchema is the one schemaVersion of the list that this package reads
	// and writes.
	RevocationsSchema = 1

	// MaxRevocationsSize is how large the list may be, in bytes.
	MaxRevocationsSize = 1 << 20
	// MaxRevoked is how many releases it may name.
	MaxRevoked = 4096
	// MaxReasonSize is how long the reason of a revocation may be, in bytes.
	MaxReasonSize = 500
)

// Revocation is a publisher's statement that a release must no longer run.
type Revocation struct {
	Tag Tag `json:"tag"`
	// RevokedAt is when the publisher said so. UTC, whole seconds.
	RevokedAt time.Time `json:"revokedAt"`
	// Reason is one line of 1 to [MaxReasonSize] bytes of text, for the operators of
	// machines.
	Reason string `json:"reason"`
}

// revokedList is the contents of revocations.json.
type revokedList struct {
	SchemaVersion int `json:"schemaVersion"`
	// Revoked is in ascending order of tags, each once; it may be empty.
	Revoked []Revocation `json:"revoked"`
}

// ErrRevocationsSchema is wrapped by [ParseRevocations] for a schema version that this
// package does not know: a newer publisher, not a damaged file.
var ErrRevocationsSchema = errors.New("unknown schema version")

// ParseRevocations parses a revocations.json and applies every rule on [Revocation]'s
// fields. It accepts only the form that [EncodeRevocations] writes.
func ParseRevocations(data []byte) ([]Revocation, error) {
	if len(data) > MaxRevocationsSize {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are allowed", RevocationsName, len(data), MaxRevocationsSize)
	}
	// The version decides which members there may be, so it is read first.
	var head struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%s: %s", RevocationsName, jsonError(err))
	}
	if head.SchemaVersion != RevocationsSchema {
		return nil, fmt.Errorf("%s: %w %d; this program reads version %d", RevocationsName, ErrRevocationsSchema, head.SchemaVersion, RevocationsSchema)
	}
	var l revokedList
	if err := json.Unmarshal(data, &l, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%s: %s", RevocationsName, jsonError(err))
	}
	canonical, err := EncodeRevocations(l.Revoked)
	if err != nil {
		return nil, err
	}
	// Also finds members that are missing, and times in another zone.
	if !bytes.Equal(canonical, data) {
		return nil, fmt.Errorf("%s: not in canonical form (member order, two spaces of indentation, UTC times)", RevocationsName)
	}
	return l.Revoked, nil
}

// EncodeRevocations returns a list in its one form, checked: what cannot be parsed is
// never written.
func EncodeRevocations(list []Revocation) ([]byte, error) {
	if err := checkRevocations(list); err != nil {
		return nil, fmt.Errorf("%s: %w", RevocationsName, err)
	}
	if list == nil {
		list = []Revocation{}
	}
	data, err := json.Marshal(&revokedList{RevocationsSchema, list}, jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", RevocationsName, err)
	}
	if data = append(data, '\n'); len(data) > MaxRevocationsSize {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are allowed", RevocationsName, len(data), MaxRevocationsSize)
	}
	return data, nil
}

func checkRevocations(list []Revocation) error {
	if len(list) > MaxRevoked {
		return fmt.Errorf("%d releases, at most %d are allowed", len(list), MaxRevoked)
	}
	for i, r := range list {
		if _, err := ParseTag(string(r.Tag)); err != nil {
			return err
		}
		switch {
		case r.Tag == Latest || r.Tag == RevocationsTag:
			return fmt.Errorf("tag %q is no release that could be revoked", r.Tag)
		case i > 0 && list[i-1].Tag >= r.Tag:
			return fmt.Errorf("%q is doubled or out of order", r.Tag)
		}
		if err := checkTime("revokedAt", r.RevokedAt); err != nil {
			return fmt.Errorf("%s: %w", r.Tag, err)
		}
		if err := checkReason(r.Reason); err != nil {
			return fmt.Errorf("%s: %w", r.Tag, err)
		}
	}
	return nil
}

func checkReason(s string) error {
	if s == "" || len(s) > MaxReasonSize || !utf8.ValidString(s) || s != strings.TrimSpace(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("reason %q: want one line of 1 to %d bytes of text, without blanks at its ends", clip(s), MaxReasonSize)
	}
	return nil
}

// Revocations is a list of revoked releases with a valid signature and order.
type Revocations struct {
	// CreatedAt orders the lists. The zero time is that of no list at all.
	CreatedAt time.Time
	// Sums is the SHA-256 of its release's SHA256SUMS.txt in hexadecimal.
	Sums string
	// Revoked is in ascending order of tags.
	Revoked []Revocation
}

// Find returns the list's entry on a release; nil if there is none.
func (l *Revocations) Find(tag Tag) *Revocation {
	i, found := slices.BinarySearchFunc(l.Revoked, tag, func(r Revocation, tag Tag) int { return strings.Compare(string(r.Tag), string(tag)) })
	if !found {
		return nil
	}
	r := l.Revoked[i]
	return &r
}

// OpenRevocations returns the list in src, verified as [Open] verifies a release. Its age
// does not matter: the newest list is valid until there is a newer one. If src has none,
// the error is a *[NotFoundError]; if it has an incomplete or invalid one, an
// *[UntrustedError] or an *[UnavailableError].
func OpenRevocations(ctx context.Context, src Source, v Verifier, opts ...Option) (*Revocations, error) {
	opts = append(slices.Clone(opts), WithAnyAge(), func(o *options) {
		o.memory, o.revoked, o.accept, o.latest = nil, nil, nil, ""
	})
	r, err := Open(ctx, src, RevocationsTag, v, opts...)
	if err != nil {
		return nil, err
	}
	list, err := r.revocations(ctx)
	if errors.Is(err, ErrNotFound) {
		// A release of that name, without a list: not the same as none.
		return nil, &UnavailableError{assetOf(RevocationsName, RevocationsTag), src.String(), errors.New("its " + SumsName + " is there, and it is not")}
	}
	if err != nil {
		return nil, err
	}
	return &Revocations{r.info.CreatedAt, r.Digest().String(), list}, nil
}

// revocations returns the list in r.
func (r *Release) revocations(ctx context.Context) ([]Revocation, error) {
	data, err := r.read(ctx, RevocationsName)
	if err != nil {
		return nil, r.named(err)
	}
	list, err := ParseRevocations(data)
	if err != nil {
		return nil, r.refuse(ReasonMalformedRevocations, "%v", err)
	}
	return list, nil
}

// neverTooOld is the bestBefore of the release with a list, which never expires.
var neverTooOld = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// WriteRevocations writes the release with the list to dir; sign signs its
// SHA256SUMS.txt. The directory is created, or replaced if it contains such a release
// already, in one step; if it contains anything else, WriteRevocations fails.
func WriteRevocations(ctx context.Context, dir string, list Revocations, sign func(sums []byte) (bundle []byte, err error)) error {
	dir = filepath.Clean(dir)
	data, err := EncodeRevocations(list.Revoked)
	if err != nil {
		return err
	}
	if err := checkListDir(dir); err != nil {
		return err
	}
	staging, err := os.MkdirTemp(filepath.Dir(dir), cacheTemp)
	if err != nil {
		return err
	}
	defer func() { _ = hostfile.RemoveTree(staging) }()
	if err := os.Chmod(staging, 0o755); err != nil { //nolint:gosec // what is published is no secret
		return err
	}
	if err := writeFile(filepath.Join(staging, RevocationsName), data); err != nil {
		return err
	}
	if err := WriteInfo(staging, Info{Tag: RevocationsTag, CreatedAt: list.CreatedAt, BestBefore: neverTooOld}); err != nil {
		return err
	}
	if err := WriteSums(ctx, staging); err != nil {
		return err
	}
	sums, err := hostfile.ReadSmall(filepath.Join(staging, SumsName), MaxSumsSize)
	if err != nil {
		return err
	}
	bundle, err := sign(sums)
	if err != nil {
		return err
	}
	if err := WriteBundle(staging, bundle); err != nil {
		return err
	}
	if err := replaceDir(staging, dir); err != nil {
		return fmt.Errorf("write the list to %s: %w", printable(dir), err)
	}
	return hostfile.SyncDir(filepath.Dir(dir))
}

// checkListDir returns an error unless dir contains nothing but a list, or does not
// exist.
func checkListDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); !e.Type().IsRegular() || name != RevocationsName && name != InfoName && !isSumsFile(name) {
			return fmt.Errorf("%s contains %s, which is no part of a list of revoked releases; name the directory of the list", printable(dir), printable(clip(name)))
		}
	}
	return nil
}
