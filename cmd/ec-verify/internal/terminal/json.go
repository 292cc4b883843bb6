package terminal

import (
	"encoding/base64"
	"unicode/utf8"
)

// Name is a string of bytes: {"text": …}, or {"base64": …} if it is not valid UTF-8.
type Name struct {
	Text   *string `json:"text,omitzero"`
	Base64 *string `json:"base64,omitzero"`
}

// Raw returns the string; "" for nil.
func (n *Name) Raw() string {
	switch {
	case n == nil:
	case n.Text != nil:
		return *n.Text
	case n.Base64 != nil:
		if raw, err := base64.StdEncoding.DecodeString(*n.Base64); err == nil {
			return string(raw)
		}
		return *n.Base64
	}
	return ""
}

// NewName returns s as a Name.
func NewName(s string) Name {
	if utf8.ValidString(s) {
		return Name{Text: &s}
	}
	b := base64.StdEncoding.EncodeToString([]byte(s))
	return Name{Base64: &b}
}

// NewNames returns each of list as a Name; nil for none.
func NewNames(list []string) []Name {
	var out []Name
	for _, s := range list {
		out = append(out, NewName(s))
	}
	return out
}

// OptionalName returns s as a Name, nil unless it is present.
func OptionalName(s string, present bool) *Name {
	if !present {
		return nil
	}
	n := NewName(s)
	return &n
}

// ValidText is for texts of our own that may quote an outsider's.
func ValidText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s)) // each byte that is none becomes U+FFFD
}

// ValidTexts is ValidText of each of list.
func ValidTexts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = ValidText(s)
	}
	return out
}
