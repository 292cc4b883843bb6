package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// TestSignalsEndCommands: each command that reads images ends when it is told to,
// and not when it has read them: they are many GiB.
func TestSignalsEndCommands(t *testing.T) {
	imagetest.Need(t, "openssl")
	dir := t.TempDir()
	imagetest.Shell(t, dir, `openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key; openssl pkey -in key -pubout -out key.pub`)
	build := imagetest.NewBuild(t, dir)
	build.Manifest(t)
	// All holes, so that it takes no room, and as large as an image may be.
	const image = "ec-runner-x86_64-netboot-" + imagetest.Tag + ".tar.gz"
	big := filepath.Join(build.Out, image)
	imagetest.Shell(t, dir, fmt.Sprintf("truncate -s %d '%s'; cp -r --sparse=always release other", release.MaxImageSize, big))
	// The checksum of it is not looked at before it was read.
	sums := map[string]release.Digest{image: {1}}
	for _, name := range []string{release.InfoName, release.ManifestName(imagetest.Configuration), release.ListingName(imagetest.Configuration)} {
		var err error
		if sums[name], err = release.HashFile(t.Context(), filepath.Join(build.Out, name)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := release.NewSums(sums)
	if err == nil {
		err = os.WriteFile(filepath.Join(build.Out, release.SumsName), all.Encode(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := trust.ParsePrivateKey(pem, nil)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := trust.Sign(t.Context(), key, all.Encode())
	if err == nil {
		err = release.WriteBundle(build.Out, bundle)
	}
	if err != nil {
		t.Fatal(err)
	}
	from := []string{"--release", build.Out, "--key", "key.pub", "--state-dir", "state"}
	for _, args := range [][]string{
		{"release", "sign", "./release", "--key", "key"},
		{"release", "verify", "./release", "--key", "key.pub", "--state-dir", "state"},
		append([]string{"release", "fetch", imagetest.Tag, "--out", "fetched"}, from...),
		append([]string{"netboot", "stage", imagetest.Tag, "--dir", "www", "--url", "http://10.0.0.2"}, from...),
		append([]string{"images", big, "--against", imagetest.Tag}, from...),
		append([]string{"images", big, "--inside", "--against", imagetest.Tag}, from...),
		{"release", "publish", "release", "--tag", imagetest.Tag, "--forge", "http://127.0.0.1:1/o/r", "--dry-run", "--key", "key.pub", "--state-dir", "state"},
		{"compare", "release", "other"},
		{"compare", big, "other/" + image},
		{"hash", big},
	} {
		t.Run(strings.TrimSuffix(args[0]+" "+filepath.Base(args[1]), " "+image), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "ec-verify", args...)
			cmd.Dir = dir
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			awaitOpen(ctx, t, cmd.Process.Pid, image)
			before := worked(t, cmd.Process.Pid)
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != terminal.ExitSignal+int(syscall.SIGTERM) {
				t.Errorf("exit code %d: %s", got, stderr.String())
			}
			// Of a processor, and so whatever else the machine does.
			if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() - before; used > 4*time.Second {
				t.Errorf("it has worked for %s after the signal", used)
			}
		})
	}
}

// worked returns for how long a process has had a processor.
func worked(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// awaitOpen waits until the process has a file of that name open.
func awaitOpen(ctx context.Context, t *testing.T, pid int, base string) {
	t.Helper()
	for ctx.Err() == nil {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(links) == 0 {
			t.Fatal("it has ended before it read the image")
		}
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && filepath.Base(target) == base {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it does not read the image")
}
