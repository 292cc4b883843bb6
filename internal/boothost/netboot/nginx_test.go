package netboot_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/image/imagetest"
)

const chainToken = "0123456789abcdef0123456789abcdef"

// web is an nginx with the configuration of the boot host, at an address of this
// machine's own.
type web struct {
	t       *testing.T
	address string
	cmd     *exec.Cmd
	log     string // of requests
	errors  string // of the servers
}

// serveStaged has nginx serve the directory www as the boot host does.
func serveStaged(t *testing.T, www string) *web {
	t.Helper()
	imagetest.Need(t, "nginx", "nix-instantiate")
	run := t.TempDir()
	if err := netboot.Render(run, "http://10.0.0.2", chainToken, nil); err != nil {
		t.Fatal(err)
	}
	// At this process's own address nobody else gets the port meanwhile.
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>16, pid>>8&255, pid&255))
	if err != nil {
		t.Fatal(err)
	}
	w := &web{t: t, address: l.Addr().String(), log: filepath.Join(run, "access.log"), errors: filepath.Join(run, "errors")}
	at := l.Addr().(*net.TCPAddr)
	l.Close()
	modules, err := filepath.Abs("../../../modules/ec-netboot")
	if err != nil {
		t.Fatal(err)
	}
	nix := exec.Command("nix-instantiate", "--eval", "--strict", "--json", "--expr", fmt.Sprintf(`(import %s).nginxConf {
  listenIP = %q; port = %d; allowedCIDRs = [ "127.0.0.1/32" ]; wwwDir = %q; runtimeDir = %q; accessLog = %q;
}`, modules, at.IP, at.Port, www, run, w.log))
	nix.Env = append(os.Environ(), "NIX_STATE_DIR="+t.TempDir(), "NIX_STORE_DIR=/nix/store")
	data, err := nix.Output()
	var text string
	if err == nil {
		err = json.Unmarshal(data, &text)
	}
	if err != nil {
		t.Fatalf("nix-instantiate: %v", err)
	}
	if os.Geteuid() == 0 {
		text = "user root;\n" + text
	}
	// One process, whose open files can be limited.
	text = "master_process off;\n" + text
	conf := filepath.Join(run, "nginx.conf")
	stderr, err := os.Create(w.errors)
	if err == nil {
		err = os.WriteFile(conf, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	w.cmd = exec.Command("nginx", "-e", "stderr", "-c", conf)
	w.cmd.Stderr = stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cmd.Process.Kill(); _ = w.cmd.Wait() })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", w.address); err == nil {
			c.Close()
			return w
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not answer: %s", w.read(w.errors))
		}
	}
}

func (w *web) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// ask sends a request as it is, and returns the status and the body.
func (w *web) ask(method, target string, header ...string) (status int, body string) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	return w.askOn(c, method, target, header...)
}

