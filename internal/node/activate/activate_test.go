package activate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// scriptFunc is a [Script] that goes on in no process.
type scriptFunc func(program, action string) error

func (scriptFunc) Busy(context.Context) error { return nil }

func (scriptFunc) Prepare(context.Context) error { return nil }

func (f scriptFunc) Run(_ context.Context, program, action string) error { return f(program, action) }

// unprepared is a [Script] that can write to nothing.
type unprepared struct {
	Script
	err error
}

func (u unprepared) Prepare(context.Context) error { return u.err }

// newMachine returns a machine below a directory, and a system in its store.
func newMachine(t *testing.T) (*Machine, closure.StorePath) {
	t.Helper()
	root := t.TempDir()
	m := &Machine{NixState: filepath.Join(root, "var/nix"), Run: filepath.Join(root, "run")}
	p := closure.StorePath(filepath.Join(root, "store", strings.Repeat("a", 32)+"-nixos-system"))
	for _, dir := range []string{filepath.Dir(m.Profile()), m.Run, filepath.Join(string(p), "bin")} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(string(p), script), []byte("#!/bin/sh\n"), 0o755)) //nolint:gosec // a program
	m.Script = scriptFunc(func(program, action string) error {
		if program != filepath.Join(string(p), script) {
			return fmt.Errorf("%s was run", program)
		}
		if action == "boot" {
			return nil
		}
		return hostfile.ReplaceLink(string(p), m.CurrentSystem())
	})
	return m, p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, m *Machine) *Switch {
	t.Helper()
	s, err := Begin(t.Context(), m)
	must(t, err)
	t.Cleanup(func() { s.End() })
	return s
}

func untouched() bool { return true }

func TestActivate(t *testing.T) {
	for _, test := range []struct {
		action         Action
		profile, runs  bool
		before, number int // generations
	}{
		{NowAndBoot, true, true, 0, 1},
		{NowAndBoot, true, true, 41, 42},
		{Boot, true, false, 1, 2},
		{Test, false, true, 1, 0},
	} {
		t.Run(fmt.Sprint(test.action, test.before), func(t *testing.T) {
			m, p := newMachine(t)
			if test.before > 0 {
				must(t, os.Symlink("/old", fmt.Sprintf("%s-%d-link", m.Profile(), test.before)))
				// What is no generation counts as none.
				for _, name := range []string{"system-99", "system-099-link", "system--7-link", "system-99999999999999999999-link", "per-user-99-link"} {
					must(t, os.Symlink("/none", filepath.Join(filepath.Dir(m.Profile()), name)))
				}
			}
			must(t, os.Symlink("/old", m.Profile()))
			s := begin(t, m)
			for range 2 { // the second time it is that generation already
				out, err := s.Activate(t.Context(), p, test.action, untouched)
				if err != nil || out != (Outcome{test.number, true}) {
					t.Fatalf("%+v, %v", out, err)
				}
			}
			if got, _ := filepath.EvalSymlinks(m.Profile()); (got == string(p)) != test.profile {
				t.Errorf("the profile leads to %q", got)
			}
			if got, _ := os.Readlink(m.CurrentSystem()); (got == string(p)) != test.runs {
				t.Errorf("%q runs", got)
			}
			if _, err := os.Lstat(m.Profile() + ".lock"); !os.IsNotExist(err) {
				t.Error("the profile's lock is left over")
			}
		})
	}
}

// Whatever fails, the outcome says how far it came, and what comes later is not done.
func TestActivateFails(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name  string
		do    func(m *Machine, p closure.StorePath) func() bool
		want  string
		wants Outcome
	}{
		{"touched", func(*Machine, closure.StorePath) func() bool { return func() bool { return false } }, "touched", Outcome{}},
		{"no script", func(_ *Machine, p closure.StorePath) func() bool {
			os.Remove(filepath.Join(string(p), script))
			return untouched
		}, "can't be switched to", Outcome{}},
		{"no program", func(_ *Machine, p closure.StorePath) func() bool {
			os.Chmod(filepath.Join(string(p), script), 0o444)
			return untouched
		}, "not a program", Outcome{}},
		{"no profile", func(m *Machine, _ closure.StorePath) func() bool {
			os.RemoveAll(filepath.Dir(m.Profile()))
			return untouched
		}, "lock ", Outcome{}},
		{"nowhere to write to", func(m *Machine, _ closure.StorePath) func() bool {
			m.Script = unprepared{m.Script, broken}
			return untouched
		}, "broken", Outcome{}},
		{"the script fails", func(m *Machine, _ closure.StorePath) func() bool {
			m.Script = scriptFunc(func(string, string) error { return broken })
			return untouched
		}, "broken", Outcome{Generation: 1}},
		{"the script does nothing", func(m *Machine, _ closure.StorePath) func() bool {
			m.Script = scriptFunc(func(string, string) error { return nil })
			return untouched
		}, "ended well, but", Outcome{Generation: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, p := newMachine(t)
			ask := test.do(m, p)
			out, err := begin(t, m).Activate(t.Context(), p, NowAndBoot, ask)
			if err == nil || !strings.Contains(err.Error(), test.want) || out != test.wants {
				t.Errorf("%+v, %v; want %+v, %s", out, err, test.wants, test.want)
			}
			if _, err := os.Lstat(m.Profile()); os.IsNotExist(err) != (test.wants.Generation == 0) {
				t.Errorf("the profile: %v", err)
			}
		})
	}
}

