package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/rebuild"
)

// Substitute says where missing build inputs are fetched from: true for the substituters
// that Nix is configured with, false for none, or a list of substituters. The zero value
// is false.
type Substitute struct{ rebuild.Substitution }

// maxSubstituters limits the list.
const maxSubstituters = 64

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Substitute) UnmarshalJSON(data []byte) error {
	*s = Substitute{}
	switch jsontext.Value(data).Kind() {
	case 't', 'f':
		return json.Unmarshal(data, &s.Wanted)
	case '[':
		s.Wanted = true
		if err := json.Unmarshal(data, &s.From); err == nil {
			return s.checkList()
		}
	}
	return errors.New("want true, false or a list of substituters")
}

// MarshalJSON implements [json.Marshaler].
func (s Substitute) MarshalJSON() ([]byte, error) {
	if len(s.From) > 0 {
		return json.Marshal(s.From)
	}
	return json.Marshal(s.Wanted)
}

func (s *Substitute) checkList() error {
	if len(s.From) == 0 {
		return errors.New("the list of substituters is empty: want false, or at least one")
	}
	if len(s.From) > maxSubstituters {
		return fmt.Errorf("more than %d substituters", maxSubstituters)
	}
	for _, from := range s.From {
		if err := checkSubstituter(from); err != nil {
			return err
		}
	}
	return nil
}

// checkSubstituter returns an error unless s is, in Nix's notation, a store that can be
// fetched from and whose signatures are checked.
func checkSubstituter(s string) error {
	// Nix takes the list as one string, separated by blanks.
	if len(s) > 2048 || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return fmt.Errorf("%q is not a substituter: it has blanks, or is too long", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a URL", s)
	}
	switch u.Scheme {
	case "http", "https", "file", "s3", "ssh", "ssh-ng":
	default:
		return fmt.Errorf("%q: want http://, https://, file://, s3://, ssh:// or ssh-ng://", s)
	}
	if u.Query().Has("trusted") {
		return fmt.Errorf("%q: a substituter is not trusted without a signature; leave out \"trusted\"", s)
	}
	return nil
}
