package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCommandLineInit(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // nil for an error
	}{
		{"init=/a console=ttyS0\n", []string{"/a"}},
		{"console=ttyS0\tinit=/a", []string{"/a"}},
		{"init=/b init=/a", []string{"/a"}},
		{"xinit=/b init=/a rdinit=/c", []string{"/a"}},
		{"init=/a init=/b/../x", []string{"/b/../x"}},
		// Where they disagree, either may have been booted.
		{`init=/a "init=/b"`, []string{"/a", "/b"}},
		{`init=/a "init=/b init=/c"`, []string{`/c"`, "/b init=/c"}},
		{`init=/b x="y init=/a z"`, []string{"/a", "/b"}},
		{`init="/a"`, []string{`"/a"`, "/a"}},
		{"init=/b -- init=/a", []string{"/a", "/b"}},
		{"init=/a\finit=/b", []string{"/a\finit=/b", "/b"}},
		{"init=/b\u0085init=/a", []string{"/b\u0085init=/a"}},
		{"init=/a x\xa0init=/b", []string{"/a", "/b"}},
		{"init=/a init=", nil},
		{"quiet", nil},
		{"", nil},
		{"init=/a " + strings.Repeat("x", maxCommandLine) + " init=/b", nil},
	} {
		name := filepath.Join(t.TempDir(), "cmdline")
		if err := os.WriteFile(name, []byte(c.line), 0o600); err != nil {
			t.Fatal(err)
		}
		_, got, err := commandLineInit(name)
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%.60q: got %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

// What lies in the place of the command line is never waited for.
func TestCommandLineIsFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "cmdline")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, "/dev/zero", t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, got, err := commandLineInit(name); err == nil {
				t.Errorf("%s: got %q, want an error", name, got)
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("%s: still waiting", name)
		}
	}
}