func TestBeginLog(t *testing.T) {
	for _, test := range []struct {
		name  string
		make  func(name string) error
		works bool
	}{
		{"none", func(string) error { return nil }, true},
		{"an old one", func(name string) error { return os.WriteFile(name, []byte("old"), 0o600) }, true},
		{"a link", func(name string) error { return os.Symlink("elsewhere", name) }, false},
		{"a pipe", func(name string) error { return unix.Mkfifo(name, 0o600) }, false},
		{"a directory", func(name string) error { return os.Mkdir(name, 0o700) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "switch.log")
			must(t, test.make(name))
			err := (&unitScript{log: name}).beginLog()
			if (err == nil) != test.works {
				t.Error(err)
			}
			if info, _ := os.Stat(name); test.works && (info == nil || info.Size() != 0) {
				t.Errorf("%v", info)
			}
		})
	}
}

func TestUnchanged(t *testing.T) {
	for name, changes := range map[string]bool{
		Unit:                            true,
		Unit + ".d/x.conf":              true,
		"ec-verify-.service.d/x.conf":   true,
		"ec-.service.d/x.conf":          true,
		Unit + ".d/README":              false,
		"service.d/x.conf":              false,
		"ec-verify-refresh.service":     false,
		"ec-verify.service.d/user.conf": false,
	} {
		dirs := []string{filepath.Join(t.TempDir(), "none"), t.TempDir()}
		at := filepath.Join(dirs[1], name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		must(t, os.Symlink("/dev/null", at)) // as systemctl mask does
		if err := unchangedIn(dirs); (err != nil) != changes {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeginExcludesOthers(t *testing.T) {
	m, _ := newMachine(t)
	s := begin(t, m)
	var held *HeldError
	if _, err := Begin(t.Context(), m); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("a second one: %v", err)
	}
	must(t, s.End())
	if info, err := os.Stat(s.lock.Name()); err != nil || info.Size() != 0 {
		t.Errorf("the lock still names a process: %v", err)
	}
	name := filepath.Join(m.Run, scriptLockName)
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	if taken, err := hostfile.TryLock(f, unix.LOCK_EX); !taken || err != nil {
		t.Fatal(taken, err)
	}
	if _, err := Begin(t.Context(), m); !errors.As(err, &held) || held.Lock != name {
		t.Errorf("beside NixOS's own: %v", err)
	}
}

// A root is only made while no collection can have missed it.
func TestHold(t *testing.T) {
	m, p := newMachine(t)
	s := begin(t, m)
	gc, err := os.Create(filepath.Join(m.NixState, "gc.lock"))
	must(t, err)
	if taken, err := hostfile.TryLock(gc, unix.LOCK_EX); !taken || err != nil {
		t.Fatal(taken, err)
	}
	root := filepath.Join(m.NixState, "gcroots", rootName)
	if err := s.Hold(t.Context(), p); err == nil || !strings.Contains(err.Error(), "a garbage collection has been running") {
		t.Errorf("while garbage is collected: %v", err)
	}
	if _, err := os.Lstat(root); err == nil {
		t.Error("there is a root")
	}
	gc.Close()
	must(t, os.MkdirAll(filepath.Dir(root), 0o755))
	must(t, os.Symlink("/left", root)) // by one that was killed
	must(t, s.Hold(t.Context(), p))
	if got, _ := os.Readlink(root); got != string(p) {
		t.Errorf("the root leads to %q", got)
	}
	must(t, s.End())
	if _, err := os.Lstat(root); !os.IsNotExist(err) {
		t.Errorf("the root is left over: %v", err)
	}
}

// A candidate is protected until another one or a switch takes its place, and only if the
// garbage collector finds what protects it.
func TestHoldCandidate(t *testing.T) {
	m, p := newMachine(t)
	m.First = "/"
	other := p + "-other"
	root := filepath.Join(m.NixState, "gcroots", candidateRootName)
	leads := func(want string) {
		t.Helper()
		if got, _ := os.Readlink(root); got != want {
			t.Errorf("the root leads to %q, want %q", got, want)
		}
		if names, err := os.ReadDir(filepath.Dir(root)); err == nil && len(names) > 1 {
			t.Errorf("there is more: %v", names)
		}
	}
	hold := func(p closure.StorePath) *CandidateRoot {
		t.Helper()
		r, err := HoldCandidate(t.Context(), m, p)
		must(t, err)
		leads(string(p))
		return r
	}
	must(t, os.MkdirAll(filepath.Dir(root), 0o755))
	must(t, os.Symlink("/left", root)) // by one that was killed
	r := hold(p)
	if _, err := HoldCandidate(t.Context(), m, other); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("by process %d ", os.Getpid())) {
		t.Errorf("a second one at a time: %v", err)
	}
	leads(string(p))
	must(t, r.End())
	leads("")

	keep := func(r *CandidateRoot) {
		t.Helper()
		if link, err := r.Keep(); err != nil || link != root {
			t.Errorf("kept by %q: %v", link, err)
		}
		must(t, r.End())
	}
	keep(hold(p))
	leads(string(p))
	keep(hold(other))
	leads(string(other))

	// A switch to another system leaves it, and so does one that fails.
	s := begin(t, m)
	_, err := s.Activate(t.Context(), p, NowAndBoot, func() bool { return true })
	must(t, err)
	must(t, s.End())
	leads(string(other))
	keep(hold(p))
	s = begin(t, m)
	if _, err = s.Activate(t.Context(), p, NowAndBoot, func() bool { return false }); !errors.Is(err, ErrTouched) {
		t.Error(err)
	}
	must(t, s.End())
	leads(string(p))
	// One while a candidate is judged leaves that one's.
	r = hold(p)
	s = begin(t, m)
	_, err = s.Activate(t.Context(), p, NowAndBoot, func() bool { return true })
	must(t, err)
	must(t, s.End())
	leads(string(p))
	keep(r)
	s = begin(t, m)
	_, err = s.Activate(t.Context(), p, NowAndBoot, func() bool { return true })
	must(t, err)
	must(t, s.End())
	leads("")

	r = hold(p)
	must(t, os.Remove(root))
	must(t, os.Symlink("/elsewhere", root))
	if link, err := r.Keep(); err == nil || link != "" {
		t.Errorf("kept by %q, which was replaced", link)
	}
	must(t, r.End())
	leads("/elsewhere")
}

// What the garbage collector does not find, or others can take away, protects nothing.
func TestNoRoot(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, m *Machine, dir string){
		"a directory of that name": func(t *testing.T, m *Machine, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, candidateRootName, "x"), 0o755))
		},
		"the directory is a link": func(t *testing.T, m *Machine, dir string) {
			must(t, os.MkdirAll(dir+"-real", 0o755))
			must(t, os.Symlink(dir+"-real", dir))
		},
		"the directory is a file": func(t *testing.T, m *Machine, dir string) { must(t, os.WriteFile(dir, nil, 0o600)) },
		"others can write to it": func(t *testing.T, m *Machine, dir string) {
			must(t, os.MkdirAll(dir, 0o755))
			must(t, os.Chmod(dir, 0o777))
		},
		"the first process sees another": func(t *testing.T, m *Machine, dir string) { m.First = t.TempDir() },
		"there is no Nix":                func(t *testing.T, m *Machine, dir string) { must(t, os.RemoveAll(m.NixState)) },
		"/run is a file": func(t *testing.T, m *Machine, dir string) {
			must(t, os.RemoveAll(m.Run))
			must(t, os.WriteFile(m.Run, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, p := newMachine(t)
			m.First = "/"
			dir := filepath.Join(m.NixState, "gcroots")
			do(t, m, dir)
			r, err := HoldCandidate(t.Context(), m, p)
			if err == nil {
				t.Fatalf("%s protects it", r.link)
			}
			if found, _ := filepath.Glob(filepath.Join(m.NixState, "gcroots*", "*"+candidateRootName)); len(found) > 1 || len(found) == 1 && name != "a directory of that name" {
				t.Errorf("%v, but there is %v", err, found)
			}
			if lock, taken, err := m.lockRun(candidateLockName); name != "/run is a file" && (err != nil || !taken) {
				t.Errorf("the lock stays: %v", err)
			} else if err == nil {
				lock.Close()
			}
		})
	}
}

