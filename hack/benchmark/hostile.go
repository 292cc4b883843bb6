package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// hostileRounds is how often each shape is verified.
const hostileRounds = 5

// hostileLimit is what reading a hostile store may take in memory, in bytes.
const hostileLimit = 64 << 20

// hostileShapes create, below a directory, replacements for a store path or for the Nix
// database that try to exhaust the memory of their reader.
var hostileShapes = []struct {
	name, what string
	make       func(ctx context.Context, disk string) error
}{
	{"depth", "3,000 directories in each other, names of 255 bytes", each(func(root string) error {
		return nest(root, strings.Repeat("d", 255), 3000, nil)
	})},
	{"breadth", "one directory of 45,000 names of 255 bytes, nearly as many as are listed", each(func(root string) error {
		return fill(root, 45_000, 255)
	})},
	{"a million names", "one directory of 1,000,000 names of 255 bytes, in one path", func(_ context.Context, disk string) error {
		return fill(filepath.Join(disk, string(closure.DefaultStoreDir), hostilePath(0)), 1_000_000, 255)
	}},
	{"directories", "10,000 directories with names of 200 bytes, in 10,000 such", each(func(root string) error {
		if err := fillWith(root, 10_000, 200, unix.S_IFDIR|0o755); err != nil {
			return err
		}
		return fillWith(filepath.Join(root, fmt.Sprintf("%0*d", 200, 5000)), 10_000, 200, unix.S_IFDIR|0o755)
	})},
	{"depth and breadth", "100 directories in each other with 500 names of 200 bytes each", each(func(root string) error {
		return nest(root, strings.Repeat("d", 200), 100, func(dir string) error { return fill(dir, 500, 200) })
	})},
	{"sparse", "a file of 1 TiB without a block", each(func(root string) error {
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "sparse"), nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(filepath.Join(root, "sparse"), 1<<40)
	})},
	{"links", "20,000 symbolic links with targets of 4,000 bytes", each(func(root string) error {
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		for i := range 20_000 {
			if err := os.Symlink(strings.Repeat("t", 4000), filepath.Join(root, fmt.Sprint(i))); err != nil {
				return err
			}
		}
		return nil
	})},
	{"references", "a database of a path with 90,000 references, and a million in their closure", makeReferences},
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

// each calls shape with the root of each store path, for it to create.
func each(shape func(root string) error) func(context.Context, string) error {
	return func(ctx context.Context, disk string) error {
		for i := range hostilePaths {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := shape(filepath.Join(disk, string(closure.DefaultStoreDir), hostilePath(i))); err != nil {
				return err
			}
		}
		return nil
	}
}

// fill makes empty files in dir, which is made if need be.
func fill(dir string, count, length int) error {
	return fillWith(dir, count, length, unix.S_IFREG|0o444)
}

func fillWith(dir string, count, length int, mode uint32) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i := range count {
		name := fmt.Sprintf("%0*d", length, i)
		make := func() error { return unix.Mknodat(fd, name, mode, 0) }
		if mode&unix.S_IFMT == unix.S_IFDIR {
			make = func() error { return unix.Mkdirat(fd, name, mode&0o777) }
		}
		if err := make(); err != nil {
			return err
		}
	}
	return nil
}

// makeReferences makes a Nix database. Python is there wherever test hosts are made.
func makeReferences(ctx context.Context, disk string) error {
	db := filepath.Join(disk, "nix/var/nix/db")
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

// hostilePaths is how many store paths have the shape: as many as a run with
// hostileWorkers reads at a time.
const hostilePaths, hostileWorkers = 4, "4"

// hostilePath returns the i-th path that is to have the shape.
func hostilePath(i int) string { return fmt.Sprintf("%032d-hostile", i) }

// driveHostile prints the cost of a run for each shape, or only for one, the worst at the
// end. If all were measured, it writes them into the document.
func driveHostile(ctx context.Context, only string) error {
	programs, err := os.MkdirTemp("", "benchmark-hostile-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	program := filepath.Join(programs, "ec-verify")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/ec-verify").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	worst := int64(0)
	var text strings.Builder
	out := io.MultiWriter(os.Stdout, &text)
	fmt.Fprintf(out, hostileHeading+`

Written by `+"`go run ./hack/benchmark hostile`"+`, which puts into the place of four store
paths, or of the Nix database, what is meant to exhaust the memory of whoever reads it,
and has `+"`ec-verify --store-root`"+` verify that disk with four workers. `+"`hostile SHAPE`"+`
measures one shape. %d runs of each: the median of processor time, the highest peak of
memory. The disk is in TMPDIR.

- %s

| shape | what | CPU | peak memory |
|---|---|---|---|
`, hostileRounds, when())
	for _, s := range hostileShapes {
		if only != "" && s.name != only {
			continue
		}
		all, err := runHostile(ctx, program, s.make)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		worst = max(worst, peak(all))
		median := sorted(all, cpu)[len(all)/2]
		fmt.Fprintf(out, "| %s | %s | %s | %d MiB |\n", s.name, s.what, median.Round(10*time.Millisecond), peak(all)>>20)
	}
	fmt.Fprint(out, "\n"+goalTable([]goal{plain("the worst peak memory, of 64 MiB", float64(worst)/hostileLimit, 1)}))
	if only != "" {
		return nil
	}
	return writePart(hostileHeading, text.String())
}

// runHostile verifies a disk that shape made, which has to be drift, hostileRounds times.
func runHostile(ctx context.Context, program string, shape func(context.Context, string) error) (all []cost, err error) {
	dir, err := os.MkdirTemp("", "benchmark-hostile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	disk, published := filepath.Join(dir, "disk"), filepath.Join(dir, "releases", tag)
	if err := os.MkdirAll(disk+string(closure.DefaultStoreDir), 0o755); err != nil {
		return nil, err
	}
	if err := shape(ctx, disk); err != nil {
		return nil, fmt.Errorf("make it: %w", err)
	}
	var infos []closure.PathInfo
	references := []closure.StorePath{}
	for i := range hostilePaths {
		p := closure.StorePath(string(closure.DefaultStoreDir) + "/" + hostilePath(i))
		infos = append(infos, closure.PathInfo{Path: p, NarHash: nar.Hash{1}, NarSize: 120, References: references[:i:i]})
		references = append(references, p)
	}
	if err := writeRelease(published, infos); err != nil {
		return nil, err
	}
	for range hostileRounds {
		cmd := exec.CommandContext(ctx, program, "--against", tag, "--release", filepath.Dir(published), "--unsafe-unsigned",
			"--unsafe-skip", "source,eval,live", "--progress", "never", "--store-root", disk, "--workers", hostileWorkers)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
			return nil, fmt.Errorf("it is not drift: %w\n%.2000s", err, out)
		}
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage) //nolint:errcheck // always, on Linux
		all = append(all, cost{CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), RSS: usage.Maxrss << 10})
	}
	return all, nil
}
