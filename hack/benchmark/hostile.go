package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// hostileLimit is what reading a hostile store may take in memory, in bytes.
const hostileLimit = 64 << 20

// hostileName is a store path that none of the shapes is.
const hostileName = "00000000000000000000000000000000-hostile"

// hostileShapes make, below a directory, what somebody may put into the place of a
// store path, or of the Nix database, to exhaust the memory of whoever reads it.
var hostileShapes = []struct {
	name, what string
	make       func(ctx context.Context, root string) error
	read       func(ctx context.Context, root string) error
}{
	{"depth", "3,000 directories in each other, names of 255 bytes", func(_ context.Context, root string) error {
		return nest(root, strings.Repeat("d", 255), 3000, nil)
	}, readHostile},
	{"breadth", "one directory of 50,000 names of 200 bytes", func(_ context.Context, root string) error {
		return fill(root, 50_000, 200)
	}, readHostile},
	{"depth and breadth", "100 directories in each other with 500 names of 200 bytes each", func(_ context.Context, root string) error {
		return nest(root, strings.Repeat("d", 200), 100, func(dir string) error { return fill(dir, 500, 200) })
	}, readHostile},
	{"sparse", "a file of 1 TiB without a block", func(_ context.Context, root string) error {
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "sparse"), nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(filepath.Join(root, "sparse"), 1<<40)
	}, readHostile},
	{"links", "20,000 symbolic links with targets of 4,000 bytes", func(_ context.Context, root string) error {
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		for i := range 20_000 {
			if err := os.Symlink(strings.Repeat("t", 4000), filepath.Join(root, fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return nil
	}, readHostile},
	{"references", "a database of a path with 90,000 references, and a million in their closure", makeReferences, readReferences},
}

// nest makes directories in each other; with is called in each that the kernel
// reaches by its whole path.
func nest(root, name string, depth int, with func(dir string) error) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(fd) }()
	for range depth {
		if with != nil {
			if err := with(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
				return err
			}
		}
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			return err
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.Close(fd)
		fd = next
	}
	return nil
}

// fill makes empty files in dir, which is made if need be.
func fill(dir string, count, length int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range count {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%0*d", length, i)))
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// readHostile reads a store path as a run does one of the manifest's: its hash, and
// then, since that is another, which of its files differ.
func readHostile(ctx context.Context, root string) error {
	dir, err := os.Open(filepath.Dir(root))
	if err != nil {
		return err
	}
	defer dir.Close()
	c := closure.NewFileComparison([]nar.Entry{{Type: nar.Directory}})
	for _, onEntry := range []func(nar.Entry) error{nil, func(e nar.Entry) error { c.Add(e); return nil }} {
		h := nar.NewHasher(nar.Options{MaxSize: 1 << 30, OnEntry: onEntry})
		if _, err := h.Sum(ctx, dir, filepath.Base(root)); err != nil && !errors.Is(err, nar.ErrTooLarge) {
			return err
		}
	}
	return nil
}

// makeReferences makes a Nix database. Python is there wherever test hosts are made.
func makeReferences(ctx context.Context, root string) error {
	db := filepath.Join(root, "nix/var/nix/db")
	if err := os.MkdirAll(db, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(db, "schema"), []byte("10"), 0o600); err != nil {
		return err
	}
	const script = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript("""
create table ValidPaths (id integer primary key, path text, hash text, registrationTime integer, deriver text, narSize integer, ultimate integer, sigs text, ca text);
create table Refs (referrer integer, reference integer, primary key (referrer, reference));
create unique index IndexPath on ValidPaths (path);
with recursive n(i) as (select 1 union all select i+1 from n where i < 1000000)
insert into ValidPaths select i, printf('/nix/store/%032d-hostile', i-1), 'sha256:' || printf('%064d', i), 1, null, 100, 0, null, null from n;
with recursive n(i) as (select 2 union all select i+1 from n where i < 90000) insert into Refs select 1, i from n;
with recursive n(i) as (select 2 union all select i+1 from n where i < 999999) insert into Refs select i, i+1 from n;
""")
db.commit()`
	return exec.CommandContext(ctx, "python3", "-c", script, filepath.Join(db, "db.sqlite")).Run()
}

func readReferences(ctx context.Context, root string) error {
	db, err := nixstore.OpenDatabase(ctx, root, closure.DefaultStoreDir)
	if err != nil {
		return err
	}
	defer db.Close()
	_, malformed, err := db.Closure(ctx, closure.StorePath("/nix/store/"+hostileName))
	if err == nil && len(malformed) == 0 {
		return errors.New("a closure of a million paths was read to its end")
	}
	return err
}

// driveHostile prints what each shape takes, the worst at the end.
func driveHostile(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	worst := int64(0)
	fmt.Print("| shape | what | wall | peak memory |\n|---|---|---|---|\n")
	for _, s := range hostileShapes {
		dir, err := os.MkdirTemp("", "benchmark-hostile-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		root := filepath.Join(dir, hostileName)
		if err := s.make(ctx, root); err != nil {
			return fmt.Errorf("make %s: %w", s.name, err)
		}
		start := time.Now()
		cmd := exec.CommandContext(ctx, self, "hostile", s.name, root)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10 //nolint:errcheck // always, on Linux
		worst = max(worst, rss)
		fmt.Printf("| %s | %s | %s | %d MiB |\n", s.name, s.what, time.Since(start).Round(10*time.Millisecond), rss>>20)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	fmt.Print("\n" + goalTable([]goal{plain("the worst peak memory, of 64 MiB", float64(worst)/hostileLimit, 1)}))
	return nil
}

// readShape reads one shape, in a process of its own.
func readShape(ctx context.Context, name, root string) error {
	for _, s := range hostileShapes {
		if s.name == name {
			return s.read(ctx, root)
		}
	}
	return fmt.Errorf("no shape %q", name)
}
