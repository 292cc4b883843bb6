package hostfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"every.channel/ec-verify/internal/hostfile"
)

// A link is replaced whatever a killed run left, and nothing else is in its directory.
func TestReplaceLink(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "current")
	for _, target := range []string{"a", "b", "c"} {
		if target == "c" {
			if err := os.Symlink("half", filepath.Join(dir, ".tmp-current")); err != nil {
				t.Fatal(err)
			}
		}
		if err := hostfile.ReplaceLink(target, name); err != nil {
			t.Fatal(err)
		}
		got, err := os.Readlink(name)
		entries, listErr := os.ReadDir(dir)
		if err != nil || listErr != nil || got != target || len(entries) != 1 {
			t.Errorf("to %s: leads to %q, beside %d: %v, %v", target, got, len(entries)-1, err, listErr)
		}
	}
}

func TestErrorKeeper(t *testing.T) {
	fault := errors.New("a fault")
	for _, test := range []struct {
		r    io.Reader
		want error
	}{
		{strings.NewReader("whole"), nil},
		{io.MultiReader(strings.NewReader("half"), iotest.ErrReader(fault)), fault},
	} {
		k := &hostfile.ErrorKeeper{R: test.r}
		if _, err := io.ReadAll(k); !errors.Is(err, test.want) || !errors.Is(k.Err, test.want) {
			t.Errorf("%v, kept %v; want %v", err, k.Err, test.want)
		}
	}
}
