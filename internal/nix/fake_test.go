package nix

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is what nix and nix-instantiate do in a test: a shell script replays it,
// and notes beside itself how it was run.
type fake struct {
	Stdout, Stderr string
	// Prefetch is printed by nix flake prefetch in the place of Stdout.
	Prefetch string
	Code     int
	// Do are commands of the shell to run before it ends. $here is the
	// directory of the script; programs have a variable each.
	Do string
}

const fakeScript = `#!$sh
here=$here
if [ "$*" = --version ]; then
	echo x >>$here/version-calls
	exec $cat $here/version
fi
$readlink /proc/self/ns/net >$here/netns
pwd >$here/dir
$env -0 >$here/env
printf '%s\0' "${0##*/}" "$@" >$here/args
case "$*" in
"flake prefetch "*) $cat $here/prefetch ;;
*) $cat $here/stdout ;;
esac
$cat $here/stderr >&2
$do
exit $code
`

// Odd things to do instead of ending.
const (
	doSleep = "exec $sleep 60"
	// Ends at no signal that can be ignored, and has a child that does not
	// either.
	doIgnore = "trap '' TERM; $sleep 60 & echo $! >$here/child; wait; $sleep 60"
	doFlood  = "exec $head -c 33554432 /dev/zero"
	doDie    = "kill -KILL $$"
	// As Nix leaves things in its caches.
	doWrite = "$mkdir -p $XDG_CACHE_HOME/nix; : >$XDG_CACHE_HOME/nix/cache; : >$TMPDIR/x"
)

// call is how a fake was run.
type call struct {
	Args, Env  []string
	NetNS, Dir string
}

// fakeNix is a Nix whose programs replay f, with what a test may request from them.
type fakeNix struct {
	*Nix
	t   *testing.T
	dir string
}

func newFake(t *testing.T, config Config, version string, f fake) *fakeNix {
	t.Helper()
	dir := t.TempDir()
	script := strings.NewReplacer("$do", f.Do, "$code", strconv.Itoa(f.Code), "here=$here", "here='"+dir+"'").Replace(fakeScript)
	// Nothing of our PATH reaches the script.
	for _, tool := range []string{"sh", "cat", "readlink", "env", "sleep", "head", "mkdir"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		script = strings.ReplaceAll(script, "$"+tool, path)
	}
	for _, program := range append([]string{"nix-store"}, programs...) {
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "stdout"), f.Stdout)
	writeFile(t, filepath.Join(dir, "stderr"), f.Stderr)
	writeFile(t, filepath.Join(dir, "prefetch"), f.Prefetch)
	writeFile(t, filepath.Join(dir, "version"), version)
	config.BinDir = dir
	// What a run leaves in the temporary directory is seen there.
	t.Setenv("TMPDIR", t.TempDir())
	return &fakeNix{Nix: New(config), t: t, dir: dir}
}

// recorded is a Nix that replays what a real one of that version printed.
func recorded(t *testing.T, version, name string) *fakeNix {
	t.Helper()
	read := func(suffix string) string {
		data, err := os.ReadFile(filepath.Join("testdata", version, name+suffix))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(data)
	}
	code, err := strconv.Atoi(strings.TrimSpace(read(".code")))
	if err != nil {
		t.Fatal(err)
	}
	v, err := os.ReadFile(filepath.Join("testdata", version, "version.stdout"))
	if err != nil {
		t.Fatal(err)
	}
	return newFake(t, Config{}, string(v), fake{Stdout: read(".stdout"), Stderr: read(".stderr"), Prefetch: prefetched(t, version), Code: code})
}

// prefetched is what nix flake prefetch of that version printed of the flake of
// the other recordings, "" where there is none.
func prefetched(t *testing.T, version string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", version, "prefetch.stdout"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}

// recordedVersions are the directories of testdata.
var recordedVersions = sync.OnceValue(func() []string {
	names, _ := filepath.Glob("testdata/[0-9]*")
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
})

// call returns how the program was run last, other than to ask for its version.
func (f *fakeNix) call() call {
	f.t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			f.t.Fatal(err)
		}
		return string(data)
	}
	list := func(name string) []string {
		return strings.Split(strings.TrimSuffix(read(name), "\x00"), "\x00")
	}
	return call{Args: list("args"), Env: list("env"), NetNS: strings.TrimSpace(read("netns")), Dir: strings.TrimSpace(read("dir"))}
}

// called reports whether it was run for more than its version.
func (f *fakeNix) called() bool {
	_, err := os.Stat(filepath.Join(f.dir, "args"))
	return err == nil
}

func (c call) env() map[string]string {
	env := make(map[string]string)
	for _, kv := range c.Env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

// checkNothingLeft fails if a run left something in the temporary directory.
func (f *fakeNix) checkNothingLeft() {
	f.t.Helper()
	filepath.WalkDir(os.TempDir(), func(path string, d fs.DirEntry, err error) error {
		if path != os.TempDir() {
			f.t.Errorf("left behind: %s", path)
		}
		return nil
	})
}

func writeFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until a fake has written the note of that name.
func (f *fakeNix) waitFor(name string) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if data, err := os.ReadFile(filepath.Join(f.dir, name)); err == nil && strings.HasSuffix(string(data), "\n") {
			return strings.TrimSpace(string(data))
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.t.Fatalf("the fake never wrote %s", name)
	return ""
}
