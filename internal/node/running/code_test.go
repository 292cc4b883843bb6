package running

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// runner starts programs of a store of its own on this machine.
type runner struct {
	*host
	store closure.StoreDir
	prog  closure.StorePath // of the release
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the mappings of processes take root")
	}
	dir := t.TempDir()
	store, err := closure.ParseStoreDir(dir + "/store")
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{host: &host{t: t}, store: store, prog: closure.StorePath(string(store) + "/" + strings.Repeat("a", 32) + "-prog")}
	for _, p := range []string{string(r.prog), string(store) + "/" + strings.Repeat("b", 32) + "-other"} {
		r.program(p + "/bin/cat")
	}
	opened, err := nixstore.OpenStore("/", store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	r.m = &Machine{Store: opened, Hashed: []closure.PathInfo{{Path: r.prog}}}
	// The libraries are those of this machine.
	for _, lib := range []string{"/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"} {
		r.m.Allow = append(r.m.Allow, Exception{Match: lib, Reason: "this machine's libraries"})
	}
	return r
}

// program makes a copy of cat, which runs until its input ends.
func (r *runner) program(name string) {
	r.t.Helper()
	cat, err := exec.LookPath("cat")
	r.must(err)
	data, err := os.ReadFile(cat)
	r.must(err)
	r.must(os.MkdirAll(filepath.Dir(name), 0o755))
	r.must(os.WriteFile(name, data, 0o755))
}

// start runs a program until the test ends, and returns its process.
func (r *runner) start(argv ...string) string {
	r.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	r.must(err)
	out, err := cmd.StdoutPipe()
	r.must(err)
	r.must(cmd.Start())
	r.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	// It has come so far that all is mapped when it answers.
	_, err = io.WriteString(in, "x\n")
	r.must(err)
	_, err = io.ReadFull(out, make([]byte, 2))
	r.must(err)
	return strconv.Itoa(cmd.Process.Pid)
}

