package nar_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/nar"
)

// build adds the tree at root to a Builder in the order that HashPath reports.
func build(t *testing.T, root string, entries []nar.Entry) (nar.Sum, []nar.Entry) {
	t.Helper()
	var got []nar.Entry
	b := nar.NewBuilder(func(e nar.Entry) { got = append(got, e) })
	for _, e := range entries {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
		if e.Type == nar.Regular {
			data, err := os.ReadFile(filepath.Join(root, e.Path))
			if err != nil {
				t.Fatal(err)
			}
			for len(data) > 0 { // in pieces
				n := min(len(data), 1000)
				if _, err := b.Write(data[:n]); err != nil {
					t.Fatal(err)
				}
				data = data[n:]
			}
		}
	}
	sum, err := b.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return sum, got
}

func TestBuilderAgreesWithHasher(t *testing.T) {
	dir := t.TempDir()
	script := `mkdir -p tree/a/deep/er tree/empty tree/z; cd tree
echo x >a/deep/er/file; echo y >a-b; echo z >a.b; : >a/empty; seq 1 5000 >z/many; chmod +x z/many
ln -s ../nowhere a/link; printf 12345678 >z/eight; echo n >"$(printf 'caf\351')"; mkdir a/deep/er/none`
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, sub := range []string{"tree", "tree/z/many", "tree/a/link", "tree/empty", "tree/a/empty", "tree/a"} {
		root := filepath.Join(dir, sub)
		var entries []nar.Entry
		want, err := nar.HashPath(context.Background(), root, nar.Options{OnEntry: func(e nar.Entry) error {
			entries = append(entries, e)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		got, listed := build(t, root, entries)
		if got != want {
			t.Errorf("%s: got %v, want %v", sub, got, want)
		}
		if !reflect.DeepEqual(listed, entries) {
			t.Errorf("%s: entries\n got  %v\n want %v", sub, listed, entries)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	dir := func(p string) nar.Entry { return nar.Entry{Path: p, Type: nar.Directory} }
	file := func(p string) nar.Entry { return nar.Entry{Path: p, Type: nar.Regular} }
	for name, entries := range map[string][]nar.Entry{
		"no root":            {file("a")},
		"two roots":          {dir(""), dir("")},
		"in a file":          {file(""), file("a")},
		"doubled":            {dir(""), file("a"), file("a")},
		"out of order":       {dir(""), file("b"), file("a")},
		"back into one":      {dir(""), dir("a"), file("b"), file("a/c")},
		"before its parent":  {dir(""), file("a/b")},
		"below a file":       {dir(""), file("a"), file("a/b")},
		"upwards":            {dir(""), file("..")},
		"an empty name":      {dir(""), dir("a"), file("a/")},
		"a NUL":              {dir(""), file("a\x00")},
		"a device":           {dir(""), {Path: "a"}},
		"too few bytes":      {dir(""), {Path: "a", Type: nar.Regular, Size: 1}, file("b")},
		"a negative size":    {{Type: nar.Regular, Size: -1}},
		"doubled, as a tree": {dir(""), dir("a"), file("a/b"), file("a")},
	} {
		t.Run(name, func(t *testing.T) {
			b := nar.NewBuilder(nil)
			var err error
			for _, e := range entries {
				if err = b.Add(e); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("accepted")
			}
		})
	}
	b := nar.NewBuilder(nil)
	if _, err := b.Sum(); err == nil {
		t.Error("a tree without a root has a sum")
	}
	if err := b.Add(nar.Entry{Type: nar.Regular, Size: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("1234")); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := b.Sum(); err == nil {
		t.Error("a file without its contents has a sum")
	}
	b = nar.NewBuilder(nil)
	_ = b.Add(dir(""))
	_ = b.Add(file("b"))
	if err := b.Add(file("a")); !errors.Is(err, nar.ErrOrder) {
		t.Errorf("got %v, want ErrOrder", err)
	}
}
