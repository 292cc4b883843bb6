package nix

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fake is what the test binary does when it is run as nix or nix-instantiate:
// it replays, and notes how it was run. It lies as "fake.json" beside the
// programs, since nothing of our environment reaches them.
type fake struct {
	Stdout, Stderr string
	Code           int
	// Mode is "" or something odd to do instead.
	Mode string
}

// call is how a fake was run.
type call struct {
	Args, Env []string
	NetNS     string
	Dir       string
}

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "nix", "nix-instantiate":
		runFake(filepath.Dir(os.Args[0]))
	}
	os.Exit(m.Run())
}

func runFake(dir string) {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		data, err := os.ReadFile(filepath.Join(dir, "version"))
		if err != nil {
			os.Exit(1)
		}
		note(dir, "version-calls", "x")
		os.Stdout.Write(data)
		os.Exit(0)
	}
	var f fake
	data, err := os.ReadFile(filepath.Join(dir, "fake.json"))
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: fake:", err)
		os.Exit(1)
	}
	ns, _ := os.Readlink("/proc/self/ns/net")
	wd, _ := os.Getwd()
	c, _ := json.Marshal(call{Args: os.Args, Env: os.Environ(), NetNS: ns, Dir: wd})
	note(dir, "call", string(c))
	os.Stdout.WriteString(f.Stdout)
	os.Stderr.WriteString(f.Stderr)
	switch f.Mode {
	case "sleep":
		time.Sleep(time.Minute)
	case "stubborn":
		// Ends at no signal that can be ignored, and has a child that does not
		// either.
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("/bin/sleep", "60")
		if err := child.Start(); err == nil {
			note(dir, "child", strconv.Itoa(child.Process.Pid))
		}
		time.Sleep(time.Minute)
	case "flood":
		line := []byte(strings.Repeat("x", 1<<16))
		for range 2 * maxStdout / len(line) {
			if _, err := os.Stdout.Write(line); err != nil {
				os.Exit(1)
			}
		}
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "write":
		// As Nix leaves things in its caches.
		os.MkdirAll(os.Getenv("XDG_CACHE_HOME")+"/nix", 0o700)
		os.WriteFile(os.Getenv("XDG_CACHE_HOME")+"/nix/cache", nil, 0o400)
		os.WriteFile(os.Getenv("TMPDIR")+"/x", nil, 0o600)
	}
	os.Exit(f.Code)
}

func note(dir, name, text string) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	f.WriteString(text + "\n")
	f.Close()
}

// fakeNix is a Nix whose programs replay f, and what a test may ask of them.
type fakeNix struct {
	*Nix
	t   *testing.T
	dir string
}

func newFake(t *testing.T, config Config, version string, f fake) *fakeNix {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.Symlink(self, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "fake.json"), string(data))
	writeFile(t, filepath.Join(dir, "version"), version)
	config.BinDir = dir
	n := New(config)
	n.grace = 300 * time.Millisecond
	// What a run leaves in the temporary directory is seen there.
	t.Setenv("TMPDIR", t.TempDir())
	return &fakeNix{Nix: n, t: t, dir: dir}
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
	return newFake(t, Config{}, string(v), fake{Stdout: read(".stdout"), Stderr: read(".stderr"), Code: code})
}

// recordedVersions are the directories of testdata.
var recordedVersions = sync.OnceValue(func() []string {
	names, _ := filepath.Glob("testdata/[0-9]*")
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
})

// call returns how the program was run, other than to ask for its version.
func (f *fakeNix) call() call {
	f.t.Helper()
	var c call
	data, err := os.ReadFile(filepath.Join(f.dir, "call"))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		f.t.Fatalf("more than one call: %v", err)
	}
	return c
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
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
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
