package repository

import (
	"fmt"
	"strings"
	"testing"
)

func TestInterpolate(t *testing.T) {
	contexts := map[string]any{
		"inputs": map[string]any{"tag": "boot-v1", "no": false, "yes": true, "empty": ""},
		"github": map[string]any{"ref_type": "tag", "ref_name": "boot-v2"},
	}
	for text, want := range map[string]any{
		"plain":                           "plain",
		"${{ inputs.tag }}":               "boot-v1",
		"a-${{ inputs.tag }}-${{ 'b' }}":  "a-boot-v1-b",
		"${{ inputs.missing }}":           nil,
		"x${{ inputs.missing }}":          "x",
		"${{ inputs.missing.further }}":   nil,
		"${{ 'it''s' }}":                  "it's",
		"${{ inputs.no }}":                false,
		"${{ !inputs.no }}":               true,
		"${{ inputs.missing == false }}":  true,
		"${{ inputs.no == '' }}":          true,
		"${{ inputs.yes == 'true' }}":     false,
		"${{ 'Tag' == github.ref_type }}": true,
		"${{ format('{0}', inputs.no) != 'false' && 'yes' || 'no' }}":                        "no",
		"${{ format('{0}', inputs.missing) != 'false' && 'yes' || 'no' }}":                   "yes",
		"${{ inputs.empty || (github.ref_type == 'tag' && github.ref_name) || '' }}":         "boot-v2",
		"${{ inputs.tag || github.ref_name }}":                                               "boot-v1",
		"${{ github.ref_type == 'branch' && github.ref_name || '' }}":                        "",
		"${{ always() && inputs.missing != 'yes' }}":                                         true,
		"${{ inputs.empty || (github.ref_type != 'tag' && github.ref_name) || null || 'x'}}": "x",
	} {
		if got, err := Interpolate(text, contexts); err != nil || got != want {
			t.Errorf("%s: %#v, %v, want %#v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"${{ inputs.tag":            "does not end",
		"${{ needs.x }}":            "no context needs",
		"${{ hashFiles('x') }}":     "hashFiles with 1 arguments is not known",
		"${{ 'x }}":                 "not closed",
		"${{ (inputs.tag }}":        "not closed",
		"${{ inputs.tag 'x' }}":     "left over",
		"${{ && }}":                 "neither a value nor a name",
		"${{ format('x' 'y') }}":    "do not end",
		"${{ github.ref_type == }}": "neither a value nor a name",
	} {
		if got, err := Interpolate(text, contexts); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, %v, want an error with %q", text, got, err, want)
		}
	}
}
