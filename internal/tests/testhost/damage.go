package testhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const database = "/nix/var/nix/db/db.sqlite"

// Damage calls do with the outside path of the file at p, and then restores the
// modification times of p and of its directory, so that only the bytes differ. (The
// change time cannot be restored.)
func (h *Host) Damage(p string, do func(outside string) error) {
	h.t.Helper()
	outside := h.Path(p)
	type moment struct {
		path string
		when time.Time
	}
	var times []moment
	for _, path := range []string{outside, filepath.Dir(outside)} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // do may be about to make it
		}
		if err != nil {
			h.t.Fatalf("damage: %v", err)
		}
		times = append(times, moment{path, info.ModTime()})
	}
	if err := do(outside); err != nil {
		h.t.Fatalf("damage %q: %v", p, err)
	}
	for _, m := range times {
		info, err := os.Lstat(m.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
			continue // removed, or a link, whose time os.Chtimes cannot set
		}
		if err == nil {
			err = os.Chtimes(m.path, time.Time{}, m.when)
		}
		if err != nil {
			h.t.Fatalf("damage: put back a time: %v", err)
		}
	}
}

// FlipByte changes the byte at offset of the file at p, and nothing else of it.
// Doing it again undoes it.
func (h *Host) FlipByte(p string, offset int64) {
	h.t.Helper()
	h.Damage(p, func(outside string) (err error) {
		f, err := os.OpenFile(outside, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		var b [1]byte
		if _, err := f.ReadAt(b[:], offset); err != nil {
			return fmt.Errorf("read byte %d: %w", offset, err)
		}
		b[0] ^= 0xff
		_, err = f.WriteAt(b[:], offset)
		return err
	})
}

// AddFile makes a file at p, whose directory exists, dated as a store's files.
func (h *Host) AddFile(p, content string, mode fs.FileMode) {
	h.t.Helper()
	h.Damage(p, func(outside string) error {
		f, err := os.OpenFile(outside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		_, err = f.WriteString(content)
		return errors.Join(err, f.Chmod(mode), f.Close(), os.Chtimes(outside, time.Time{}, time.Unix(1, 0)))
	})
}

// Remove removes the file or tree at p.
func (h *Host) Remove(p string) {
	h.t.Helper()
	h.Damage(p, os.RemoveAll)
}

// Chmod sets the mode of the file at p.
func (h *Host) Chmod(p string, mode fs.FileMode) {
	h.t.Helper()
	h.Damage(p, func(outside string) error { return os.Chmod(outside, mode) })
}

// SQL runs statements in the host's nix database, as a root who knows sqlite3
// would, and returns what they print.
func (h *Host) SQL(statements string) string {
	h.t.Helper()
	return h.Run("sqlite3", "-bail", "-cmd", ".timeout 10000", database, statements)
}

// NixState returns all that nix keeps as a text: its database row by row, and each file
// under /nix with its type, mode, size and modification time, but not its contents. If two
// are equal, nothing was written in between. It leaves out the daemon's socket, the files
// of the database, and the temporary roots, which newer versions of nix write even when
// they only read.
func (h *Host) NixState() string {
	h.t.Helper()
	return h.SQL(".dump") + "\n" + h.Run("sh", "-euc", `
		find /nix \( -path /nix/var/nix/db -o -path /nix/var/nix/daemon-socket \
			-o -path /nix/var/nix/temproots \) -prune -o \
			-printf '%p %y %m %s %T@ %l\n' | LC_ALL=C sort`)
}

// BreakFile makes reads of the file at p fail with EIO from about its middle on, or from
// its start if it has only a page or two. Size, mode, owner and modification time do not
// change. undo repairs it; so does the end of the host.
func (h *Host) BreakFile(p string) (undo func()) {
	h.t.Helper()
	h.must("break", h.name, p)
	return func() {
		h.t.Helper()
		h.must("mend", h.name, p)
	}
}
