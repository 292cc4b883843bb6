package explain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

// Diffoscope compares files with diffoscope, if that is installed.
type Diffoscope struct {
	Program string        // from [FindDiffoscope]
	Time    time.Duration // that one file may take
	Output  int64         // bytes of its output about one file that are read
}

// FindDiffoscope returns the program, which only root and the current user may be able to
// change.
func FindDiffoscope() (string, error) {
	name, err := exec.LookPath("diffoscope")
	if err != nil {
		return "", errors.New("diffoscope is not installed, or not on PATH")
	}
	if name, err = filepath.Abs(name); err != nil {
		return "", err
	}
	return name, hostfile.CheckOwn(name)
}

// compare returns diffoscope's output for the two contents of the file name: raw,
// untrusted bytes. They are copied into a directory of their own; diffoscope sees nothing
// else of the machine under examination.
func (d *Diffoscope) compare(ctx context.Context, want, got []byte, name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", ".ec-verify-explain-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// diffoscope recognizes a file by its suffix; nothing else of the name is used.
	suffix := filepath.Ext(name)
	for _, c := range suffix {
		if c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			suffix = ""
			break
		}
	}
	for name, data := range map[string][]byte{"original" + suffix: want, "found" + suffix: got} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o400); err != nil {
			return nil, err
		}
	}
	return d.run(ctx, dir, "original"+suffix, "found"+suffix)
}

func (d *Diffoscope) run(ctx context.Context, dir, a, b string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Time)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.Program, "--text", "-", "--no-progress", "--max-text-report-size", strconv.FormatInt(d.Output, 10), a, b) //nolint:gosec // the program is root's, see FindDiffoscope
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C.UTF-8"}
	// The programs that it starts end with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(out, d.Output+1))
	cut := int64(len(data)) > d.Output
	if cut {
		data = data[:d.Output]
		cancel()
	}
	failed := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err != nil:
		return data, err
	case cut:
		return data, fmt.Errorf("its output was cut: it is larger than %d bytes", d.Output)
	case ctx.Err() != nil:
		return data, fmt.Errorf("it took longer than %s", d.Time)
	case errors.As(failed, &exit) && exit.ExitCode() == 1: // they differ
		return data, nil
	}
	return data, failed
}
