package release_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

func TestFreshness(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	best := releasetest.Created.AddDate(0, 0, 90)
	for _, c := range []struct {
		name  string
		now   time.Time
		grace time.Duration
		want  string // "", "note", "expired" or "clock"
	}{
		{"fresh", releasetest.Now, 0, ""},
		{"at bestBefore", best, 0, ""},
		{"past it", best.Add(time.Second), 0, "expired"},
		{"in the grace", best.Add(time.Hour), 2 * time.Hour, "note"},
		{"past the grace", best.Add(3 * time.Hour), 2 * time.Hour, "expired"},
		{"a year past it", best.AddDate(1, 0, 0), 0, "expired"},
		{"publisher's clock a little ahead", releasetest.Created.Add(-time.Hour), 0, ""},
		{"before it was made", releasetest.Created.Add(-48 * time.Hour), 0, "clock"},
		{"1970", time.Unix(0, 0), 0, "clock"},
		{"2000", time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), 0, "clock"},
		{"years ahead", best.AddDate(3, 0, 0), 0, "clock"},
	} {
		r, err := open(t, dir, releasetest.Tag, at(c.now), release.WithGrace(c.grace))
		var clock *release.ClockError
		switch c.want {
		case "", "note":
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if notes := r.Notes(); (len(notes) > 0) != (c.want == "note") {
				t.Errorf("%s: notes %q", c.name, notes)
			}
		case "expired":
			wantReason(t, err, release.ReasonExpired)
		case "clock":
			if !errors.As(err, &clock) || !strings.Contains(err.Error(), c.now.UTC().Format(time.RFC3339)) {
				t.Errorf("%s: error %v, want a ClockError that names the clock", c.name, err)
			}
		}
	}
}

// Whoever tells which release runs takes an old one, and is told its own end.
func TestAnyAge(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	best := releasetest.Created.AddDate(0, 0, 90)
	for _, now := range []time.Time{releasetest.Now, best.Add(time.Hour), best.AddDate(0, 1, 0)} {
		r, err := open(t, dir, releasetest.Tag, at(now), release.WithGrace(2*time.Hour), release.WithAnyAge())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.RefusedAfter(), best.Add(2*time.Hour); !got.Equal(want) {
			t.Errorf("refused after %s, want %s", got, want)
		}
	}
}

