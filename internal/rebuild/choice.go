package rebuild

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/nixstore"
)

// Choice says which derivations of a release are rebuilt.
type Choice string

// The choices. The empty one is None.
const (
	None       Choice = "none"
	Config     Choice = "config"      // those that put the system together: units, etc, the toplevel
	Sample     Choice = "sample"      // a share of all, those rebuilt longest ago
	FirstParty Choice = "first-party" // those that Policy.FirstParty names
	All        Choice = "all"
)

// Choices returns all choices in the order in which they are offered to people.
func Choices() []Choice { return []Choice{None, Config, Sample, FirstParty, All} }

// ParseChoice parses a choice by its name.
func ParseChoice(s string) (Choice, error) {
	for _, c := range Choices() {
		if string(c) == s {
			return c, nil
		}
	}
	return None, fmt.Errorf("%q is not a choice of derivations: want none, config, sample, first-party or all", s)
}

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseChoice].
func (c *Choice) UnmarshalText(text []byte) error {
	parsed, err := ParseChoice(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// Policy says what to rebuild. The zero value rebuilds nothing.
type Policy struct {
	Choice Choice
	// Share is the size of a sample: one in Share of all derivations. Zero means
	// [DefaultShare].
	Share int
	// FirstParty matches the publisher's own derivations.
	FirstParty []Pattern
}

// DefaultShare makes a sample a tenth of all derivations.
const DefaultShare = 10

// Pattern matches derivations by name, "every-channel-*", or by an attribute,
// "src=*-source". "*" stands for any characters but "/", "?" for one and "[a-z]" for one
// of several; see [path.Match].
type Pattern string

// Check reports whether p is well-formed.
func (p Pattern) Check() error {
	attribute, glob, ok := strings.Cut(string(p), "=")
	if !ok {
		glob = attribute
	} else if attribute == "" {
		return fmt.Errorf("pattern %q: no attribute before \"=\"", string(p))
	}
	if glob == "" {
		return errors.New("pattern is empty")
	}
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", string(p), err)
	}
	return nil
}

// Matches reports whether p matches d. A malformed pattern matches nothing.
func (p Pattern) Matches(d *nixstore.Derivation) bool {
	attribute, glob, ok := strings.Cut(string(p), "=")
	value, glob := nameOf(d), glob
	if !ok {
		glob = attribute
	} else if value, ok = d.Env[attribute]; !ok {
		return false
	}
	// A store path is matched by its last component.
	if i := strings.LastIndexByte(value, '/'); i >= 0 {
		value = value[i+1:]
	}
	matched, err := path.Match(glob, value)
	return err == nil && matched
}

// nameOf returns the name of d without ".drv".
func nameOf(d *nixstore.Derivation) string { return strings.TrimSuffix(d.Path.Name(), ".drv") }

// isCheap reports whether d only assembles what others built: it asks to be built where
// it is used. Downloads ask for that too, but they are compared with a hash that they
// state themselves; so do compiler wrappers, but they need the whole compiler. Neither is
// cheap.
func isCheap(c *Candidate, d *nixstore.Derivation) bool {
	return !c.Fixed && !wraps(d) && isLocal(d)
}

// wraps reports whether d is one of the wrappers that nixpkgs puts around compilers and
// linkers (build-support/cc-wrapper, bintools-wrapper).
func wraps(d *nixstore.Derivation) bool {
	if structured, ok := d.Env["__json"]; ok {
		var v struct {
			WrapperName string `json:"wrapperName"`
		}
		return json.Unmarshal([]byte(structured), &v) == nil && v.WrapperName != ""
	}
	return d.Env["wrapperName"] != ""
}

// isLocal reports whether d asks to be built where it is used: it prefers a local build
// or refuses substitutes.
func isLocal(d *nixstore.Derivation) bool {
	if structured, ok := d.Env["__json"]; ok {
		var v struct {
			PreferLocalBuild *bool `json:"preferLocalBuild"`
			AllowSubstitutes *bool `json:"allowSubstitutes"`
		}
		if json.Unmarshal([]byte(structured), &v) != nil {
			return false
		}
		return v.PreferLocalBuild != nil && *v.PreferLocalBuild || v.AllowSubstitutes != nil && !*v.AllowSubstitutes
	}
	allow, stated := d.Env["allowSubstitutes"]
	return d.Env["preferLocalBuild"] == "1" || stated && allow != "1"
}
