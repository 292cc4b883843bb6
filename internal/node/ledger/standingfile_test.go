package ledger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeptStanding: what was kept is there again, or not at all.
func TestKeptStanding(t *testing.T) {
	dir := t.TempDir()
	if _, err := KeptStanding(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	for _, encoded := range []string{"one", strings.Repeat("x", MaxStanding)} {
		if err := KeepStanding(dir, encoded); err != nil {
			t.Fatal(err)
		}
		if got, err := KeptStanding(dir); err != nil || got != encoded {
			t.Errorf("%.20q, %v", got, err)
		}
	}
	if err := KeepStanding(dir, strings.Repeat("x", MaxStanding+1)); err == nil {
		t.Error("a standing without a bound is kept")
	}
	name := filepath.Join(dir, StandingName)
	if err := KeepStanding(dir, "drifted"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(name, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := KeptStanding(dir); err == nil || got != "" || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("of %d bytes: %q, %v", cut, got, err)
		}
		flipped := append([]byte{}, whole...)
		flipped[cut] ^= 4
		if err := os.WriteFile(name, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := KeptStanding(dir); err == nil || got != "" {
			t.Errorf("with byte %d another one: %q", cut, got)
		}
	}
}
