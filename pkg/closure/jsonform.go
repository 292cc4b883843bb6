package closure

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// emptyAsNull writes a path info's absent deriver and content address as null,
// as nix path-info --json does, rather than as "".
var emptyAsNull = json.MarshalToFunc(func(e *jsontext.Encoder, p *PathInfo) error {
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

// jsonError renders what the JSON decoder found wrong with an outsider's bytes
// in one line without repeating more than a little of them.
func jsonError(err error) string {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		where := string(semantic.JSONPointer)
		if where == "" {
			where = "/"
		}
		if errors.Is(semantic.Err, json.ErrUnknownName) {
			return fmt.Sprintf("unknown member %s", clip(where))
		}
		if semantic.Err != nil {
			return fmt.Sprintf("at %s: %s", clip(where), clip(semantic.Err.Error()))
		}
		return fmt.Sprintf("at %s: not of the expected kind", clip(where))
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		what := "malformed JSON"
		if syntactic.Err != nil {
			what = clip(syntactic.Err.Error())
		}
		return fmt.Sprintf("at byte %d: %s", syntactic.ByteOffset, what)
	}
	return clip(err.Error())
}
