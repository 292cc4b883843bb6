package nixstore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/pkg/closure"
)

// damages are what somebody can do to the rows of a database, of the row with a
// number.
var damages = []string{
	"update ValidPaths set hash = 'md5:00' where id = %d",
	"update ValidPaths set hash = x'00ff' where id = %d",
	"update ValidPaths set narSize = 'many' where id = %d",
	"update ValidPaths set narSize = null, deriver = null where id = %d",
	"update ValidPaths set registrationTime = 'now' where id = %d",
	"update ValidPaths set deriver = '/etc/passwd' where id = %d",
	"update ValidPaths set ca = char(27) where id = %d",
	"update ValidPaths set path = '/nix/store/../../etc/' || id where id = %d",
	"update ValidPaths set path = zeroblob(2000000) where id = %d",
	"update ValidPaths set path = cast(path as blob) where id = %d",
	"delete from ValidPaths where id = %d",
	"insert or ignore into Refs values (%[1]d, 4000 + %[1]d)",
	"delete from Refs where referrer = %d",
}

// TestScanIsWalk makes databases by lot, damages them, and holds what reading them
// in whole gives to what looking at one path after the other gives.
func TestScanIsWalk(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			root, name := testRoot(t, "wal")
			w := openWriter(t, name)
			const n = 60
			var asked []closure.PathInfo
			w.exec("pragma foreign_keys = off", "begin")
			for i := 1; i <= n; i++ {
				w.exec(register(i, object(i, "x")))
				if i%3 == 0 {
					asked = append(asked, closure.PathInfo{Path: object(i, "x")})
				}
			}
			for range 2 * n {
				w.exec(strings.Replace(refer(1+random.IntN(n), 1+random.IntN(n)), "insert", "insert or ignore", 1))
			}
			for range int(seed) {
				w.exec(fmt.Sprintf(damages[random.IntN(len(damages))], 1+random.IntN(n)))
			}
			w.exec("commit")
			w.close()
			d := mustOpen(t, root)
			asked = append(asked, closure.PathInfo{Path: object(1, "x")}, closure.PathInfo{Path: object(n+5, "absent")})
			scanned, err := d.scan(t.Context(), object(1, "x"), asked, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			walked, err := d.walk(t.Context(), object(1, "x"), asked, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []*Claims{scanned, walked} {
				slices.SortFunc(c.Malformed, func(a, b *RowError) int { return strings.Compare(a.Path+a.Field, b.Path+b.Field) })
				for _, m := range c.Malformed {
					m.Reason = "" // they word some faults in other ways
				}
			}
			if diff := cmp.Diff(walked, scanned); diff != "" {
				t.Errorf("Claims (-walk +scan):\n%s", diff)
			}
			checkKnown(t, d, walked, object(1, "x"))
			t.Logf("%d in the closure, %d others, %d malformed", len(scanned.Closure), len(scanned.Others), len(scanned.Malformed))
		})
	}
}

// checkKnown has a database scanned for a caller who knows some of what it says already:
// the result is the same, and is the caller's own where that is equal.
func checkKnown(t *testing.T, d *Database, want *Claims, root closure.StorePath) {
	t.Helper()
	var known []closure.PathInfo
	for _, from := range []Registrations{want.Closure, want.Others} {
		for _, p := range slices.Sorted(maps.Keys(from)) {
			info := *from[p]
			switch len(known) % 5 {
			case 1:
				info.NarSize++
			case 2:
				info.References = append(slices.Clone(info.References), object(99, "x"))
			case 3:
				info.Deriver = object(98, "x.drv")
			}
			known = append(known, info)
		}
	}
	before := slices.Clone(known)
	got, err := d.scan(t.Context(), root, known, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Closure, got.Closure); diff != "" {
		t.Errorf("closure, with what the caller knows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Others, got.Others); diff != "" {
		t.Errorf("others, with what the caller knows (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, known); diff != "" {
		t.Errorf("the caller's data changed:\n%s", diff)
	}
	for i := range known {
		for _, of := range []Registrations{got.Closure, got.Others} {
			altered := i%5 >= 1 && i%5 <= 3
			if info := of[known[i].Path]; info != nil && (info == &known[i]) == altered {
				t.Errorf("%s: altered %v, but taken from the caller: %v", known[i].Path, altered, !altered)
			}
		}
	}
}

// TestMisleadingIndex has the index of paths lead to another row than the table: by
// it Nix would find what the table says of another path.
func TestMisleadingIndex(t *testing.T) {
	root, name := testRoot(t, "delete")
	w := openWriter(t, name)
	w.exec(register(1, object(1, "x")), register(2, object(2, "x")), register(3, object(3, "x")), refer(1, 2),
		"pragma writable_schema = on",
		// The index stays as it is while the table is written without it.
		"create table Kept as select name, sql, rootpage from sqlite_schema where name = 'sqlite_autoindex_ValidPaths_1'",
		"update sqlite_schema set sql = replace(sql, 'unique', '') where name = 'ValidPaths'",
		"delete from sqlite_schema where name = 'sqlite_autoindex_ValidPaths_1'")
	w.close()
	w = openWriter(t, name)
	w.exec("update ValidPaths set path = '"+string(object(9, "x"))+"' where id = 2",
		"update ValidPaths set path = '"+string(object(2, "x"))+"' where id = 3",
		"pragma writable_schema = on",
		"update sqlite_schema set sql = replace(sql, 'path             text', 'path             text unique') where name = 'ValidPaths'",
		"insert into sqlite_schema (type, name, tbl_name, rootpage, sql) select 'index', name, 'ValidPaths', rootpage, null from Kept",
		"drop table Kept")
	w.close()
	d := mustOpen(t, root)
	asked := []closure.PathInfo{{Path: object(2, "x")}, {Path: object(3, "x")}, {Path: object(9, "x")}}
	c, err := d.Claims(t.Context(), object(1, "x"), asked, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range c.Malformed {
		got = append(got, m.Path+" "+m.Field)
	}
	for _, known := range asked {
		p := known.Path
		_, inside := c.Closure[p]
		_, outside := c.Others[p]
		if inside || outside {
			t.Errorf("%s is taken for registered", p)
		}
	}
	if len(got) < 2 {
		t.Errorf("malformed: %q", got)
	}
	t.Log(got)
}

// TestTooManyReferences reads a database that is too large to be read in whole.
func TestTooManyReferences(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	w.exec(register(1, object(1, "x")), register(2, object(2, "x")), refer(1, 2),
		fmt.Sprintf("insert into ValidPaths (id, path, hash, registrationTime) values (%d, '%s', '%s', 1)", int64(1)<<40, object(3, "x"), hashOf(3)),
		fmt.Sprintf("insert into Refs values (2, %d)", int64(1)<<40))
	w.close()
	d := mustOpen(t, root)
	if _, err := d.scan(t.Context(), object(1, "x"), nil, 0); err == nil || err.Error() != errTooMany.Error() {
		t.Fatalf("scan: %v, want %v", err, errTooMany)
	}
	c, malformed, err := d.Closure(t.Context(), object(1, "x"))
	if err != nil || len(malformed) > 0 || len(c) != 3 {
		t.Errorf("Closure = %v, %v, %v, want three paths", c, malformed, err)
	}
}