// A lock that Nix let go of is none, though who waited for it gets it.
func TestProfileLockOfNix(t *testing.T) {
	m, _ := newMachine(t)
	must(t, os.WriteFile(m.Profile()+".lock", []byte("d"), 0o600))
	done := time.AfterFunc(300*time.Millisecond, func() { os.Remove(m.Profile() + ".lock") })
	defer done.Stop()
	l, err := lockProfile(t.Context(), m.Profile())
	must(t, err)
	if info, err := l.lock.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("a lock that was let go of is taken: %v, %v", info, err)
	}
	l.unlock()
}

func TestRecheck(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root writes to what is sealed as a store's objects are")
	}
	root := t.TempDir()
	dir, err := closure.ParseStoreDir(filepath.Join(root, "store"))
	must(t, err)
	p, err := dir.ParseBase(strings.Repeat("a", 32) + "-tree")
	must(t, err)
	at := func(name string) string { return filepath.Join(string(p), name) }
	must(t, os.MkdirAll(at("sub"), 0o755))
	must(t, os.WriteFile(at("sub/file"), []byte("content"), 0o644)) //nolint:gosec // of a store
	must(t, os.WriteFile(at("other"), []byte("content"), 0o644))    //nolint:gosec // of a store
	must(t, os.Symlink("sub", at("link")))
	seal := func(dirs, files os.FileMode) {
		must(t, os.Chmod(string(p), dirs))
		must(t, os.Chmod(at("sub"), dirs))
		for _, name := range []string{"sub/file", "other"} {
			must(t, os.Chmod(at(name), files))
		}
	}
	seal(0o555, 0o444)
	aside := filepath.Join(root, "aside")
	var times unix.Stat_t
	must(t, unix.Stat(at("sub/file"), &times))
	// as it was, but for the change time
	restore := func(name string) {
		must(t, unix.UtimesNano(name, []unix.Timespec{times.Atim, times.Mtim}))
	}
	for _, test := range []struct {
		name    string
		do      func()
		undo    func()
		altered bool
	}{
		{"nothing", func() {}, nil, false},
		{"bytes, size and times kept", func() {
			must(t, os.WriteFile(at("sub/file"), []byte("CONTENT"), 0o600))
			restore(at("sub/file"))
		}, func() { must(t, os.WriteFile(at("sub/file"), []byte("content"), 0o600)) }, true},
		{"a file is replaced", func() {
			must(t, os.WriteFile(aside, []byte("CONTENT"), 0o600))
			must(t, os.Rename(aside, at("sub/file")))
		}, func() { must(t, os.WriteFile(at("sub/file"), []byte("content"), 0o600)) }, true},
		{"the path is swapped", func() {
			must(t, os.Rename(string(p), aside))
			must(t, os.MkdirAll(string(p), 0o755))
		}, func() { must(t, os.Remove(string(p))); must(t, os.Rename(aside, string(p))) }, true},
		{"the path is gone", func() { must(t, os.Rename(string(p), aside)) }, func() { must(t, os.Rename(aside, string(p))) }, true},
		{"executable", func() { must(t, os.Chmod(at("sub/file"), 0o555)) }, nil, true},
		{"writable", func() { must(t, os.Chmod(at("sub/file"), 0o666)) }, nil, true},
		{"a file more", func() { must(t, os.WriteFile(at("sub/more"), nil, 0o600)) }, func() { must(t, os.Remove(at("sub/more"))) }, true},
		{"swapped and swapped back", func() {
			must(t, os.Rename(string(p), aside))
			must(t, os.Rename(aside, string(p)))
		}, nil, false},
		{"a hard link", func() { must(t, os.Link(at("sub/file"), aside)) }, func() { must(t, os.Remove(aside)) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, err := nixstore.OpenStore("", dir)
			must(t, err)
			defer store.Close()
			sum, err := nar.HashPath(t.Context(), string(p), nar.Options{})
			must(t, err)
			want := []closure.PathInfo{{Path: p, NarHash: sum.Hash, NarSize: sum.Size}}
			marks := Take(t.Context(), store, want)
			if marks.marks[p] == (mark{}) {
				t.Fatal("no mark")
			}
			test.do()
			if test.name != "nothing" {
				if now, _ := marks.walk(t.Context(), p); now.equal(marks.marks[p]) {
					t.Error("it is not seen to be touched")
				}
			}
			for range 2 { // also when it is asked again
				changes, err := marks.Recheck(t.Context(), want)
				if err != nil || (len(changes) > 0) != test.altered {
					t.Errorf("%+v, %v", changes, err)
				}
			}
			if test.undo != nil {
				test.undo()
			}
			seal(0o555, 0o444)
		})
	}
}

