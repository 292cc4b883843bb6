package release

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/pkg/excerpt"
)

// Tag is a publisher's name for a release, such as "boot-v2026.02.28". A Tag from
// [ParseTag] needs no escaping in a URL or a path. The zero value is no tag.
type Tag string

// Latest means the newest release that a source offers, wherever a tag is requested.
// [ParseTag] accepts it like any tag; [Finder.Find] resolves it.
const Latest Tag = "latest"

// LatestPrefix is the prefix of the tags that [Latest] may mean: a forge also has
// releases of other things.
const LatestPrefix = "boot-v"

// Letters, digits and four marks need no escaping anywhere. A leading dot would hide
// the file or name a parent directory; a leading dash would look like a flag.
var tagPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_+][A-Za-z0-9._+-]*$`) })

// ParseTag checks that s is a valid tag: 1 to 128 letters, digits and ". _ - +", not
// beginning with a dot or a dash.
func ParseTag(s string) (Tag, error) {
	if len(s) > 128 || !tagPattern().MatchString(s) {
		return "", fmt.Errorf("parse tag %q: want 1 to 128 letters, digits, '.', '_', '-' and '+', not beginning with '.' or '-'", clip(s))
	}
	return Tag(s), nil
}

// MayBeLatest reports whether [Latest] may mean t: "boot-v" and a number.
func (t Tag) MayBeLatest() bool {
	rest, ok := strings.CutPrefix(string(t), LatestPrefix)
	return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

// compareTags orders tags by their numbers, so that v2026.2.9 comes before
// v2026.2.10, and tags without numbers by their bytes. It only chooses among the tags
// that a forge offers; whether a release is older than an accepted one is decided by
// the signed [Info] alone.
func compareTags(a, b Tag) int {
	x, y := sortKey(a), sortKey(b)
	for x != "" && y != "" {
		var p, q string
		if digit(x[0]) && digit(y[0]) {
			p, x = cutDigits(x)
			q, y = cutDigits(y)
			p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
			if len(p) != len(q) {
				return len(p) - len(q)
			}
		} else {
			p, x = x[:1], x[1:]
			q, y = y[:1], y[1:]
		}
		if c := strings.Compare(p, q); c != 0 {
			return c
		}
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b)) // 1.0 and 1.00
}

// prePattern matches the suffix of a pre-release tag.
var prePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[-.+_](alpha|beta|pre|rc)([^A-Za-z]|$)`) })

// sortKey returns a key by which 1.0-rc1 sorts before 1.0, and 1.0 before everything
// else with that prefix.
func sortKey(t Tag) string {
	return prePattern().ReplaceAllString(string(t), "\x00${1}${2}") + "\x01"
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// clip limits the length of untrusted text on a terminal.
func clip(s string) string { return excerpt.Of(s, 120) }
