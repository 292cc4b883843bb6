package drvdiff

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/closure"
)

const configuration = "ec-runner-x86_64"

func write(t *testing.T, b *builder, root closure.StorePath) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(context.Background(), &out, b.store(), b.graph(root), configuration, root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAsset(t *testing.T) {
	b := newBuilder(t)
	root := b.generate(50, func(i int, env map[string]string) {
		if i == 7 {
			env["binary"] = "caf\xe9"
		}
	})
	data := write(t, b, root)
	if again := write(t, b, root); !bytes.Equal(data, again) {
		t.Error("the same derivations gave other bytes")
	}
	got, err := Read(bytes.NewReader(data), configuration, root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.graph(root), got); diff != "" {
		t.Errorf("it reads back otherwise (-written +read):\n%s", diff)
	}
}

func TestAssetLarge(t *testing.T) {
	b := newBuilder(t)
	data := write(t, b, b.generate(1000, nil))
	t.Logf("1,000 derivations: %d bytes", len(data))
	if len(data) > 1<<20 {
		t.Errorf("%d bytes for 1,000 derivations", len(data))
	}
}

func TestReadRefuses(t *testing.T) {
	b := newBuilder(t)
	root := b.generate(5, nil)
	other := b.make("unneeded", nil, nil)
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := z.DecodeAll(write(t, b, root), nil)
	if err != nil {
		t.Fatal(err)
	}
	unneeded, err := z.DecodeAll(write(t, b, closure.StorePath(other.drv)), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(plain), "\n")
	cases := []struct{ name, text, want string }{
		{"nothing", "", "header: unexpected EOF"},
		{"another configuration", strings.Replace(string(plain), configuration, "other", 1), "header"},
		{"a newer schema", strings.Replace(string(plain), `"schemaVersion":1`, `"schemaVersion":2`, 1), "header"},
		{"an unknown member", strings.Replace(string(plain), `{"path"`, `{"more":1,"path"`, 1), "more"},
		{"another text", strings.Replace(string(plain), "--number=2", "--number=9", 1), "its contents are those of"},
		{"one is missing", lines[0] + strings.Join(lines[2:], ""), "is missing"},
		{"out of order", lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), "is not above"},
		{"twice", lines[0] + lines[1] + lines[1], "is not above"},
		{"cut off", string(plain[:len(plain)-10]), "no end"},
		{"one too many", sorted(lines, strings.SplitAfter(string(unneeded), "\n")[1]), "not needed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(compress(t, c.text)), configuration, root)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
	t.Run("another toplevel", func(t *testing.T) {
		if _, err := Read(bytes.NewReader(compress(t, string(plain))), configuration, closure.StorePath(other.drv)); err == nil {
			t.Error("no error")
		}
	})
	t.Run("not compressed", func(t *testing.T) {
		if _, err := Read(bytes.NewReader(plain), configuration, root); err == nil {
			t.Error("no error")
		}
	})
	t.Run("a bomb", func(t *testing.T) {
		if _, err := Read(bytes.NewReader(compress(t, lines[0]+`{"path":"`+strings.Repeat(" ", maxLine)+`"}`)), configuration, root); err == nil {
			t.Error("no error")
		}
	})
}

// sorted inserts one more line at its place.
func sorted(lines []string, one string) string {
	var b strings.Builder
	b.WriteString(lines[0])
	done := false
	for _, l := range lines[1:] {
		if !done && (l == "" || one < l) {
			b.WriteString(one)
			done = true
		}
		b.WriteString(l)
	}
	return b.String()
}

func compress(t *testing.T, text string) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll([]byte(text), nil)
}
