package release

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func testInfo() Info {
	return Info{
		SchemaVersion: 1, Tag: "boot-v1", Commit: strings.Repeat("a", 40),
		CreatedAt:  time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC),
		BestBefore: time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC), Configurations: []string{"a", "b"},
	}
}

func TestInfoRoundTrip(t *testing.T) {
	data, err := testInfo().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseInfo(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.Encode()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("again: %s, %v", again, err)
	}
	if !got.Has("a") || got.Has("c") {
		t.Error("Has")
	}
}

func TestInfoWithoutConfigurations(t *testing.T) {
	info := testInfo()
	info.Configurations = []string{}
	for tag, want := range map[Tag]bool{"boot-v1": false, "boot-": false, "v0.1.0": true} {
		info.Tag = tag
		data, err := info.Encode()
		if err == nil {
			_, err = ParseInfo(data)
		}
		if (err == nil) != want {
			t.Errorf("%s without configurations: %v", tag, err)
		}
	}
}

func TestParseInfoRefuses(t *testing.T) {
	good, err := testInfo().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown version", `"schemaVersion": 1`, `"schemaVersion": 2`, "unknown schema version 2"},
		{"no version", `"schemaVersion": 1,`, ``, "unknown schema version 0"},
		{"unknown member", `"tag"`, `"extra": 1, "tag"`, "unknown member"},
		{"missing member", `  "commit": "` + strings.Repeat("a", 40) + "\",\n", ``, "canonical"},
		{"doubled member", `"tag": "boot-v1"`, `"tag": "boot-v1", "tag": "boot-v2"`, "malformed JSON"},
		{"bad tag", `boot-v1`, `../v1`, "parse tag"},
		{"latest", `boot-v1`, `latest`, "a release's own tag"},
		{"bad commit", strings.Repeat("a", 40), "HEAD", "hexadecimal"},
		{"zone", "2026-02-28T12:00:00Z", "2026-02-28T12:00:00+01:00", "UTC"},
		{"fraction", "2026-02-28T12:00:00Z", "2026-02-28T12:00:00.5Z", "whole seconds"},
		{"zero time", "2026-02-28T12:00:00Z", "0001-01-01T00:00:00Z", "2000"},
		{"order of times", "2026-05-28", "2025-05-28", "not after createdAt"},
		{"no configurations", "[\n    \"a\",\n    \"b\"\n  ]", "[]", "no configurations"},
		{"configurations out of order", `"b"`, `"B"`, "out of order"},
		{"configuration twice", `"b"`, `"a"`, "out of order"},
		{"configuration with a path", `"b"`, `"b/../c"`, "configuration name"},
		{"other spacing", "  ", "\t", "canonical"},
		{"trailing", "}\n", "}\n{}", "malformed JSON"},
		{"not an object", string(good), "[]", "at"},
	} {
		data := strings.ReplaceAll(string(good), c.old, c.new)
		if data == string(good) {
			t.Fatalf("%s: changes nothing", c.name)
		}
		if _, err := ParseInfo([]byte(data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := ParseInfo(bytes.Replace(good, []byte(": 1,"), []byte(": 9,"), 1)); !errors.Is(err, ErrInfoSchema) {
		t.Errorf("unknown schema: %v is no ErrInfoSchema", err)
	}
	if _, err := ParseInfo(make([]byte, MaxInfoSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("large: %v", err)
	}
}

func FuzzParseInfo(f *testing.F) {
	good, err := testInfo().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("Z"), []byte("+01:00"), 1))
	f.Add([]byte(`{"schemaVersion":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseInfo(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("the error has control characters: %q", err)
			}
			return
		}
		again, err := i.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is accepted, but its one form is %q (%v)", data, again, err)
		}
	})
}
