package nix

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	scratchDrv = closure.StorePath("/nix/store/wdhbnzlb7ngi6rm548ayrhirg99fq6im-x.drv")
	scratchOut = closure.StorePath("/nix/store/vd10n0jh9swyhcxl4555az6l2xz8ipy8-x")
	// built is what nix prints, and started what it logs, of a build.
	built   = `[{"drvPath":"` + string(scratchDrv) + `","outputs":{"out":"` + string(scratchOut) + `"}}]`
	started = `@nix {"action":"start","id":1,"level":3,"type":105,"text":"building","fields":["` + string(scratchDrv) + `","",1,1]}` + "\n"
)

// newScratch returns a store with one file bound into it.
func newScratch(t *testing.T) (s Scratch, from, to string) {
	t.Helper()
	dir := t.TempDir()
	s = Scratch{Dir: filepath.Join(dir, "a b&c"), Temp: filepath.Join(dir, "temp")}
	from, to = filepath.Join(dir, "from"), filepath.Join(s.Dir, "to")
	for _, d := range []string{s.Dir, s.Temp} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, from, "machine's")
	writeFile(t, to, "")
	s.Binds = []Bind{{From: from, To: to}}
	return s, from, to
}

// needConfinement skips where this process may not confine any.
func needConfinement(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to confine a build")
	}
	s, _, _ := newScratch(t)
	err := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{}).Register(t.Context(), s, nil)
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

func TestRegister(t *testing.T) {
	needConfinement(t)
	s, _, _ := newScratch(t)
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: "$cat >$here/stdin"})
	infos := []closure.PathInfo{{Path: scratchOut, NarHash: nar.Hash{1}, NarSize: 120, References: []closure.StorePath{scratchOut, scratchDrv}}}
	if err := f.Register(t.Context(), s, infos); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.ReadFile(filepath.Join(f.dir, "stdin"))
	want := string(scratchOut) + "\n01" + strings.Repeat("00", 31) + "\n120\n\n2\n" + string(scratchOut) + "\n" + string(scratchDrv) + "\n"
	if err != nil || string(stdin) != want {
		t.Errorf("registered %q, %v, want %q", stdin, err, want)
	}
	args := f.call().Args
	if !slices.Contains(pairs(args), [2]string{"--store", "local?root=" + strings.NewReplacer(" ", "%20", "&", "%26", "/", "%2F").Replace(s.Dir)}) {
		t.Errorf("arguments: %q", args)
	}
	f = newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stderr: "error: no such store\n", Code: 1})
	if err := f.Register(t.Context(), s, infos); err == nil || !strings.Contains(err.Error(), "no such store") {
		t.Errorf("got %v", err)
	}
}

// A build is the first process of its namespace, without a network, at idle
// priority, and sees its inputs without being able to alter them.
func TestConfinement(t *testing.T) {
	needConfinement(t)
	s, from, to := newScratch(t)
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stdout: built, Stderr: started, Do: `
		echo $$ >$here/pid
		$cat '` + to + `' >$here/seen
		(echo altered >'` + to + `') 2>/dev/null && echo written >$here/written
		$cat /proc/self/stat >$here/stat
		$readlink /proc/self/ns/mnt >$here/mnt`})
	if err := f.BuildIn(t.Context(), s, Scratch{Dir: s.Dir}, scratchDrv); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(f.dir, name))
		return strings.TrimSpace(string(data))
	}
	if read("pid") != "1" || read("seen") != "machine's" || read("written") != "" {
		t.Errorf("pid %q, seen %q, written %q", read("pid"), read("seen"), read("written"))
	}
	if data, err := os.ReadFile(from); string(data) != "machine's" {
		t.Errorf("the input is %q now, %v", data, err)
	}
	if data, err := os.ReadFile(to); len(data) != 0 {
		t.Errorf("the bind is seen outside: %q, %v", data, err)
	}
	// proc(5): the 19th field is the nice value, the 41st the policy; SCHED_IDLE is 5.
	_, after, _ := strings.Cut(read("stat"), ") ")
	if stat := strings.Fields(after); len(stat) < 39 || stat[16] != "19" || stat[38] != "5" {
		t.Errorf("priorities: %q", stat)
	}
	for name, path := range map[string]string{"netns": "/proc/self/ns/net", "mnt": "/proc/self/ns/mnt"} {
		own, err := os.Readlink(path)
		if err != nil || read(name) == own || read(name) == "" {
			t.Errorf("%s: %q, ours is %q, %v", name, read(name), own, err)
		}
	}
	// What fetches keeps the network, and nothing else.
	if err := f.Fetch(t.Context(), s, FetchRequest{Path: scratchOut}); err != nil {
		t.Fatal(err)
	}
	if own, _ := os.Readlink("/proc/self/ns/net"); read("netns") != own || read("pid") != "1" {
		t.Errorf("a fetch: network %q, ours is %q; pid %q", read("netns"), own, read("pid"))
	}
}

