package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

var update = flag.Bool("update", false, "write what scripts compare with anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ec-verify": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts runs testdata/script/*.txtar, but for those of a test of their
// own. Beside what testscript knows they have:
//
//	exits CODE ARG...   runs ec-verify, which must exit with CODE. A code that
//	                    says that the command line or the configuration makes
//	                    no sense must come with one line on standard error and
//	                    nothing else, and no code with a stack trace.
//	unread ARG...       runs ec-verify with a standard output that nobody reads,
//	                    which must not be a success
//	signal NAME CODE ARG...
//	                    runs ec-verify, sends it the signal NAME after its first
//	                    line of output, and wants it to exit with CODE
//	forge VAR [SIZE]    starts a server that stands in for a forge, sets VAR to the
//	                    URL of its repository, and writes its tokens to the files
//	                    token and token.read; assets above SIZE bytes are refused
//	images DIR          makes in DIR/release a release with images
//	publish ROOT DIR    writes into DIR the release boot-v1 of the machine whose
//	                    files are in ROOT
func TestScripts(t *testing.T) {
	all, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts []string
	for _, name := range all {
		if !strings.HasPrefix(filepath.Base(name), "status") {
			scripts = append(scripts, name)
		}
	}
	testscript.Run(t, testscript.Params{
		Files: scripts, UpdateScripts: *update, RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "unread": unread, "signal": signalled, "publish": publishMachine, "forge": startForge, "images": makeImages,
		},
		Condition: func(cond string) (bool, error) {
			_, err := exec.LookPath(strings.TrimPrefix(cond, "has:"))
			return err == nil, nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec("ec-verify", args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic:") {
		ts.Fatalf("a stack trace on standard error")
	}
	if code == terminal.ExitUsage || code == terminal.ExitConfig && !slices.Contains(args, "json") {
		line, more, _ := strings.Cut(stderr, "\n")
		lists := slices.Contains(args, "check") // config check lists the mistakes
		if stdout != "" && !lists || more != "" || !strings.HasPrefix(line, "ec-verify: ") || len(line) > 400 {
			ts.Fatalf("want one line on standard error and nothing else, got %d bytes on standard output and %q", len(stdout), stderr)
		}
	}
}

func unread(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: unread ARG...")
	}
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	cmd := program(ts, args)
	cmd.Stdout = w
	err = cmd.Run()
	w.Close()
	if err == nil {
		ts.Fatalf("it succeeds")
	}
}

func signalled(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1}
	if neg || len(args) < 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal NAME CODE ARG...")
	}
	cmd := program(ts, args[2:])
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		ts.Fatalf("no output: %v", cmd.Wait())
	}
	ts.Check(cmd.Process.Signal(signals[args[0]]))
	for lines.Scan() {
	}
	cmd.Wait()
	fmt.Fprint(ts.Stderr(), stderr.String())
	if got := cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[1] {
		ts.Fatalf("exit code %d, want %s; standard error %q", got, args[1], stderr.String())
	}
}

// program returns ec-verify in the environment of the script.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath("ec-verify")
	ts.Check(err)
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.Getenv("WORK")
	return cmd
}

// publishMachine writes the release of the machine in a directory: of the flake
// and the system that its links lead to.
func makeImages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: images DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	imagetest.NewBuild(scriptTB{ts: ts}, dir).Release(scriptTB{ts: ts})
}

// scriptTB has what is written for tests serve scripts.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (scriptTB) Helper()                     {}
func (s scriptTB) Fatal(a ...any)            { s.ts.Fatalf("%s", fmt.Sprint(a...)) }
func (s scriptTB) Fatalf(f string, a ...any) { s.ts.Fatalf(f, a...) }
func (s scriptTB) Skipf(f string, a ...any)  { s.ts.Fatalf(f, a...) }

func startForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: forge VAR [SIZE]")
	}
	s := &forgetest.Server{}
	if len(args) == 2 {
		size, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		s.ProxyLimit = size
	}
	srv := httptest.NewServer(s)
	ts.Defer(srv.Close)
	ts.Setenv(args[0], s.At(srv.URL))
	ts.Check(os.WriteFile(ts.MkAbs("token"), []byte(forgetest.Token+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("token.read"), []byte(forgetest.ReadOnly+"\n"), 0o600))
}

func publishMachine(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 2 {
		args = append(args, "boot-v1")
	}
	if neg || len(args) != 3 {
		ts.Fatalf("usage: publish ROOT DIR [TAG]")
	}
	root, dir := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	info := func(link string) closure.PathInfo {
		target, err := os.Readlink(filepath.Join(root, link))
		ts.Check(err)
		sum, err := nar.HashPath(context.Background(), filepath.Join(root, target), nar.Options{})
		ts.Check(err)
		return closure.PathInfo{Path: closure.StorePath(target), NarHash: sum.Hash, NarSize: sum.Size}
	}
	flake, system := info("etc/every-channel/flake"), info("nix/var/nix/profiles/system")
	system.References = []closure.StorePath{flake.Path}
	m := closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: "machine", System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source:   closure.Source{NarHash: flake.NarHash},
		Toplevel: closure.Toplevel{DrvPath: system.Path + ".drv", OutPath: system.Path},
		Paths:    []closure.PathInfo{flake, system},
	}
	data, err := m.Encode()
	ts.Check(err)
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(os.WriteFile(filepath.Join(dir, release.ManifestName(m.Configuration)), data, 0o644))
	created := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	ts.Check(release.WriteInfo(dir, release.Info{Tag: release.Tag(args[2]), CreatedAt: created, BestBefore: created.AddDate(0, 0, 90)}))
	ts.Check(release.WriteSums(context.Background(), dir))
}
