package ledger

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childVar); child != "" {
		if err := runChild(child); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// epoch is when the tests take place.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	tool = "v1.2.3"
	day  = 24 * time.Hour
)

var (
	release1 = Manifest{Tag: "boot-v2026.02.28", SHA256: hashOf("manifest 1")}
	release2 = Manifest{Tag: "boot-v2026.03.05", SHA256: hashOf("manifest 2")}
)

func hashOf(s string) nar.Hash { return nar.Hash(sha256.Sum256([]byte(s))) }

// makeItem returns an item of 100 bytes.
func makeItem(i int) Item {
	const alphabet = "0123456789abcdfghijklmnpqrsvwxyz"
	digest := make([]byte, 32)
	sum := hashOf(fmt.Sprint("path ", i))
	for j := range digest {
		digest[j] = alphabet[sum[j]%32]
	}
	path := fmt.Sprintf("/nix/store/%s-program-%04d-1.2.3", digest, i)
	return Item{Path: closure.StorePath(path), Want: hashOf(path), Cost: 100}
}

func makeItems(n int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = makeItem(i)
	}
	return items
}

// open opens the ledger in dir until the test ends.
func open(t testing.TB, dir string) *Ledger {
	t.Helper()
	return openAt(t, dir, time.Now)
}

func openAt(t testing.TB, dir string, now func() time.Time) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if aside := l.SetAside(); aside != "" {
		t.Fatalf("a ledger was set aside as %s", aside)
	}
	return l
}

func begin(t testing.TB, l *Ledger) *Recorder {
	t.Helper()
	r, err := l.Begin(t.Context(), tool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func expectItems(t testing.TB, r *Recorder, items []Item) {
	t.Helper()
	expectOf(t, r, release1, items)
}

func expectOf(t testing.TB, r *Recorder, m Manifest, items []Item) {
	t.Helper()
	if err := r.Expect(t.Context(), Inventory{Tier: Contents, Manifest: m, Items: items}); err != nil {
		t.Fatal(err)
	}
}

func flush(t testing.TB, r *Recorder) {
	t.Helper()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func end(t testing.TB, r *Recorder) {
	t.Helper()
	if err := r.End(t.Context(), End{Verdict: "verified", Manifest: release1, Configuration: "ec-runner-x86_64"}); err != nil {
		t.Fatal(err)
	}
}

func records(t testing.TB, l *Ledger) Records {
	t.Helper()
	records, err := l.Records(t.Context(), Contents)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// fill makes a ledger in dir with one run that verified n items, and returns
// these.
func fill(t testing.TB, dir string, n int) []Item {
	t.Helper()
	l := open(t, dir)
	defer l.Close()
	r := begin(t, l)
	items := makeItems(n)
	expectItems(t, r, items)
	for _, item := range items {
		r.Record(Contents, item, Outcome{Result: Verified})
	}
	end(t, r)
	return items
}

func fileSize(t testing.TB, l *Ledger) int64 {
	t.Helper()
	info, err := os.Stat(l.File())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
