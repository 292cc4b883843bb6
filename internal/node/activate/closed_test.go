package activate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Nobody moves the profile while it is closed, but Activate.
func TestClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	m, p := newMachine(t)
	dir := filepath.Dir(m.Profile())
	must(t, os.Mkdir(filepath.Join(dir, "per-user"), 0o755)) //nolint:gosec // as Nix has it
	must(t, os.Symlink("/old", m.Profile()))
	t.Cleanup(func() { must(t, m.Open()) })
	// writable are those of the directories that can be written to.
	writable := func() (list []string) {
		for _, name := range []string{".", "per-user", "system-profiles"} {
			probe := filepath.Join(dir, name, "probe")
			err := os.Symlink("/new", probe)
			switch {
			case err == nil:
				list = append(list, name)
				must(t, os.Remove(probe))
			case !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOENT):
				t.Error(err)
			}
		}
		return list
	}
	expect := func(closed bool, want ...string) {
		t.Helper()
		got, err := m.Closed()
		if list := writable(); err != nil || got != closed || len(list) != len(want) || list[len(list)-1] != want[len(want)-1] {
			t.Errorf("closed %v, %v, %q can be written to; want %v, %q", got, err, list, closed, want)
		}
	}
	must(t, m.Open()) // it is
	expect(false, ".", "per-user")
	must(t, m.Close(t.Context()))
	expect(true, "per-user")
	must(t, m.Close(t.Context())) // it stays one mount
	must(t, m.Open())
	expect(false, ".", "per-user")
	must(t, m.Close(t.Context(), "system-profiles"))
	expect(true, "per-user", "system-profiles")
	if err := os.Remove(m.Profile()); !errors.Is(err, unix.EROFS) {
		t.Errorf("the profile can be removed: %v", err)
	}

	// As Nix takes it: /dev/null, whoever has had it before.
	lock := m.Profile() + ".lock"
	for range 2 {
		f, err := os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
		info, err := f.Stat()
		must(t, err)
		if err := os.Remove(lock); err == nil || info.Size() != 0 {
			t.Errorf("the lock can be removed, or has %d bytes", info.Size())
		}
		_, _ = f.WriteString("d")
		f.Close()
	}
	s := begin(t, m)
	for range 2 {
		out, err := s.Activate(t.Context(), p, NowAndBoot, untouched)
		if err != nil || out != (Outcome{1, true}) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	if got, _ := filepath.EvalSymlinks(m.Profile()); got != string(p) {
		t.Errorf("the profile leads to %q", got)
	}
	expect(true, "per-user", "system-profiles")
	must(t, m.Open())
	// Nix would wait for ever for one that is not empty.
	if info, err := os.Lstat(lock); err == nil && info.Size() != 0 {
		t.Errorf("the lock that is left over has %d bytes", info.Size())
	}
}

// What is read only for another reason is neither closed nor opened.
func TestClosedByOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	m, p := newMachine(t)
	state := filepath.Join(m.NixState)
	must(t, unix.Mount("none", state, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(state, unix.MNT_DETACH)) })
	must(t, os.Mkdir(filepath.Dir(m.Profile()), 0o755)) //nolint:gosec // as Nix has it
	must(t, unix.Mount("", state, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if closed, err := m.Closed(); closed || err != nil {
		t.Errorf("closed %v, %v", closed, err)
	}
	must(t, m.Open())
	s := begin(t, m)
	if out, err := s.Activate(t.Context(), p, Boot, untouched); !errors.Is(err, unix.EROFS) || out != (Outcome{}) {
		t.Errorf("%+v, %v", out, err)
	}
}