func memory(t *testing.T, dir string) *release.Memory {
	t.Helper()
	m, err := release.OpenMemory(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRollback(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	const old, young = releasetest.Tag, release.Tag("boot-v2026.03.05")
	signed(t, dir, releasetest.Spec{Tag: old})
	signed(t, dir, releasetest.Spec{Tag: young, Created: releasetest.Created.AddDate(0, 0, 5)})

	for _, tag := range []release.Tag{old, young, young} {
		if _, err := open(t, dir, tag, release.WithMemory(memory(t, state))); err != nil {
			t.Fatal(err)
		}
	}
	// A new process remembers.
	m := memory(t, state)
	_, err := open(t, dir, old, release.WithMemory(m))
	wantReason(t, err, release.ReasonRolledBack)
	if !strings.Contains(err.Error(), string(young)) || !strings.Contains(err.Error(), "--unsafe-allow-rollback") {
		t.Errorf("the message names neither the newer release nor the way out: %v", err)
	}
	r, err := open(t, dir, old, release.WithMemory(m), release.WithUnsafeRollback())
	if err != nil || len(r.Unsafe()) != 1 || r.Unsafe()[0] != "rollback" {
		t.Errorf("allowed: %v, %v", r, err)
	}
	// Allowing it once does not lower the memory.
	_, err = open(t, dir, old, release.WithMemory(memory(t, state)))
	wantReason(t, err, release.ReasonRolledBack)
	// A rollout lists both.
	for _, tag := range []release.Tag{old, young} {
		if _, err := open(t, dir, tag, release.WithMemory(m), release.WithAccept(old, young)); err != nil {
			t.Error(err)
		}
	}
	_, err = open(t, dir, old, release.WithAccept(young))
	wantReason(t, err, release.ReasonNotAccepted)
	// The memory is a floor for the clock as well.
	var clock *release.ClockError
	if _, err := open(t, dir, young, release.WithMemory(m), at(releasetest.Created)); !errors.As(err, &clock) {
		t.Errorf("a clock before the newest accepted release: %v", err)
	}
}

// A release that was compared with and not run is no way forward that bars the way
// to the one that runs; but what a source offers as the newest is held to it.
func TestProvisional(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	const oldest, old, young = release.Tag("boot-v2026.01.01"), releasetest.Tag, release.Tag("boot-v2026.03.05")
	signed(t, dir, releasetest.Spec{Tag: oldest, Created: releasetest.Created.AddDate(0, 0, -5)})
	signed(t, dir, releasetest.Spec{Tag: old})
	signed(t, dir, releasetest.Spec{Tag: young, Created: releasetest.Created.AddDate(0, 0, 5)})
	look := func(tag release.Tag) (*release.Release, error) {
		t.Helper()
		return open(t, dir, tag, release.WithMemory(memory(t, state)), release.WithProvisional())
	}
	must := func(r *release.Release, err error) *release.Release {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := must(look(old)).Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer := must(look(young))
	// The one that runs is still taken, one before it is not.
	must(look(old))
	_, err := look(oldest)
	wantReason(t, err, release.ReasonRolledBack)
	// Who withholds the newer one is refused, whatever the policy asks for.
	hiding := t.TempDir()
	signed(t, hiding, releasetest.Spec{Tag: old})
	for _, accept := range [][]release.Tag{nil, {release.Latest}} {
		f := finder(t, t.TempDir(), release.NewDirSource(hiding))
		f.Accept = accept
		f.Options = append(f.Options, release.WithMemory(memory(t, state)), release.WithProvisional())
		_, err = f.Find(t.Context(), release.Latest)
		wantReason(t, err, release.ReasonRolledBack)
		if !strings.Contains(err.Error(), "already seen the newer "+string(young)) {
			t.Errorf("it does not say by what: %v", err)
		}
	}
	// Other contents under its name are refused too.
	other := t.TempDir()
	signed(t, other, releasetest.Spec{Tag: young, Created: releasetest.Created.AddDate(0, 0, 5), ImageSize: 5000})
	_, err = open(t, other, young, release.WithMemory(memory(t, state)))
	wantReason(t, err, release.ReasonReplaced)
	// When it was run, the older one is a step back; to see it again is not to
	// have only seen it.
	if err := newer.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(look(young))
	_, err = look(old)
	wantReason(t, err, release.ReasonRolledBack)
	// A step back that was allowed once is none that was confirmed.
	back := must(open(t, dir, oldest, release.WithMemory(memory(t, state)), release.WithProvisional(), release.WithUnsafeRollback()))
	if err := back.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(memory(t, state).Accepted()); n != 2 {
		t.Errorf("%d releases are remembered, want 2", n)
	}
}

func TestReplacedRelease(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	if _, err := open(t, dir, releasetest.Tag, release.WithMemory(memory(t, state))); err != nil {
		t.Fatal(err)
	}
	// A later time of creation does not make it another release.
	for _, created := range []time.Time{releasetest.Created, releasetest.Created.AddDate(0, 0, 5)} {
		signed(t, dir, releasetest.Spec{ImageSize: 5000, Created: created})
		for _, opt := range [][]release.Option{nil, {release.WithAccept(releasetest.Tag)}} {
			_, err := open(t, dir, releasetest.Tag, append(opt, release.WithMemory(memory(t, state)))...)
			wantReason(t, err, release.ReasonReplaced)
		}
	}
}

func TestUnsignedIsNotRemembered(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	signed(t, dir, releasetest.Spec{})
	m := memory(t, state)
	r, err := release.Open(t.Context(), release.NewDirSource(dir), releasetest.Tag, nobody{}, at(releasetest.Now), release.WithMemory(m))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Unsigned() || len(r.Unsafe()) != 1 || len(m.Accepted()) != 0 {
		t.Errorf("unsigned %v, unsafe %v, remembered %v", r.Unsigned(), r.Unsafe(), m.Accepted())
	}
}

func TestDamagedMemoryIsNotEmpty(t *testing.T) {
	for _, data := range []string{"", "{}", "{", `{"schemaVersion":2,"accepted":[]}`, `{"schemaVersion":1,"accepted":[],"x":1}`,
		`{"schemaVersion":1}`, `{"schemaVersion":1,"accepted":null}`, `{"schemaVersion":1,"accepted":[{}]}`,
		`{"schemaVersion":1,"accepted":[{"tag":"boot-v1","createdAt":"2026-02-28T12:00:00Z","sums":""}]}`,
		`{"schemaVersion":1,"accepted":[{"tag":"boot-v1","sums":"` + strings.Repeat("0", 64) + `"}]}`,
	} {
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, "accepted.json"), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := release.OpenMemory(state)
		if err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestMemoryBehindALinkToNowhere(t *testing.T) {
	state := t.TempDir()
	if err := os.Symlink(filepath.Join(state, "not-mounted", "accepted.json"), filepath.Join(state, "accepted.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := release.OpenMemory(state); err == nil {
		t.Error("taken for an empty one")
	}
}

// TestMemoryOfAnotherProcess has another process accept a release after this
// one has read the memory.
func TestMemoryOfAnotherProcess(t *testing.T) {
	dir, other, state := t.TempDir(), t.TempDir(), t.TempDir()
	const young = release.Tag("boot-v2026.03.05")
	signed(t, dir, releasetest.Spec{})
	signed(t, dir, releasetest.Spec{Tag: young, Created: releasetest.Created.AddDate(0, 0, 5)})
	signed(t, other, releasetest.Spec{ImageSize: 5000})
	stale, listed := memory(t, state), memory(t, state)
	if _, err := open(t, dir, releasetest.Tag, release.WithMemory(memory(t, state))); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, other, releasetest.Tag, release.WithMemory(listed), release.WithAccept(releasetest.Tag))
	wantReason(t, err, release.ReasonReplaced)
	if _, err := open(t, dir, young, release.WithMemory(memory(t, state))); err != nil {
		t.Fatal(err)
	}
	_, err = open(t, dir, releasetest.Tag, release.WithMemory(stale))
	wantReason(t, err, release.ReasonRolledBack)
}