// seen returns what is found about a process.
func (r *runner) seen(pid string) []string {
	r.t.Helper()
	l := r.m.newLook()
	c := &code{look: l, builders: map[string]bool{}, judged: map[string]bool{}, programs: map[program]bool{}}
	if err := c.process(pid); err != nil {
		r.t.Skipf("the mappings of processes can't be seen here: %v", err)
	}
	var out []string
	for _, f := range l.findings {
		out = append(out, strings.TrimSuffix(string(f.Cause)+" "+f.Path+":"+f.Field, ":"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r *runner) want(pid string, want ...string) {
	r.t.Helper()
	if got := r.seen(pid); !slices.Equal(got, want) {
		r.t.Errorf("found:\n got  %q\n want %q", got, want)
	}
}

func TestCode(t *testing.T) {
	r := newRunner(t)
	ours := string(r.prog) + "/bin/cat"
	t.Run("of the release", func(*testing.T) { r.want(r.start(ours)) })
	other := string(r.store) + "/" + strings.Repeat("b", 32) + "-other/bin/cat"
	t.Run("of another store path", func(*testing.T) { r.want(r.start(other), "code-unknown "+other) })
	tmp := filepath.Join(t.TempDir(), "cat")
	r.program(tmp)
	t.Run("of a temporary directory", func(*testing.T) { r.want(r.start(tmp), "code-unknown "+tmp) })
	t.Run("of a file that was removed", func(*testing.T) {
		gone := tmp + ".gone"
		r.program(gone)
		pid := r.start(gone)
		r.must(os.Remove(gone))
		r.want(pid, "code-unknown "+gone+" (deleted)")
	})
	t.Run("of a file over which another was moved", func(*testing.T) {
		// What runs is not the file of the release that lies there now.
		kept := ours + ".new"
		r.program(kept)
		pid := r.start(ours)
		r.must(os.Rename(kept, ours))
		r.want(pid, "code-unknown "+ours+" (deleted)")
	})
	t.Run("of memory", func(*testing.T) {
		fd, err := unix.MemfdCreate("evil", 0)
		r.must(err)
		f := os.NewFile(uintptr(fd), "evil")
		defer f.Close()
		data, err := os.ReadFile(ours)
		r.must(err)
		_, err = f.Write(data)
		r.must(err)
		r.want(r.start("/proc/self/fd/"+strconv.Itoa(fd)), "code-unknown /memfd:evil (deleted)")
	})
	t.Run("another file by the name of one of the release", func(*testing.T) {
		// A mount shows it to the process alone.
		pid := r.start("unshare", "--mount", "sh", "-euc", `mount --bind "$0" "$1"; exec "$1"`, tmp, ours)
		r.want(pid, "code-unknown "+ours+":replaced")
	})
	t.Run("an allowed directory, and a file taken out of it", func(*testing.T) {
		r.m.Allow = append(r.m.Allow, Exception{Match: filepath.Dir(tmp) + "/", Reason: "r"})
		pid := r.start(tmp)
		r.want(pid)
		r.must(os.Remove(tmp))
		r.want(pid, "code-unknown "+tmp+" (deleted)")
	})
	t.Run("ended", func(*testing.T) { r.want("4194304") })
}

// TestBuilder: a process with the number of a builder is one of a build only if it has no
// rights beside that number's.
// TestCodeOfOthers: what a user's own file system does not show to root is not of the
// release, and does not end the look at the others.
func TestCodeOfOthers(t *testing.T) {
	h := newHost(t)
	c := &code{look: h.m.newLook()}
	ours := c.judgeFile("/home/u/mnt/x", fileID{}, &os.PathError{Op: "stat", Err: unix.EACCES}, "runs as process 2")
	if c.judgeFile("/srv/y", fileID{}, &os.PathError{Op: "stat", Err: unix.EIO}, "runs as process 3") || ours {
		t.Error("they are taken for the release's")
	}
	if f := c.findings; len(f) != 2 || f[0].Cause != report.CodeUnknown || f[0].Path != "/home/u/mnt/x" || f[1].Cause != report.MachineUnseen {
		t.Errorf("found %+v", f)
	}
}

func TestBuilder(t *testing.T) {
	newHost(t) // takes root
	const build, first = "Uid:\t30001\t30001\t30001\t30001\n", "user:[1]"
	for _, test := range []struct {
		status, users string
		want          bool
	}{
		{build + "CapPrm:\t0000000000000000\n", first, true},
		{build + "CapPrm:\t0000000000000080\n", first, false},
		{build + "CapPrm:\t000001ffffffffff\n", "user:[2]", true},
		{build, first, false},
		{"Uid:\t30001\t30001\t0\t30001\nCapPrm:\t0000000000000000\n", first, false},
		{"Uid:\t1000\t1000\t1000\t1000\nCapPrm:\t0000000000000000\n", first, false},
	} {
		dir := t.TempDir()
		user := 30001
		if strings.HasPrefix(test.status, "Uid:\t1000") {
			user = 1000
		}
		for _, err := range []error{
			os.Chown(dir, user, 0), os.WriteFile(dir+"/status", []byte(test.status), 0o644), os.Mkdir(dir+"/ns", 0o755), os.Symlink(test.users, dir+"/ns/user"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		c := &code{builders: map[string]bool{"30001": true}, users: first}
		if got := c.builder(dir); got != test.want {
			t.Errorf("%q in %s: %v", test.status, test.users, got)
		}
	}
}

// Who adds himself to the group of builders is none of them.
func TestBuilders(t *testing.T) {
	h := newHost(t)
	h.write("/etc/group", "nixbld:x:30000:nixbld1,guest\n", 0o644)
	h.write("/etc/passwd", "nixbld1:x:30001:30000::/:/none\nguest:x:1000:100::/home/guest:/bin/sh\n", 0o644)
	says := func(members ...string) *expected.Users {
		return &expected.Users{Mutable: true, Groups: []expected.Group{{Name: "nixbld", Members: members}}}
	}
	for _, test := range []struct {
		want *expected.Users
		has  map[string]bool
	}{
		{nil, map[string]bool{"30001": true, "1000": true}},
		{says(), map[string]bool{"30001": true, "1000": true}},
		{says("nixbld1", "nixbld2"), map[string]bool{"30001": true}},
	} {
		if got := h.m.builders(test.want); !maps.Equal(got, test.has) {
			t.Errorf("by %+v: %v", test.want, got)
		}
	}
}

func TestScript(t *testing.T) {
	r := newRunner(t)
	shell, err := exec.LookPath("dash")
	if err != nil {
		t.Skip("no dash here")
	}
	data, err := os.ReadFile(shell)
	r.must(err)
	ours := string(r.prog) + "/bin/sh"
	r.must(os.WriteFile(ours, data, 0o755))
	const text = "while read -r x; do echo \"$x\"; done\n"
	good, bad := string(r.prog)+"/script", filepath.Join(t.TempDir(), "script")
	r.must(os.WriteFile(good, []byte(text), 0o644))
	r.must(os.WriteFile(bad, []byte(text), 0o644))
	r.want(r.start(ours, good))
	r.want(r.start(ours, "-e", bad), "code-unknown "+bad)
	r.want(r.start(ours, bad), "code-unknown "+bad)
	r.want(r.start(ours, "-o", "errexit", bad), "code-unknown "+bad)
	r.want(r.start("env", "-C", filepath.Dir(bad), ours, filepath.Base(bad)), "code-unknown "+bad)
	r.want(r.start(ours, good, bad))
	r.want(r.start(ours, "-c", text))
}