func (w *web) askOn(c net.Conn, method, target string, header ...string) (status int, body string) {
	w.t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target, strings.Join(append(header, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%s %q: %v", method, target, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		w.t.Fatalf("%s %q: %v", method, target, err)
	}
	return resp.StatusCode, string(data)
}

// TestServed sends requests to nginx, configured as on a boot host: for files that it
// serves, for files that it must not serve, and requests that no machine sends.
func TestServed(t *testing.T) {
	releases, www := t.TempDir(), filepath.Join(t.TempDir(), "www")
	publish(t, releases, first, usual(first))
	s := stager(www)
	staged, err := stage(t.Context(), s, releases, first)
	if err != nil {
		t.Fatal(err)
	}
	// The directory of a test is for its user alone.
	w := serveStaged(t, www)
	kernel, at, script := contents(first, "kernel", kernelSize), "/"+chainToken+"/"+staged.Name, "/"+chainToken+"/netboot.ipxe"
	for _, c := range []struct {
		method, target string
		header         string
		want           int
		body           string // its beginning
	}{
		{"GET", at + "/kernel", "X: y", 200, string(kernel)},
		{"GET", script, "X: y", 200, "#!ipxe\n"},
		{"HEAD", at + "/initrd", "X: y", 200, ""},
		{"GET", at + "/kernel", "Range: bytes=4096-8191", 206, string(kernel[4096:8192])},
		{"GET", at + "/kernel", "Range: bytes=-10", 206, string(kernel[kernelSize-10:])},
		{"GET", at + "/kernel", fmt.Sprintf("Range: bytes=%d-", kernelSize), 416, ""},
		{"GET", at + "/kernel", "Range: bytes=0-9,20-29", 200, string(kernel)},
		{"GET", at + "/kernel", "Range: bytes=" + strings.Repeat("0-,", 300) + "0-", 200, string(kernel)},
		{"GET", at + "/kernel", "Range: bytes=" + strings.Repeat("0-,", 3000) + "0-", 400, ""},
		{"GET", "http://elsewhere.example.org" + script, "X: y", 200, "#!ipxe\n"},
		{"GET", at + "/stage.json", "X: y", 403, ""},
		{"GET", at + "/release/SHA256SUMS.txt", "X: y", 403, ""},
		{"GET", at + "/", "X: y", 403, ""},
		{"GET", at + "/kernel/", "X: y", 403, ""},
		{"GET", at + "/kernel;/../stage.json", "X: y", 403, ""},
		{"GET", at + "/..%2f" + staged.Name + "%2fstage.json", "X: y", 403, ""},
		{"GET", at + "/%2e%2e/" + staged.Name + "/stage.json", "X: y", 403, ""},
		{"GET", "/" + chainToken + "/..%2f..%2f..%2fetc%2fpasswd", "X: y", 400, ""},
		{"GET", "/" + chainToken + "/../../../../etc/passwd", "X: y", 400, ""},
		{"GET", "/" + chainToken + "/current/stage.json", "X: y", 403, ""},
		{"GET", "/" + chainToken + "/.tmp-1/kernel", "X: y", 403, ""},
		{"GET", at + "/kernel%00", "X: y", 400, ""},
		{"GET", "/" + strings.ToUpper(chainToken) + "/netboot.ipxe", "X: y", 403, ""},
		{"GET", "/" + chainToken + "0/netboot.ipxe", "X: y", 403, ""},
		{"GET", "/" + chainToken + "%0a/netboot.ipxe", "X: y", 403, ""},
		{"GET", "/" + strings.Repeat("f", 32) + "/netboot.ipxe", "Range: bytes=999999999-", 403, ""},
		{"GET", "/" + strings.Repeat("f", 5000), "X: y", 414, ""},
		{"POST", script, "Content-Length: 0", 405, ""},
		{"PUT", at + "/kernel", "Content-Length: 0", 405, ""},
		{"DELETE", at + "/kernel", "X: y", 405, ""},
		{"PROPFIND", at + "/kernel", "X: y", 405, ""},
		{"MKCOL", "/" + chainToken + "/x", "X: y", 403, ""},
		{"OPTIONS", script, "X: y", 405, ""},
		{"TRACE", script, "X: y", 405, ""},
	} {
		status, body := w.ask(c.method, c.target, c.header)
		if status != c.want || !strings.HasPrefix(body, c.body) {
			t.Errorf("%s %.150q, %.40q: status %d, want %d; %.60q", c.method, c.target, c.header, status, c.want, body)
		}
		if status/100 == 2 && c.body != "" && c.body != "#!ipxe\n" && body != c.body {
			t.Errorf("%s %q: %d bytes, want %d", c.method, c.target, len(body), len(c.body))
		}
	}
	t.Run("what is not served in the end is served by nobody", func(t *testing.T) {
		if err := os.Rename(filepath.Join(www, "current"), filepath.Join(www, "kept")); err != nil {
			t.Fatal(err)
		}
		if status, _ := w.ask("GET", script); status != 404 {
			t.Errorf("status %d", status)
		}
		if err := os.Rename(filepath.Join(www, "kept"), filepath.Join(www, "current")); err != nil {
			t.Fatal(err)
		}
	})
	// nginx tells of errors with the URL. One that it gives as critical is that it
	// cannot open a file.
	t.Run("a machine out of files", func(t *testing.T) {
		c, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if status, _ := w.askOn(c, "HEAD", at+"/kernel"); status != 200 {
			t.Fatalf("status %d", status)
		}
		var limit unix.Rlimit
		if err := unix.Prlimit(w.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
			t.Fatal(err)
		}
		none := unix.Rlimit{Cur: 0, Max: limit.Max}
		if err := unix.Prlimit(w.cmd.Process.Pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
			t.Fatal(err)
		}
		if status, _ := w.askOn(c, "GET", at+"/kernel"); status != 500 {
			t.Errorf("status %d: nothing was wrong", status)
		}
		if err := unix.Prlimit(w.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Fatal(err)
		}
	})
	_ = w.cmd.Process.Signal(syscall.SIGQUIT)
	_ = w.cmd.Wait()
	log, errs := w.read(w.log), w.read(w.errors)
	for _, text := range []string{log, errs} {
		if strings.Contains(strings.ToLower(text), chainToken) {
			t.Errorf("the token is in the log:\n%s", text)
		}
	}
	if !strings.Contains(log, `127.0.0.1 GET "`+staged.Name+`/kernel" 500 `) || !strings.Contains(log, `206 4096 range="bytes=4096-8191"`+"\n") || !strings.Contains(log, `range="other"`) {
		t.Errorf("the log:\n%s", log)
	}
	for line := range bytes.Lines([]byte(log)) {
		if len(line) > 400 {
			t.Errorf("a line of %d bytes: %.100q", len(line), line)
		}
	}
}
