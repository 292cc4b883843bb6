package nixstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestPathInfo(t *testing.T) {
	root, name := testRoot(t, "wal")
	a, b, drv := object(1, "a"), object(2, "b"), object(3, "a.drv")
	w := openWriter(t, name)
	w.exec(register(1, a), register(2, b), refer(1, 2), refer(1, 1),
		fmt.Sprintf("update ValidPaths set deriver = '%s', ca = 'fixed:r:sha256:%s', sigs = 'key:c2ln', ultimate = 1 where id = 1", drv, strings.Repeat("0", 52)))
	w.close()

	d := mustOpen(t, root)
	got, err := d.PathInfo(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	hash, _ := nar.ParseHash(hashOf(1))
	want := closure.PathInfo{
		Path: a, NarHash: hash, NarSize: 120, References: []closure.StorePath{a, b},
		Deriver: drv, CA: "fixed:r:sha256:" + strings.Repeat("0", 52),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PathInfo (-want +got):\n%s", diff)
	}
	if got, err := d.PathInfo(t.Context(), b); err != nil || len(got.References) != 0 || got.Deriver != "" || got.CA != "" {
		t.Errorf("PathInfo of a leaf = %+v, %v", got, err)
	}
	if _, err := d.PathInfo(t.Context(), object(9, "x")); !errors.Is(err, ErrNotValid) {
		t.Errorf("PathInfo of an unregistered path: %v, want ErrNotValid", err)
	}
	if _, err := d.PathInfo(t.Context(), "/gnu/store/"+closure.StorePath(a.Base())); err == nil || errors.Is(err, ErrNotValid) {
		t.Errorf("PathInfo of a path of another store: %v", err)
	}
}

func TestClosure(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	for i := 1; i <= 5; i++ {
		w.exec(register(i, object(i, "x")))
	}
	// 1 -> 2 -> 3 -> 1 is a cycle, 4 hangs off 3, 5 is outside.
	w.exec(refer(1, 2), refer(2, 3), refer(3, 1), refer(3, 4), refer(5, 1))
	w.close()

	d := mustOpen(t, root)
	c, malformed, err := d.Closure(t.Context(), object(1, "x"))
	if err != nil || len(malformed) != 0 {
		t.Fatal(err, malformed)
	}
	want := []closure.StorePath{object(1, "x"), object(2, "x"), object(3, "x"), object(4, "x")}
	if diff := cmp.Diff(want, c.Paths()); diff != "" {
		t.Errorf("Closure (-want +got):\n%s", diff)
	}
	if _, _, err := d.Closure(t.Context(), object(7, "x")); !errors.Is(err, ErrNotValid) {
		t.Errorf("Closure of an unregistered path: %v, want ErrNotValid", err)
	}
}

func TestMalformedRows(t *testing.T) {
	for _, tc := range []struct {
		name, sql, field string
	}{
		{"hash of another kind", "update ValidPaths set hash = 'md5:00' where id = 2", "hash"},
		{"hash in base 32", "update ValidPaths set hash = 'sha256:" + strings.Repeat("1", 52) + "' where id = 2", "hash"},
		{"zero hash", "update ValidPaths set hash = 'sha256:" + strings.Repeat("0", 64) + "' where id = 2", "hash"},
		{"hash is a number", "update ValidPaths set hash = 7 where id = 2", "hash"},
		{"negative size", "update ValidPaths set narSize = -1 where id = 2", "narSize"},
		{"size is a text", "update ValidPaths set narSize = 'many' where id = 2", "narSize"},
		{"time is a text", "update ValidPaths set registrationTime = 'now' where id = 2", "registrationTime"},
		{"deriver outside", "update ValidPaths set deriver = '/etc/passwd' where id = 2", "deriver"},
		{"deriver no derivation", "update ValidPaths set deriver = '" + string(object(9, "x")) + "' where id = 2", "deriver"},
		{"ca with a control character", "update ValidPaths set ca = 'fixed:' || char(27) where id = 2", "ca"},
		{"huge signatures", "update ValidPaths set sigs = zeroblob(2000000) where id = 2", "row"},
		{"reference outside", "update ValidPaths set path = '/nix/store/../../etc' where id = 4", "references"},
		{"huge reference", "update ValidPaths set path = zeroblob(2000000) where id = 4", "references"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, name := testRoot(t, "wal")
			w := openWriter(t, name)
			for i := 1; i <= 4; i++ {
				w.exec(register(i, object(i, "x")))
			}
			w.exec(refer(1, 2), refer(2, 3), refer(2, 4), tc.sql)
			w.close()
			d := mustOpen(t, root)

			_, err := d.PathInfo(t.Context(), object(2, "x"))
			var row *RowError
			if !errors.As(err, &row) || row.Field != tc.field || row.Path != string(object(2, "x")) {
				t.Errorf("PathInfo: %v, want a RowError of %s", err, tc.field)
			}
			c, malformed, err := d.Closure(t.Context(), object(1, "x"))
			if err != nil {
				t.Fatal(err)
			}
			if len(malformed) != 1 || malformed[0].Field != tc.field {
				t.Errorf("Closure: malformed = %v, want one of %s", malformed, tc.field)
			}
			if _, ok := c[object(2, "x")]; ok {
				t.Error("Closure holds the malformed path")
			}
			if _, ok := c[object(1, "x")]; !ok {
				t.Error("Closure lost the path before the malformed one")
			}
			if _, ok := c[object(3, "x")]; !ok && tc.field != "row" && tc.field != "registrationTime" && tc.name != "size is a text" && tc.field != "references" {
				t.Error("Closure does not follow the references of the malformed path")
			}
			if strings.ContainsFunc(malformed[0].Error(), func(r rune) bool { return r < ' ' }) || len(malformed[0].Error()) > 1000 {
				t.Errorf("message is not fit to print: %q", malformed[0].Error())
			}
		})
	}
}

