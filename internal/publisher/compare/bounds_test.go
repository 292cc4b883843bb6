package compare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/pkg/excerpt"
)

// TestNamesTooLong: the names in a directory are bounded by their bytes, also those of
// its directories that are not read yet.
func TestNamesTooLong(t *testing.T) {
	dir := t.TempDir()
	at := dir
	for range 15 {
		at = filepath.Join(at, strings.Repeat("d", 250))
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		name := fmt.Sprintf("%s/%0200d", at, i)
		make := func() error { return os.WriteFile(name, nil, 0o600) }
		if i%2 == 0 {
			make = func() error { return os.Mkdir(name, 0o755) }
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := list(dir); err == nil || !strings.Contains(err.Error(), "take more than") {
		t.Errorf("list = %d names, %v; want it to refuse them", len(names), err)
	}
	names, err := list(filepath.Dir(at))
	if err == nil && len(names) != 5001 || err != nil {
		t.Errorf("list of short names = %d names, %v", len(names), err)
	}
}

// TestLongDifferences: what is listed is bounded by its bytes, and what is not is
// counted.
func TestLongDifferences(t *testing.T) {
	r := &Result{}
	const each = 1 << 20
	for i := range 20 {
		r.in(fmt.Sprint(i)).field("", "references", strings.Repeat("a", each), "")
	}
	if kept := maxListedBytes/each - 1; len(r.Differences) != kept || r.More != 20-kept {
		t.Errorf("%d listed and %d more; want %d and %d", len(r.Differences), r.More, kept, 20-kept)
	}
	if r.Verdict() != Different || r.Primary() != 20 {
		t.Errorf("verdict %s, %d differences", r.Verdict(), r.Primary())
	}
}

// TestLongFailures: so is what is said of what could not be compared, and of what is no
// difference.
func TestLongFailures(t *testing.T) {
	r := &Result{}
	const each = 64 << 10
	for i := range 20 {
		r.fail(fmt.Sprintf("%02d", i), "A", errors.New(strings.Repeat("a", each-2)))
		r.note("%s", strings.Repeat("a", each))
	}
	const kept = maxSaidBytes / each
	if len(r.Failures) != kept || r.MoreFailures != 20-kept || len(r.Notes) != kept || r.MoreNotes != 20-kept {
		t.Errorf("%d failures and %d more, %d notes and %d more; want %d and %d of each",
			len(r.Failures), r.MoreFailures, len(r.Notes), r.MoreNotes, kept, 20-kept)
	}
	alone := &Result{Compared: []excerpt.Raw{"a"}}
	alone.fail("a", "A", errors.New(strings.Repeat("a", 2*maxSaidBytes)))
	if alone.Verdict() != Inconclusive || alone.MoreFailures != 1 {
		t.Errorf("one long failure: %s, %d more", alone.Verdict(), alone.MoreFailures)
	}
}
