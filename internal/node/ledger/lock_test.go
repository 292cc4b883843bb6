package ledger

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOneWriter: a second writer waits for as long as it may, and repeats a failed write
// later.
func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	items := fill(t, dir, 10)
	first := open(t, dir)
	second, err := Open(t.Context(), dir, Options{Wait: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	r := begin(t, second)
	expectItems(t, r, items)
	r.Record(Contents, items[0], Outcome{Result: Drifted})

	release := make(chan struct{})
	held := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := first.write(context.Background(), func(*sql.Tx) error {
			close(held)
			<-release
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-held
	start := time.Now()
	if err := r.Flush(t.Context()); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "200ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("it waited %s, want the 200ms that it says", took)
	}
	if _, err := second.Begin(t.Context(), tool); !errors.Is(err, ErrBusy) {
		t.Errorf("Begin: %v", err)
	}
	// Readers don't wait for a writer that has not begun to write to the file.
	if got := records(t, second)[items[0].Key()].Last.Result; got != Verified {
		t.Errorf("a reader sees %v", got)
	}
	close(release)
	wg.Wait()
	flush(t, r)
	if got := records(t, first)[items[0].Key()].Last.Result; got != Drifted {
		t.Errorf("the first one sees %v", got)
	}
}

// TestTwoRuns: two runs at the same time both get everything down.
func TestTwoRuns(t *testing.T) {
	dir := t.TempDir()
	items := makeItems(200)
	var wg sync.WaitGroup
	for part := range 2 {
		l := open(t, dir)
		wg.Go(func() {
			r, err := l.Begin(context.Background(), tool)
			if err == nil {
				defer r.Close()
				err = r.Expect(context.Background(), Inventory{Tier: Contents, Manifest: release1, Items: items})
			}
			for i := part; err == nil && i < len(items); i += 2 {
				r.Record(Contents, items[i], Outcome{Result: Verified})
				if i%10 == part {
					err = r.Flush(context.Background())
				}
			}
			if err == nil {
				err = r.End(context.Background(), End{Verdict: "verified"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l := open(t, dir)
	if got := len(records(t, l)); got != len(items) {
		t.Errorf("%d of %d results are remembered", got, len(items))
	}
	runs, err := l.Runs(t.Context(), 10)
	if err != nil || len(runs) != 2 || runs[0].End == nil || runs[1].End == nil {
		t.Errorf("%+v, %v", runs, err)
	}
}

// TestSetAsideInUse: a damaged ledger is not taken away from under a process
// that has it open.
func TestSetAsideInUse(t *testing.T) {
	dir := t.TempDir()
	user := open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("damaged by something"), 0o644); err != nil {
		t.Fatal(err)
	}
	var bad *DamagedError
	if _, err := Open(t.Context(), dir, Options{Wait: 100 * time.Millisecond}); !errors.As(err, &bad) || !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	if kept, err := SetAside(dir); err != nil || len(kept) != 0 {
		t.Errorf("set aside: %q, %v", kept, err)
	}
	user.Close()
	l, err := Open(t.Context(), dir, Options{})
	if err != nil || l.SetAside() == "" {
		t.Fatalf("%+v, %v", l, err)
	}
	l.Close()
}

// TestSetAsideRace: of several that find a damaged ledger, one sets it aside
// and all go on with the new one.
func TestSetAsideRace(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte("damaged by something"), 0o644); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		setAside := 0
		for range 4 {
			wg.Go(func() {
				l, err := Open(context.Background(), dir, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
				r, err := l.Begin(context.Background(), tool)
				if err == nil {
					err = r.End(context.Background(), End{})
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if l.SetAside() != "" {
					setAside++
				}
			})
		}
		wg.Wait()
		kept, err := SetAside(dir)
		if err != nil || len(kept) != 1 || setAside != 1 {
			t.Fatalf("set aside %d times: %q, %v", setAside, kept, err)
		}
		if runs, err := open(t, dir).Runs(t.Context(), 10); err != nil || len(runs) != 4 {
			t.Fatalf("%d of 4 runs are in the new ledger: %v", len(runs), err)
		}
	}
}

// TestLockWait: whoever opens a ledger that is being set aside waits, but not
// for ever.
func TestLockWait(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1)
	f, err := os.Open(filepath.Join(dir, ".ledger.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := flock(t.Context(), f, unix.LOCK_EX, 0); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string, Options) (*Ledger, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
		if _, err := open(t.Context(), dir, Options{Wait: 50 * time.Millisecond}); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: got %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := open(ctx, dir, Options{Wait: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
	}
}
