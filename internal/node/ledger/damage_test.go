package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/tests/repeat"
)

// content is the complete contents of a ledger.
type content struct {
	Runs   []Run
	States map[Tier]State
}

func contentOf(ctx context.Context, l *Ledger) (c content, err error) {
	if c.Runs, err = l.Runs(ctx, 2*KeptRuns); err != nil {
		return c, err
	}
	c.States, err = l.States(ctx)
	return c, err
}

// fillAll makes a ledger with something in every table and column.
func fillAll(t testing.TB, dir string) content {
	t.Helper()
	l := open(t, dir)
	defer l.Close()
	items := makeItems(30)
	for run := range 3 {
		r := begin(t, l)
		expectItems(t, r, items)
		if err := r.Expect(t.Context(), Inventory{Tier: Rebuild, Manifest: release2, Items: items[:5]}); err != nil {
			t.Fatal(err)
		}
		for i, item := range items {
			r.Record(Contents, item, Outcome{Result: Result((i + run) % 3), Cause: "a-cause", Took: time.Duration(i) * time.Second})
		}
		r.Record(Rebuild, items[0], Outcome{Result: Verified})
		flush(t, r)
		if run < 2 {
			end(t, r)
			continue
		}
		if err := r.Close(); err != nil { // a run without an end
			t.Fatal(err)
		}
	}
	c, err := contentOf(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sameAfter opens the ledger in dir and reports whether it holds what it held,
// or was set aside. Nothing else may be.
func sameAfter(t *testing.T, dir string, want content) (aside string) {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{})
	var newer *NewerError
	if errors.As(err, &newer) {
		return "newer" // a flipped bit in the version; refused, and said
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := contentOf(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if l.SetAside() != "" {
		if len(got.Runs) != 0 {
			t.Fatalf("a new ledger holds %+v", got)
		}
		return l.SetAside()
	}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("the ledger says something else than was written: -want +got\n%s", cmp.Diff(want, got))
	}
	return ""
}

// TestFlippedBits flips single bits all over a ledger: it says then what was
// written, or it is set aside.
func TestFlippedBits(t *testing.T) {
	source := t.TempDir()
	want := fillAll(t, source)
	whole, err := os.ReadFile(filepath.Join(source, FileName))
	if err != nil {
		t.Fatal(err)
	}
	const header = 8 * 100
	flips := repeat.Times(t, 2*header)
	if testing.Short() {
		flips = 150
	}
	inHeader := min(header, flips/2)
	random := rand.New(rand.NewPCG(5, 6))
	outcomes := make(map[string]int)
	for n := range flips {
		dir := t.TempDir()
		bit := random.IntN(8 * len(whole))
		if n < inHeader { // all over it: each of its bits, but with -short
			bit = n * header / inHeader
		}
		data := bytes.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		aside := sameAfter(t, dir, want)
		switch aside {
		case "":
			outcomes["unharmed"]++
		case "newer":
			outcomes["newer"]++
		default:
			outcomes["set aside"]++
			if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, data) {
				t.Fatalf("bit %d: what was set aside is not what was found: %v", bit, err)
			}
		}
		if t.Failed() {
			t.Fatalf("bit %d of byte %d", bit%8, bit/8)
		}
	}
	if outcomes["unharmed"] == 0 || outcomes["set aside"] == 0 {
		t.Errorf("the flips show nothing: %v", outcomes)
	}
	t.Logf("%d bytes, %d flips: %v", len(whole), flips, outcomes)
}

// TestDamage damages a ledger in one way each.
func TestDamage(t *testing.T) {
	write := func(data string) func(*testing.T, string) {
		return func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	truncate := func(size int64) func(*testing.T, string) {
		return func(t *testing.T, file string) {
			if err := os.Truncate(file, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	sql := func(statements ...string) func(*testing.T, string) {
		return func(t *testing.T, file string) {
			l := open(t, filepath.Dir(file))
			defer l.Close()
			if _, err := l.db.Exec("pragma foreign_keys = 0"); err != nil {
				t.Fatal(err)
			}
			for _, s := range statements {
				if _, err := l.db.Exec(s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
		}
	}
	source := t.TempDir()
	fillAll(t, source)
	whole, err := os.ReadFile(filepath.Join(source, FileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, file string)
		reason string
	}{
		{"text", write("release: boot-v2026.02.28\n"), "header"},
		{"short", write("x"), "1 bytes"},
		{"random", write(strings.Repeat("\x01random", 1000)), ""},
		{"too large", truncate(maxFileSize + 1), "more than a ledger can have"},
		{"cut off", truncate(3 * pageSize), ""},
		{"cut off within a page", truncate(5*pageSize + 100), ""},
		{"write-ahead log", sql("pragma journal_mode = wal"), "header"},
		{"another program's", sql("pragma application_id = 7"), "application id"},
		{"no version", sql("pragma user_version = 0"), "schema version is 0"},
		{"a version below", sql("pragma user_version = -1"), "schema version is -1"},
		{"a table more", sql("create table more (x)"), "tables"},
		{"a table less", sql("drop table runs"), "tables"},
		{"a trigger", sql("create trigger t after insert on runs begin delete from checks; end"), "tables"},
		{"the standing", sql("insert or replace into standing values (1, 'verified', 0)"), "standing"},
		{"a time in a run", sql("update runs set started = started + 1 where id = 1"), "run 1"},
		{"an end taken away", sql("update runs set ended = null where id = 1"), "run 1"},
		{"an end of 1970", sql("update runs set ended = 0 where id = 3"), "run 3"},
		{"a hash of the wrong size", sql("update runs set manifest = x'00' where id = 1"), "1 bytes"},
		{"a time in a check", sql("update checks set at = at + 1000 where item = 1"), "the row of /nix/store/"},
		{"a result", sql("update checks set result = 'verified' where result = 'drifted'"), "the row of /nix/store/"},
		{"no result", sql("update checks set result = 'fine'"), "no result"},
		{"the checks of two items exchanged", sql("update checks set item = 1000 where item = 1", "update checks set item = 1 where item = 4", "update checks set item = 4 where item = 1000"), "the row of /nix/store/"},
		{"a check of nothing", sql("update checks set item = 1000 where item = 1"), "belong to none"},
		{"items of no inventory", sql("update members set inventory = 1000 where item = 2"), "belong to none"},
		{"a member that is no item", sql("update members set item = 1000 where item = 2"), "belong to none"},
		{"an item of another tier", sql("update members set item = (select id from items where tier = 'rebuild') where item = 2 and inventory = 1"), "of another tier"},
		{"an item taken from an inventory", sql("delete from members where item = 2"), "its items of manifest"},
		{"a cost", sql("update members set cost = 0 where item = 2"), "its items of manifest"},
		{"what is wanted", sql("update items set want = zeroblob(32) where id = 2"), ""},
		{"another inventory last", sql("update inventories set run = 99"), "the row of manifest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, FileName)
			if err := os.WriteFile(file, whole, 0o644); err != nil {
				t.Fatal(err)
			}
			test.damage(t, file)
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}

			var bad *DamagedError
			if _, err := OpenReadOnly(t.Context(), dir, Options{}); !errors.As(err, &bad) || !strings.Contains(bad.Reason, test.reason) {
				t.Errorf("OpenReadOnly: got %v, want %q", err, test.reason)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
				t.Errorf("OpenReadOnly changed it: %v", err)
			}

			l, err := Open(t.Context(), dir, Options{Now: func() time.Time { return epoch }})
			if err != nil {
				t.Fatal(err)
			}
			if want := file + ".damaged-20260301T120000Z"; l.SetAside() != want {
				t.Errorf("set aside as %q, want %q", l.SetAside(), want)
			}
			if after, err := os.ReadFile(l.SetAside()); err != nil || !bytes.Equal(before, after) {
				t.Errorf("what was set aside is not what was found: %v", err)
			}
			if got := records(t, l); len(got) != 0 {
				t.Errorf("the new ledger remembers %v", got)
			}
			end(t, begin(t, l))
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			open(t, dir) // fails for one that is set aside
		})
	}
}

// TestSetAsideTwice: names don't collide, and their number is bounded.
func TestSetAsideTwice(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Now: func() time.Time { return epoch }}
	damage := func() {
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte("damaged by something"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for n := range keptAside {
		damage()
		l, err := Open(t.Context(), dir, opts)
		if err != nil {
			t.Fatalf("time %d: %v", n+1, err)
		}
		l.Close()
	}
	damage()
	_, err := Open(t.Context(), dir, opts)
	var bad *DamagedError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), fmt.Sprint(keptAside, " damaged ledgers are kept already")) {
		t.Errorf("got %v", err)
	}
	kept, err := SetAside(dir)
	if err != nil || len(kept) != keptAside {
		t.Errorf("kept: %q, %v", kept, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, FileName)); err != nil || string(data) != "damaged by something" {
		t.Errorf("the last one: %q, %v", data, err)
	}
}

// TestSetAsideJournal: what the journal of a damaged ledger holds is evidence
// as well, and must not be rolled back into the new one.
func TestSetAsideJournal(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, FileName)
	for name, data := range map[string]string{file: "damaged by something", file + "-journal": "journal"} {
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if data, err := os.ReadFile(l.SetAside() + "-journal"); err != nil || string(data) != "journal" {
		t.Errorf("the journal: %q, %v", data, err)
	}
	if _, err := os.Stat(file + "-journal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new ledger has the old journal: %v", err)
	}
	if kept, err := SetAside(dir); err != nil || len(kept) != 1 {
		t.Errorf("kept: %q, %v", kept, err)
	}
}

// TestNewer: a ledger of a newer program is refused by its version and left as
// it is.
func TestNewer(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for _, s := range []string{"create table future (x)", fmt.Sprint("pragma user_version = ", schemaVersion+1)} {
		if _, err := l.db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	before, err := os.ReadFile(l.File())
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string, Options) (*Ledger, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
		_, err := open(t.Context(), dir, Options{})
		var newer *NewerError
		if !errors.As(err, &newer) || newer.Version != schemaVersion+1 || !strings.Contains(err.Error(), "schema version 3, this program reads 2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if after, err := os.ReadFile(l.File()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed: %v", err)
	}
	if kept, err := SetAside(dir); err != nil || len(kept) != 0 {
		t.Errorf("set aside: %q, %v", kept, err)
	}
}

// TestNoFile: what is no regular file is neither read nor set aside.
func TestNoFile(t *testing.T) {
	for name, make := range map[string]func(file string) error{
		"directory": func(file string) error { return os.Mkdir(file, 0o755) },
		"link":      func(file string) error { return os.Symlink("/dev/null", file) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := make(filepath.Join(dir, FileName)); err != nil {
				t.Fatal(err)
			}
			var bad *DamagedError
			if l, err := Open(t.Context(), dir, Options{}); err == nil || errors.As(err, &bad) {
				t.Errorf("got %v, %v", l, err)
			}
			if kept, _ := SetAside(dir); len(kept) != 0 {
				t.Errorf("set aside: %q", kept)
			}
		})
	}
}

// TestEmptyFile: a ledger that was made and not written yet is an empty one.
func TestEmptyFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReadOnly(t.Context(), dir, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	fill(t, dir, 1)
}
