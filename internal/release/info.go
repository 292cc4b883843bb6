package release

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/pkg/closure"
)

// InfoSchema is the only schemaVersion of release.json that this package reads and
// writes.
const InfoSchema = 1

// Info is the contents of release.json: facts that differ between builds of the same
// source and therefore can't be in a manifest.
type Info struct {
	SchemaVersion int `json:"schemaVersion"`
	// Tag is the release's own name. It is signed, so that one release can't pass for
	// another.
	Tag Tag `json:"tag"`
	// Commit is the commit that the release was built from: 40 or 64 lower-case
	// hexadecimal digits, or empty if the source is not under version control.
	Commit string `json:"commit"`
	// CreatedAt orders the releases: a node does not go back to a release created
	// before one that it has accepted. UTC, whole seconds.
	CreatedAt time.Time `json:"createdAt"`
	// BestBefore is when the release becomes too old to count as the newest, so that
	// a node cut off from newer releases notices. UTC, whole seconds, after
	// CreatedAt.
	BestBefore time.Time `json:"bestBefore"`
	// Configurations are the configurations with a manifest in the release, in
	// ascending order. There is at least one if Tag begins with "boot-", because
	// machines boot such releases; other releases may consist of files alone.
	Configurations []string `json:"configurations"`
}

// ErrInfoSchema is wrapped by [ParseInfo] for an unknown schema version: a newer
// publisher, not a damaged file.
var ErrInfoSchema = errors.New("unknown schema version")

// ParseInfo reads a release.json and checks every rule on [Info]'s fields: no
// unknown, missing or duplicate member, and exactly the form that [Info.Encode]
// writes.
func ParseInfo(data []byte) (Info, error) {
	if len(data) > MaxInfoSize {
		return Info{}, fmt.Errorf("%s: %d bytes, at most %d are allowed", InfoName, len(data), MaxInfoSize)
	}
	// The version determines the allowed members, so it is read first.
	var head struct {
		SchemaVersion int `json:"schemaVersion"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Info{}, fmt.Errorf("%s: %s", InfoName, jsonError(err))
	}
	if head.SchemaVersion != InfoSchema {
		return Info{}, fmt.Errorf("%s: %w %d; this program reads version %d", InfoName, ErrInfoSchema, head.SchemaVersion, InfoSchema)
	}
	var i Info
	if err := json.Unmarshal(data, &i, json.RejectUnknownMembers(true)); err != nil {
		return Info{}, fmt.Errorf("%s: %s", InfoName, jsonError(err))
	}
	canonical, err := i.Encode()
	if err != nil {
		return Info{}, err
	}
	// This also detects missing members and times in another zone.
	if !bytes.Equal(canonical, data) {
		return Info{}, fmt.Errorf("%s: not in canonical form (member order, two spaces of indentation, UTC times)", InfoName)
	}
	return i, nil
}

// Encode returns i in its canonical form, checked: it never writes what ParseInfo
// would reject.
func (i Info) Encode() ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", InfoName, err)
	}
	data, err := json.Marshal(&i, jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", InfoName, err)
	}
	return append(data, '\n'), nil
}

var commitPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`) })

func (i Info) check() error {
	if i.SchemaVersion != InfoSchema {
		return fmt.Errorf("schemaVersion is %d, want %d", i.SchemaVersion, InfoSchema)
	}
	if _, err := ParseTag(string(i.Tag)); err != nil {
		return err
	}
	if i.Tag == Latest {
		return fmt.Errorf("tag %q means the newest release and can't be a release's own tag", Latest)
	}
	if i.Commit != "" && !commitPattern().MatchString(i.Commit) {
		return fmt.Errorf("commit %q: want 40 or 64 lower-case hexadecimal digits", clip(i.Commit))
	}
	if err := checkTime("createdAt", i.CreatedAt); err != nil {
		return err
	}
	if err := checkTime("bestBefore", i.BestBefore); err != nil {
		return err
	}
	if !i.BestBefore.After(i.CreatedAt) {
		return errors.New("bestBefore is not after createdAt")
	}
	if len(i.Configurations) == 0 && strings.HasPrefix(string(i.Tag), "boot-") {
		return errors.New("no configurations: no machine could verify this release")
	}
	for n, c := range i.Configurations {
		if err := closure.CheckConfiguration(c); err != nil {
			return err
		}
		if n > 0 && i.Configurations[n-1] >= c {
			return fmt.Errorf("configurations: %q is doubled or out of order", c)
		}
	}
	return nil
}

func checkTime(name string, t time.Time) error {
	if t.Location() != time.UTC || t.Nanosecond() != 0 || t.Year() < 2000 || t.Year() > 9999 {
		return fmt.Errorf("%s %s: want a time in UTC with whole seconds, from the year 2000 on", name, t.Format(time.RFC3339Nano))
	}
	return nil
}

// Has reports whether the release has a manifest of configuration.
func (i Info) Has(configuration string) bool {
	_, ok := slices.BinarySearch(i.Configurations, configuration)
	return ok
}

// jsonError describes a decoding error of untrusted bytes in one line, quoting only a
// little of them.
func jsonError(err error) string {
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		where := clip(string(semantic.JSONPointer))
		switch {
		case errors.Is(semantic.Err, json.ErrUnknownName):
			return fmt.Sprintf("unknown member %q", where)
		case semantic.Err != nil:
			return fmt.Sprintf("at %q: %q", where, clip(semantic.Err.Error()))
		}
		return fmt.Sprintf("at %q: not of the expected kind", where)
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok && syntactic.Err != nil {
		return fmt.Sprintf("at byte %d: malformed JSON (%q)", syntactic.ByteOffset, clip(syntactic.Err.Error()))
	}
	return "malformed JSON"
}
