package runlock

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is also a process that holds a lock until its input ends.
func TestMain(m *testing.M) {
	if dir := os.Getenv("RUNLOCK_TEST_HOLD"); dir != "" {
		l, err := Acquire(context.Background(), dir, 0, Self(time.Now()), nil)
		if err != nil || l == nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
		l.Release()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold has another process hold the lock of dir, and returns it and what ends
// it properly.
func hold(t *testing.T, dir string) (*exec.Cmd, func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "hold", "it")
	cmd.Env = append(os.Environ(), "RUNLOCK_TEST_HOLD="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal("the other process did not get the lock")
	}
	return cmd, func() { in.Close(); cmd.Wait() }
}

func acquire(dir string, wait time.Duration) (*Lock, error) {
	return Acquire(context.Background(), dir, wait, Self(time.Now()), nil)
}

func TestSecondRunNamesTheFirst(t *testing.T) {
	dir := t.TempDir()
	began := time.Now().Truncate(time.Second)
	other, end := hold(t, dir)
	_, err := acquire(dir, 0)
	var held *HeldError
	if !errors.As(err, &held) {
		t.Fatalf("Acquire: %v, want a HeldError", err)
	}
	if held.Holder.PID != other.Process.Pid || !strings.HasSuffix(held.Holder.Command, " hold it") || held.Holder.Since.Before(began) || held.Holder.Since.After(time.Now()) {
		t.Errorf("holder %+v, want process %d", held.Holder, other.Process.Pid)
	}
	if h, ok := Look(dir); !ok || h != held.Holder {
		t.Errorf("Look = %+v, %t", h, ok)
	}
	end()
	if h, ok := Look(dir); ok {
		t.Errorf("after its end, Look = %+v", h)
	}
	l, err := acquire(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

func TestKilledHolderLeavesNoLock(t *testing.T) {
	dir := t.TempDir()
	other, _ := hold(t, dir)
	other.Process.Kill()
	other.Wait()
	if _, err := os.Stat(filepath.Join(dir, holderName)); err != nil {
		t.Fatal("the killed process has removed its holder's file: this test shows nothing")
	}
	if h, ok := Look(dir); ok {
		t.Errorf("Look = %+v, of a process that is gone", h)
	}
	l, err := acquire(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

func TestWait(t *testing.T) {
	dir := t.TempDir()
	other, end := hold(t, dir)
	var seen []Holder
	l, err := Acquire(context.Background(), dir, time.Minute, Self(time.Now()), func(h Holder) {
		seen = append(seen, h)
		end()
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
	if len(seen) == 0 || seen[0].PID != other.Process.Pid {
		t.Errorf("it was said to wait for %+v", seen)
	}

	hold(t, dir)
	if _, err := acquire(dir, poll/2); err == nil {
		t.Error("a wait that is over gave the lock")
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Acquire(ctx, dir, time.Hour, Self(time.Now()), func(Holder) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was ended: %v", err)
	}
}

// A run that waited for one whose directory was removed does not take the lock
// that is in no directory any more.
func TestDirectoryReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	_, end := hold(t, dir)
	l, err := Acquire(context.Background(), dir, time.Minute, Self(time.Now()), func(Holder) {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		end()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	var held *HeldError
	if second, err := acquire(dir, 0); !errors.As(err, &held) {
		second.Release()
		t.Errorf("two runs at once: %v", err)
	}
}

func TestHolderIsPipe(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, holderName)
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if h, ok := Look(dir); ok {
			t.Errorf("Look = %+v", h)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a named pipe is waited for")
	}
	held.Close()
	<-done
}

// TestLostText: the text is for people alone.
func TestLostText(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "torn": `{"pid": 1`, "another's": `{"pid":1,"ticks":0}`, "no process": `{"pid":-1}`, "huge": strings.Repeat("[", maxHolder+1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hold(t, dir)
			if err := os.WriteFile(filepath.Join(dir, holderName), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := acquire(dir, 0)
			var held *HeldError
			if !errors.As(err, &held) || held.Holder != (Holder{}) || !strings.Contains(err.Error(), "another process") {
				t.Errorf("Acquire: %v", err)
			}
		})
	}
}

func TestDirectories(t *testing.T) {
	t.Run("is made", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		l, err := acquire(dir, 0)
		if err != nil || l == nil {
			t.Fatalf("Acquire = %v, %v", l, err)
		}
		l.Release()
		info, err := os.Stat(filepath.Join(dir, lockName))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the lock can be opened by others, who could take it: %v, %v", info.Mode(), err)
		}
	})
	t.Run("can't be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := acquire(filepath.Join(file, "dir"), 0)
		if err != nil || l != nil {
			t.Fatalf("Acquire = %v, %v; want no lock and no error", l, err)
		}
		l.Release()
	})
	t.Run("others could open it", func(t *testing.T) {
		dir := t.TempDir()
		name := filepath.Join(dir, lockName)
		if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Chmod(name, 0o666)); err != nil {
			t.Fatal(err)
		}
		l, err := acquire(dir, 0)
		if err != nil || l == nil {
			t.Fatalf("Acquire = %v, %v", l, err)
		}
		l.Release()
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("it is left to others: %v, %v", info.Mode(), err)
		}
	})
	t.Run("others have locked the directory", func(t *testing.T) {
		dir := t.TempDir()
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Fatal(err)
		}
		// Also where nothing can be made in it, as in a read-only one.
		for _, made := range []bool{false, true} {
			if made {
				if err := errors.Join(os.RemoveAll(filepath.Join(dir, lockName)), os.Symlink("nowhere", filepath.Join(dir, lockName))); err != nil {
					t.Fatal(err)
				}
			}
			l, err := acquire(dir, 0)
			if err != nil || made != (l == nil) {
				t.Errorf("Acquire = %v, %v", l, err)
			}
			l.Release()
		}
	})
}

func TestUnitOf(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/system.slice/ec-verify.service\n":                                         "ec-verify.service",
		"12:cpu:/x.service\n0::/user.slice/user-0.slice/session-3.scope\n":             "",
		"1:name=systemd:/a.service\n0::/system.slice/ec-verify-rebuild.service":        "ec-verify-rebuild.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/ec-verify.service": "",
		"0::/\n": "",
		"":       "",
	} {
		if got := unitOf(cgroups); got != want {
			t.Errorf("unitOf(%q) = %q, want %q", cgroups, got, want)
		}
	}
}