func TestRegistered(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	const n = 2*registeredBatch + 7
	w.exec("begin")
	for i := 1; i <= n; i++ {
		w.exec(register(i, object(i, "x")))
	}
	w.exec("commit",
		"update ValidPaths set path = 'nonsense' where id = 5",
		"update ValidPaths set path = zeroblob(2000000) where id = 6")
	w.close()
	d := mustOpen(t, root)

	good, bad := 0, 0
	for p, err := range d.Registered(t.Context()) {
		var row *RowError
		switch {
		case err == nil && p != "":
			good++
		case errors.As(err, &row) && row.Field == "path":
			bad++
		default:
			t.Fatalf("Registered yields %q, %v", p, err)
		}
		// Other questions may be asked meanwhile.
		if _, err := d.PathInfo(t.Context(), object(1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if good != n-2 || bad != 2 {
		t.Errorf("Registered yields %d paths and %d malformed ones, want %d and 2", good, bad, n-2)
	}
	for range d.Registered(t.Context()) {
		break
	}
}

func TestCancel(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	w.exec(register(1, object(1, "x")))
	w.close()
	ctx, cancel := context.WithCancel(t.Context())
	d := mustOpen(t, root)
	cancel()
	if _, err := d.PathInfo(ctx, object(1, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("PathInfo: %v, want Canceled", err)
	}
	if _, _, err := d.Closure(ctx, object(1, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Closure: %v, want Canceled", err)
	}
	for _, err := range d.Registered(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Registered: %v, want Canceled", err)
		}
	}
	if _, err := OpenDatabase(ctx, root, closure.DefaultStoreDir); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenDatabase: %v, want Canceled", err)
	}
	// A query that was cancelled takes its connection with it; the next gets
	// another one.
	if _, err := d.PathInfo(t.Context(), object(1, "x")); err != nil {
		t.Errorf("PathInfo after a cancelled one: %v", err)
	}
}

func TestOpenDatabaseRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, root, db string)
		want string
	}{
		{"no database", func(t *testing.T, root, db string) { remove(t, db) }, "no such file"},
		{"no directory", func(t *testing.T, root, db string) { removeAll(t, filepath.Join(root, "nix/var")) }, "no such file"},
		{"newer schema", func(t *testing.T, root, db string) {
			write(t, filepath.Join(filepath.Dir(db), "schema"), "11\n")
		}, `schema version is "11"`},
		{"no schema", func(t *testing.T, root, db string) { remove(t, filepath.Join(filepath.Dir(db), "schema")) }, "schema: no such file"},
		{"not a database", func(t *testing.T, root, db string) { write(t, db, strings.Repeat("no database ", 1000)) }, "not a database"},
		{"empty file", func(t *testing.T, root, db string) { write(t, db, "") }, "no table"},
		{"cut short", func(t *testing.T, root, db string) {
			if err := os.Truncate(db, 5000); err != nil {
				t.Fatal(err)
			}
		}, "malformed"},
		{"database is a link", func(t *testing.T, root, db string) {
			if err := os.Rename(db, db+".real"); err != nil {
				t.Fatal(err)
			}
			symlink(t, "db.sqlite.real", db)
		}, "not a regular file"},
		{"log is a link", func(t *testing.T, root, db string) { symlink(t, "/etc/passwd", db+"-wal") }, "not a regular file"},
		{"database is a directory", func(t *testing.T, root, db string) {
			remove(t, db)
			if err := os.Mkdir(db, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"directory leads out of the root", func(t *testing.T, root, db string) {
			outside, _ := testRoot(t, "wal")
			removeAll(t, filepath.Join(root, "nix/var/nix/db"))
			symlink(t, filepath.Join(outside, "nix/var/nix/db"), filepath.Join(root, "nix/var/nix/db"))
		}, "no such file"},
		{"directory climbs out of the root", func(t *testing.T, root, db string) {
			outside, _ := testRoot(t, "wal")
			removeAll(t, filepath.Join(root, "nix/var/nix/db"))
			symlink(t, strings.Repeat("../", 30)+outside+"/nix/var/nix/db", filepath.Join(root, "nix/var/nix/db"))
		}, "no such file"},
		{"huge", func(t *testing.T, root, db string) {
			if err := os.Truncate(db, maxDatabaseSize+1); err != nil {
				t.Fatal(err)
			}
		}, "at most"},
		{"table is a view", func(t *testing.T, root, db string) {
			w := openWriter(t, db)
			w.exec("alter table Refs rename to R", "create view Refs as with recursive r(referrer, reference) as (select 1, 1 union all select referrer + 1, 1 from r) select * from r")
			w.close()
		}, "no table Refs"},
		{"column is generated", func(t *testing.T, root, db string) {
			w := openWriter(t, db)
			w.exec("drop table Refs", "create table Refs (referrer integer, x integer, reference integer generated always as (x + 1) virtual)")
			w.close()
		}, "no table Refs with the column reference"},
		{"column is missing", func(t *testing.T, root, db string) {
			w := openWriter(t, db)
			w.exec("alter table ValidPaths drop column ca")
			w.close()
		}, "no table ValidPaths with the column ca"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			root, name := testRoot(t, "wal")
			tc.make(t, root, name)
			d, err := OpenDatabase(t.Context(), root, closure.DefaultStoreDir)
			if err == nil {
				d.Close()
				t.Fatal("OpenDatabase succeeds")
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("OpenDatabase: %v, want one line with %q", err, tc.want)
			}
			if tc.want == "no such file" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("OpenDatabase: %v, want fs.ErrNotExist", err)
			}
			if left, _ := filepath.Glob(filepath.Join(temp, "ec-verify-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCloseRemovesTheCopy(t *testing.T) {
	temp := t.TempDir()
	root, _ := testRoot(t, "wal")
	t.Setenv("TMPDIR", temp)
	d := mustOpen(t, root)
	registeredPaths(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestClosureOfASystem is the size of a small NixOS system.
func TestClosureOfASystem(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	root, name := testRoot(t, "wal")
	const n, refs = 3000, 7
	w := openWriter(t, name)
	w.exec("begin")
	for i := 1; i <= n; i++ {
		w.exec(register(i, object(i, "package-1.0")))
	}
	for i := 1; i <= n; i++ {
		for j := 1; j <= refs; j++ {
			if to := i*refs + j - refs + 1; to <= n {
				w.exec(refer(i, to))
			}
		}
	}
	w.exec("commit")
	w.close()
	start := time.Now()
	d := mustOpen(t, root)
	opened := time.Since(start)
	c, malformed, err := d.Closure(t.Context(), object(1, "package-1.0"))
	if err != nil || len(malformed) > 0 || len(c) != n {
		t.Fatalf("Closure: %d paths, %v, %v", len(c), malformed, err)
	}
	t.Logf("open %v, closure of %d paths %v", opened, len(c), time.Since(start)-opened)
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// TestClosureBound: a closure that takes more memory than any system's is cut, and
// this is said of its root.
func TestClosureBound(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	for i := 1; i <= 200; i++ {
		w.exec(register(i, object(i, "x")))
		if i > 1 {
			w.exec(refer(i-1, i))
		}
	}
	w.close()
	d := mustOpen(t, root)
	d.most = 20_000
	c, malformed, err := d.Closure(t.Context(), object(1, "x"))
	if err != nil || len(c) == 0 || len(c) > 100 || len(malformed) != 1 || malformed[0].Path != string(object(1, "x")) || !strings.Contains(malformed[0].Reason, "was not read") {
		t.Errorf("%d paths, %v, %v", len(c), malformed, err)
	}
}

// TestTemporaryDirectory: if the copy can't be made, the error names the temporary
// directory and not the database.
func TestTemporaryDirectory(t *testing.T) {
	root, name := testRoot(t, "wal")
	w := openWriter(t, name)
	for i := 1; i <= 20; i++ {
		w.exec(register(i, object(i, strings.Repeat("x", 100))))
	}
	w.close()
	temp := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(temp, "none"))
	check := func(want string) {
		t.Helper()
		_, err := OpenDatabase(t.Context(), root, closure.DefaultStoreDir)
		if !errors.Is(err, ErrTemp) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), os.TempDir()) {
			t.Errorf("OpenDatabase: %v", err)
		}
	}
	check("no such file")
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a file system of its own")
	}
	if err := unix.Mount("tmpfs", temp, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(temp, unix.MNT_DETACH) })
	t.Setenv("TMPDIR", temp)
	check("no space left")
}
