package release

import (
	"fmt"
	"testing"
	"time"
)

// However many releases are seen, the newest one that ran is not forgotten.
func TestMemoryIsBounded(t *testing.T) {
	m, err := OpenMemory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	for i := range 3 * memoryMost {
		e := Accepted{Tag: Tag(fmt.Sprintf("boot-v%d", i)), CreatedAt: at.AddDate(0, 0, i), Sums: fmt.Sprintf("%064d", i), Seen: i > 9}
		if err := m.remember(t.Context(), e, named); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenMemory(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(again.Accepted()); n != memoryMost {
		t.Errorf("%d are remembered, want %d", n, memoryMost)
	}
	if got, want := again.newest(false).Tag, Tag("boot-v9"); got != want {
		t.Errorf("the newest that ran is %q, want %q", got, want)
	}
	if got, want := again.newest(true).Tag, Tag(fmt.Sprintf("boot-v%d", 3*memoryMost-1)); got != want {
		t.Errorf("the newest is %q, want %q", got, want)
	}
}
