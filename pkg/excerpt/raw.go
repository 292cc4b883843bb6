package excerpt

import (
	"encoding/base64"
	"errors"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Raw is untrusted text, byte for byte. In JSON it is {"text": …}, or {"base64": …} if
// it is not valid UTF-8.
type Raw string

// NewRaws returns each string of list as a Raw.
func NewRaws(list []string) []Raw {
	var out []Raw
	for _, s := range list {
		out = append(out, Raw(s))
	}
	return out
}

// rawJSON is the form of a Raw in JSON.
type rawJSON struct {
	Text   *string `json:"text,omitzero"`
	Base64 *string `json:"base64,omitzero"`
}

// MarshalJSONTo implements [json.MarshalerTo].
func (r Raw) MarshalJSONTo(e *jsontext.Encoder) error {
	if s := string(r); utf8.ValidString(s) {
		return json.MarshalEncode(e, rawJSON{Text: &s})
	}
	return json.MarshalEncode(e, rawJSON{Base64: new(base64.StdEncoding.EncodeToString([]byte(r)))})
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (r *Raw) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var in rawJSON
	if err := json.UnmarshalDecode(d, &in); err != nil {
		return err
	}
	switch {
	case in.Text != nil && in.Base64 == nil:
		*r = Raw(*in.Text)
	case in.Base64 != nil && in.Text == nil:
		data, err := base64.StdEncoding.DecodeString(*in.Base64)
		if err != nil {
			return errors.New("base64 is malformed")
		}
		*r = Raw(data)
	default:
		return errors.New("want either text or base64")
	}
	return nil
}
