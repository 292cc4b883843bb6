package closure

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/pkg/nar"
)

// emptyAsNull writes absent values as null, as nix path-info --json does, rather than as
// "".
var emptyAsNull = json.JoinMarshalers(pathInfoForm, sourceForm)

var pathInfoForm = json.MarshalToFunc(func(e *jsontext.Encoder, p *PathInfo) error {
	type plain struct {
		Path       StorePath   `json:"path"`
		NarHash    string      `json:"narHash"`
		NarSize    int64       `json:"narSize"`
		References []StorePath `json:"references"`
		Deriver    *StorePath  `json:"deriver"`
		CA         *string     `json:"ca"`
	}
	w := plain{Path: p.Path, NarHash: p.NarHash.String(), NarSize: p.NarSize, References: p.References}
	if p.Deriver != "" {
		w.Deriver = &p.Deriver
	}
	if p.CA != "" {
		w.CA = &p.CA
	}
	return json.MarshalEncode(e, &w)
})

var sourceForm = json.MarshalToFunc(func(e *jsontext.Encoder, s *Source) error {
	type plain struct {
		NarHash     nar.Hash  `json:"narHash"`
		LockNarHash *nar.Hash `json:"lockNarHash"`
		Dir         string    `json:"dir,omitzero"`
	}
	w := plain{NarHash: s.NarHash, Dir: s.Dir}
	if !s.LockNarHash.IsZero() {
		w.LockNarHash = &s.LockNarHash
	}
	return json.MarshalEncode(e, &w)
})

// jsonError describes a JSON decoding error of untrusted bytes in one line, and repeats
// only a little of them. Names are quoted, because they may contain anything.
func jsonError(err error) string {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		where := cmp.Or(string(semantic.JSONPointer), "/")
		if errors.Is(semantic.Err, json.ErrUnknownName) {
			return fmt.Sprintf("unknown member %q", clip(where))
		}
		if semantic.Err != nil {
			return fmt.Sprintf("at %q: %s", clip(where), clip(semantic.Err.Error()))
		}
		return fmt.Sprintf("at %q: not of the expected kind", clip(where))
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		if errors.Is(syntactic.Err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("at byte %d: member %q is there twice", syntactic.ByteOffset, clip(string(syntactic.JSONPointer)))
		}
		what := "malformed JSON"
		if syntactic.Err != nil {
			what = clip(syntactic.Err.Error())
		}
		return fmt.Sprintf("at byte %d: %s", syntactic.ByteOffset, what)
	}
	return clip(err.Error())
}