// TestDied: a process that ends with the lock is known to have died, until another
// one takes the lock; one that releases it is not.
func TestDied(t *testing.T) {
	dir := t.TempDir()
	l, err := Acquire(t.Context(), dir, 0, Self(time.Now()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, died := Died(dir); died {
		t.Error("a process that runs has died")
	}
	l.Release()
	if _, died := Died(dir); died {
		t.Error("a process that released the lock has died")
	}
	dead := Self(time.Now())
	dead.Ticks++ // another process of the same number
	if err := dead.write(filepath.Join(dir, holderName)); err != nil {
		t.Fatal(err)
	}
	if h, died := Died(dir); !died || h.PID != dead.PID {
		t.Errorf("Died = %v, %v", h, died)
	}
	l, err = Acquire(t.Context(), dir, 0, Self(time.Now()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if h, died := l.Died(); !died || h.PID != dead.PID {
		t.Errorf("Lock.Died = %v, %v", h, died)
	}
	l.Release()
	if _, died := Died(dir); died {
		t.Error("it has died for ever")
	}
}

// TestLookKeepsDiedRun: a died run of the policy is remembered until the next run of the
// policy has the lock, whatever looks come in between.
func TestLookKeepsDiedRun(t *testing.T) {
	dir := t.TempDir()
	dead := Self(time.Now())
	dead.Ticks++ // another process of the same number
	dead.Command = "the policy"
	if err := dead.write(filepath.Join(dir, holderName)); err != nil {
		t.Fatal(err)
	}
	died := func(when string, want bool) {
		t.Helper()
		if h, died := Died(dir); died != want || want && h.Command != dead.Command {
			t.Errorf("%s: Died = %v, %v", when, h, died)
		}
	}
	look := Self(time.Now())
	look.Look = true
	for range 2 {
		l, err := Acquire(t.Context(), dir, 0, look, nil)
		if err != nil {
			t.Fatal(err)
		}
		died("a look is under way", true)
		if h, died := l.Died(); !died || h.Command != dead.Command {
			t.Errorf("Lock.Died = %v, %v", h, died)
		}
		l.Release()
		died("a look has ended", true)
	}
	l, err := Acquire(t.Context(), dir, 0, look, nil)
	if err != nil {
		t.Fatal(err)
	}
	killed := look
	killed.Ticks++
	killed.Died = &dead
	if err := killed.write(l.holder); err != nil {
		t.Fatal(err)
	}
	l.file.Close()
	died("a look has died, too", true)
	if l, err = Acquire(t.Context(), dir, 0, Self(time.Now()), nil); err != nil {
		t.Fatal(err)
	}
	died("the policy is run", false)
	l.Release()
	died("the policy was run", false)
}
