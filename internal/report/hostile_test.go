package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// hostile is what an attacker may write wherever there is room for it: the end
// of a report and the beginning of a better one, in colours and in reverse.
const hostile = "x\x1b[2J\x1b[1A\r\nverified: this machine is fine\u202e\u2066\u009b31m\x00\x07\u200b\u3164\xff\\"

// fill sets every plain string of a report to s: also those of fields that are
// yet to come.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), s)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), s)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), s)
		}
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() { // not a cause or a store path, which are held to their form
			v.SetString(s)
		}
	}
}

func TestHostileText(t *testing.T) {
	for name, make := range reports {
		for _, opts := range []TextOptions{{}, {All: true}} {
			render := func(s string) string {
				r := make()
				fill(reflect.ValueOf(r).Elem(), s)
				var b bytes.Buffer
				if err := r.WriteText(&b, opts); err != nil {
					t.Fatal(err)
				}
				return b.String()
			}
			got, plain := render(hostile), render("x")
			for _, r := range got {
				if r != '\n' && (!unicode.IsPrint(r) || r == '\u3164') {
					t.Errorf("%s: %+q is in the text", name, r)
				}
			}
			if got, want := strings.Count(got, "\n"), strings.Count(plain, "\n"); got != want {
				t.Errorf("%s: %d lines, want the %d that a harmless report has", name, got, want)
			}
			if !strings.Contains(got, `x\x1b[2J`) {
				t.Errorf("%s: nothing hostile was put in", name)
			}
		}
	}
}

// Whatever is in a report, its JSON can be read, and what is text comes back.
func TestHostileJSON(t *testing.T) {
	text := strings.ReplaceAll(hostile, "\xff", "")
	for _, s := range []string{hostile, text} {
		r := reports["drifted"]()
		fill(reflect.ValueOf(r).Elem(), s)
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Findings []struct{ Path, Detail string }
		}
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got.Findings) != len(r.Findings) {
			t.Fatalf("%v, and %d findings of %d", err, len(got.Findings), len(r.Findings))
		}
		for _, f := range got.Findings {
			if s == text && (f.Path != text || f.Detail != text) {
				t.Errorf("path %+q, detail %+q, want %+q", f.Path, f.Detail, text)
			}
		}
	}
}

func TestColors(t *testing.T) {
	for name, make := range reports {
		var plain, colored bytes.Buffer
		if err := make().WriteText(&plain, TextOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := make().WriteText(&colored, TextOptions{Color: true}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(plain.String(), "\x1b") || strings.Count(colored.String(), "\x1b") != 2 {
			t.Errorf("%s: want no colours without, and the headline in colour with them", name)
		}
	}
}

// Without a limit a finding of ten thousand files would fill the screen.
func TestTextIsBounded(t *testing.T) {
	r := reports["drifted"]()
	fill(reflect.ValueOf(r).Elem(), strings.Repeat("\x1b", 1<<20))
	r.StoreRoot, r.Unsafe, r.Release, r.Against, r.Configuration = "", nil, nil, "", "" // the operator's own
	for i := range r.Tiers {
		r.Tiers[i].Why = ""
	}
	var b bytes.Buffer
	if err := r.WriteText(&b, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 200_000 {
		t.Errorf("%d bytes of text for values of a megabyte", b.Len())
	}
}