// Who has a file of the store in memory, to write to it, does so without a trace in the
// times of it once a page was written to.
func TestRecheckMapped(t *testing.T) {
	root := t.TempDir()
	dir, err := closure.ParseStoreDir(filepath.Join(root, "store"))
	must(t, err)
	p, err := dir.ParseBase(strings.Repeat("a", 32) + "-file")
	must(t, err)
	must(t, os.MkdirAll(string(dir), 0o755))
	must(t, os.WriteFile(string(p), []byte("content"), 0o600))
	f, err := os.OpenFile(string(p), os.O_RDWR, 0)
	must(t, err)
	memory, err := unix.Mmap(int(f.Fd()), 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(memory) //nolint:errcheck // of a test
	must(t, f.Close())
	memory[0] = 'c' // from now on it may be written to
	must(t, os.Chmod(string(p), 0o444))
	store, err := nixstore.OpenStore("", dir)
	must(t, err)
	defer store.Close()
	sum, err := nar.HashPath(t.Context(), string(p), nar.Options{})
	must(t, err)
	want := []closure.PathInfo{{Path: p, NarHash: sum.Hash, NarSize: sum.Size}}
	marks := Take(t.Context(), store, want)
	memory[0] = 'C'
	var on unix.Statfs_t
	must(t, unix.Statfs(root, &on))
	altered := 1
	if on.Type == unix.TMPFS_MAGIC {
		altered = 0 // which docs/operating.md says
	}
	if changes, err := marks.Recheck(t.Context(), want); err != nil || len(changes) != altered {
		t.Errorf("%+v, %v", changes, err)
	}
}

func TestChanges(t *testing.T) {
	c := func(sizes map[string]int64) closure.Closure {
		out := closure.Closure{}
		for name, size := range sizes {
			p := closure.StorePath("/nix/store/" + strings.Repeat("a", 32) + "-" + name)
			out[p] = closure.PathInfo{Path: p, NarSize: size}
		}
		return out
	}
	got := Changes(
		c(map[string]int64{"same-1.0": 5, "grown": 10, "linux-6.1": 100, "gone-2": 7, "python3-3.11-env": 4}),
		c(map[string]int64{"same-1.0": 6, "grown": 10 + 8<<10, "linux-6.6": 90, "new": 3, "python3-3.11-env": 4}))
	want := []PackageChange{
		{"gone", []string{"2"}, []string{}, -7},
		{"grown", []string{""}, []string{""}, 8 << 10},
		{"linux", []string{"6.1"}, []string{"6.6"}, -10},
		{"new", []string{}, []string{""}, 3},
	}
	if !slices.EqualFunc(got, want, func(a, b PackageChange) bool { return fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) }) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

// TestMain is also a process that sets a profile, until it is killed.
func TestMain(m *testing.M) {
	if link := os.Getenv("ACTIVATE_TEST_PROFILE"); link != "" {
		for i := 0; ; i++ {
			l, err := lockProfile(context.Background(), link)
			if err == nil {
				_, err = l.set(closure.StorePath(fmt.Sprintf("/nix/store/%032d-system", i)))
				l.unlock()
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// Whenever a process is killed that sets the profile, that leads to a generation,
// and the next one sets it.
func TestProfileKilled(t *testing.T) {
	m, p := newMachine(t)
	for i := range 20 {
		cmd := exec.Command(os.Args[0]) //nolint:gosec,noctx // this test
		cmd.Env = append(os.Environ(), "ACTIVATE_TEST_PROFILE="+m.Profile())
		before, _ := os.Readlink(m.Profile())
		must(t, cmd.Start())
		for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Microsecond) {
			if now, err := os.Readlink(m.Profile()); err == nil && now != before {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the process sets no profile")
			}
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		must(t, cmd.Process.Kill())
		cmd.Wait()
		link, err := os.Readlink(m.Profile())
		must(t, err)
		if target, err := os.Readlink(filepath.Join(filepath.Dir(m.Profile()), link)); err != nil || !strings.HasSuffix(target, "-system") {
			t.Errorf("%s leads to %q, %v", link, target, err)
		}
		l, err := lockProfile(t.Context(), m.Profile())
		must(t, err)
		_, err = l.set(p)
		must(t, err)
		l.unlock()
		if got, err := filepath.EvalSymlinks(m.Profile()); err != nil || got != string(p) {
			t.Errorf("%q, %v", got, err)
		}
	}
}