func TestConfinementFails(t *testing.T) {
	needConfinement(t)
	s, _, to := newScratch(t)
	if err := os.Remove(to); err != nil {
		t.Fatal(err)
	}
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stdout: built, Stderr: started})
	err := f.BuildIn(t.Context(), s, Scratch{Dir: s.Dir}, scratchDrv)
	if !errors.Is(err, ErrConfinement) || !strings.Contains(err.Error(), "bind") || f.called() {
		t.Errorf("a bind without a place: %v; nix was run: %t", err, f.called())
	}
}

func TestBuildIn(t *testing.T) {
	needConfinement(t)
	for _, test := range []struct {
		name string
		fake fake
		want error // nil for a *BuildError with the message
		text string
	}{
		{"built", fake{Stdout: built, Stderr: started}, nil, ""},
		{"nothing built", fake{Stdout: built}, ErrNothingBuilt, ""},
		{"another one built", fake{Stdout: built, Stderr: strings.ReplaceAll(started, "-x.drv", "-y.drv")}, ErrNothingBuilt, ""},
		{"only spoken of", fake{Stdout: built, Stderr: `@nix {"action":"result","id":1,"type":101,"fields":["@nix ` + string(scratchDrv) + `"]}` + "\n"}, ErrNothingBuilt, ""},
		{"copied", fake{Stdout: built, Stderr: strings.ReplaceAll(started, `"type":105`, `"type":100`)}, ErrNothingBuilt, ""},
		{"failed, 2.26", fake{Stderr: started + `@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m builder for '/nix/store/x.drv' failed with exit code 3"}` + "\n", Code: 1}, nil, "builder for '/nix/store/x.drv' failed with exit code 3"},
		{"failed, 2.34", fake{Stderr: started + `@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m Cannot build '/nix/store/x.drv'.\n       Reason: \u001b[31;1mbuilder failed with exit code 3\u001b[0m.\n       Output paths:\n         /nix/store/x"}` + "\n", Code: 1}, nil, "Cannot build '/nix/store/x.drv'. Reason: builder failed with exit code 3."},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _, _ := newScratch(t)
			err := newFake(t, Config{}, "nix (Nix) 2.26.3\n", test.fake).BuildIn(t.Context(), s, Scratch{Dir: s.Dir}, scratchDrv)
			var be *BuildError
			switch {
			case test.want != nil:
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
			case test.text == "":
				if err != nil {
					t.Errorf("got %v", err)
				}
			case !errors.As(err, &be) || be.Message != test.text || !be.BuilderFailed():
				t.Errorf("got %v, want the builder's failure %q", err, test.text)
			}
		})
	}
	s, _, _ := newScratch(t)
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Do: doSleep})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.BuildIn(ctx, s, Scratch{Dir: s.Dir}, scratchDrv); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	if err := f.BuildIn(t.Context(), s, s, scratchOut); err == nil {
		t.Error("what is no derivation is built")
	}
}

func TestFetchMessages(t *testing.T) {
	needConfinement(t)
	for name, test := range map[string]struct{ stderr, want string }{
		"2.26: unsigned": {"warning: ignoring substitute for '/nix/store/x' from 'file:///srv/c', as it's not signed by any of the keys in 'trusted-public-keys'\n" +
			"error: path '/nix/store/x' does not exist and cannot be created\n", "not signed by any of the keys in 'trusted-public-keys'; path '/nix/store/x' does not exist"},
		"no network":      {"warning: you don't have Internet access; disabling some network-dependent features\nerror: gone\n", "not fetched: gone"},
		"not trusted":     {"path '/nix/store/x' is untrusted\n", "path '/nix/store/x' is untrusted"},
		"without a word":  {"", "exit status 1"},
		"the same, twice": {"error: a\nerror: a\n", "not fetched: a"},
	} {
		s, _, _ := newScratch(t)
		f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Stderr: test.stderr, Code: 1})
		err := f.Fetch(t.Context(), s, FetchRequest{Path: scratchOut, From: []string{"file:///a", "https://b"}})
		if !errors.Is(err, ErrNotFetched) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		args := pairs(f.call().Args)
		for _, option := range [][2]string{{"require-sigs", "true"}, {"max-jobs", "0"}, {"substituters", "file:///a https://b"}} {
			if !slices.Contains(args, option) {
				t.Errorf("%s: no %q among the arguments", name, option)
			}
		}
		if err := f.CheckSignatures(t.Context(), s, []closure.StorePath{scratchOut}); !errors.Is(err, ErrNotFetched) {
			t.Errorf("%s: signatures: %v", name, err)
		}
	}
	// Without paths nix would look at all there are.
	f := newFake(t, Config{}, "nix (Nix) 2.26.3\n", fake{Code: 1})
	if err := f.CheckSignatures(t.Context(), Scratch{}, nil); err != nil || f.called() {
		t.Errorf("of no path: %v, nix was run: %t", err, f.called())
	}
}
