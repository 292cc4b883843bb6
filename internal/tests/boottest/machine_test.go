//go:build qemu

package boottest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	bootTimeout    = 15 * time.Minute // some 20 s on a machine at rest
	stopTimeout    = 5 * time.Minute
	commandTimeout = 5 * time.Minute
)

// machine is a virtual machine that runs.
type machine struct {
	t       *testing.T
	cmd     *exec.Cmd
	ended   chan struct{} // closed when qemu has
	console *console
	agent   *bufio.Reader
	conn    net.Conn
}

// boot starts a machine and returns at once. A disk whose name ends in
// ",snapshot=on" stays as it is, and may be in use elsewhere.
func boot(t *testing.T, initrd string, disks ...string) *machine {
	t.Helper()
	return start(t, "on", kernel(t, initrd), disks)
}

// bootWarped is boot of a machine whose clock leaps to the next timer when it is
// idle, so that its time-outs take no time here. Nobody can talk with it: its
// time is gone before an answer comes.
func bootWarped(t *testing.T, initrd string, disks ...string) *machine {
	t.Helper()
	return start(t, "off", kernel(t, initrd), disks)
}

// bootFirmware boots a machine by its firmware, which starts what the disk has.
// variables is where the firmware keeps its own.
func bootFirmware(t *testing.T, variables string, disks ...string) *machine {
	t.Helper()
	return start(t, "on", []string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + firmware + "_CODE_4M.fd",
		"-drive", "if=pflash,format=raw,unit=1,file=" + variables,
		"-boot", "menu=off", // no time to wait for a key
	}, disks)
}

// firmware is what the files of Debian's ovmf begin with.
const firmware = "/usr/share/OVMF/OVMF"

// kernel is what qemu starts without a firmware.
func kernel(t *testing.T, initrd string) []string {
	t.Helper()
	// As NixOS has it; the rest is for the test's ears, and for speed.
	return []string{
		"-kernel", filepath.Join(made(t), "vmlinuz"), "-initrd", initrd,
		"-append", "root=fstab console=ttyS0 " + quick + " systemd.journald.forward_to_console=0 systemd.show_status=yes",
	}
}

// quick is for speed, and to end where the kernel fails: page tables of the kernel's
// own cost emulation dearly, and a Debian whose root forgets would set itself up at
// each boot.
const quick = "panic=-1 mitigations=off systemd.condition_needs_update=no"

// start boots a machine. sleep is qemu's: whether an idle machine waits for its
// next timer. With it go the arguments that say what is started.
func start(t *testing.T, sleep string, with, disks []string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "boottest-") // a short name, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	args := []string{
		// One processor: with more, a kernel that patches its own code now and
		// then trips over it under emulation.
		"-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "768",
		// Its clock counts its instructions, four nanoseconds each: where this
		// machine is busy, it is slow, but does not time out.
		"-icount", "shift=2,align=off,sleep=" + sleep,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-device", "isa-serial,chardev=console",
		"-chardev", "socket,id=agent,path=" + socket, "-device", "isa-serial,chardev=agent",
	}
	args = append(args, with...)
	for _, disk := range disks {
		args = append(args, "-drive", "if=virtio,format=raw,file="+disk)
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	// With the test goes the machine, however the test goes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m := &machine{t: t, cmd: cmd, ended: make(chan struct{}), console: &console{changed: make(chan struct{}, 1)}}
	cmd.Stdout, cmd.Stderr = m.console, m.console
	if err := cmd.Start(); err != nil {
		t.Fatalf("start qemu: %v", err)
	}
	go func() {
		_ = cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		m.cut()
		if t.Failed() {
			t.Logf("console:\n%s", m.console.tail(8000))
		}
	})
	go func() {
		<-m.ended
		listener.Close()
	}()
	if m.conn, err = listener.Accept(); err != nil {
		t.Fatalf("qemu does not connect to %s: %v\n%s", socket, err, m.console.tail(2000))
	}
	m.agent = bufio.NewReader(m.conn)
	return m
}

// up waits until the machine has booted.
func (m *machine) up() *machine {
	m.t.Helper()
	begin := time.Now()
	// A firmware speaks on every serial port.
	for line := ""; line != "ready"; {
		line = m.answer(bootTimeout - time.Since(begin))
	}
	m.t.Logf("up after %.0f s", time.Since(begin).Seconds())
	return m
}

func (m *machine) answer(timeout time.Duration) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		m.t.Fatal(err)
	}
	line, err := m.agent.ReadString('\n')
	if err != nil {
		m.t.Fatalf("the machine does not answer: %v", err)
	}
	return strings.TrimSpace(line)
}

// try runs a script in the machine: its output, without the last line break,
// and its status.
func (m *machine) try(script string) (string, int) {
	m.t.Helper()
	m.send(script)
	status, encoded, _ := strings.Cut(m.answer(commandTimeout), " ")
	code, err := strconv.Atoi(status)
	if err != nil {
		m.t.Fatalf("the machine's agent says %q", status)
	}
	out, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		m.t.Fatalf("the machine's agent says %q: %v", encoded, err)
	}
	return strings.TrimRight(string(out), "\n"), code
}

func (m *machine) send(script string) {
	m.t.Helper()
	if _, err := io.WriteString(m.conn, base64.StdEncoding.EncodeToString([]byte(script))+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

// run is try for what must succeed.
func (m *machine) run(script string) string {
	m.t.Helper()
	out, code := m.try(script)
	if code != 0 {
		m.t.Fatalf("%s: status %d\n%s", script, code, out)
	}
	return out
}

// expect runs a script and compares what it prints.
func (m *machine) expect(script, want string) {
	m.t.Helper()
	if got, code := m.try(script); got != want {
		m.t.Errorf("%s: got %q (status %d), want %q", script, got, code, want)
	}
}

// hear waits until the console has shown text.
func (m *machine) hear(text string, timeout time.Duration) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for !m.console.has(text) {
		select {
		case <-m.console.changed:
		case <-m.ended:
			if !m.console.has(text) {
				m.t.Fatalf("the machine ended, and its console never showed %q", text)
			}
		case <-ctx.Done():
			m.t.Fatalf("for %v the console did not show %q", timeout, text)
		}
	}
}

// ends waits until the machine has ended by itself.
func (m *machine) ends(timeout time.Duration) {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(timeout):
		m.t.Fatalf("the machine still runs after %v", timeout)
	}
}

func (m *machine) over() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// reboot has the machine shut down as for a reboot, where qemu ends.
func (m *machine) reboot() {
	m.t.Helper()
	m.send("systemctl --no-block reboot") // which may end the agent before it answers
	m.ends(stopTimeout)
}

// cut takes the power away.
func (m *machine) cut() {
	_ = m.cmd.Process.Kill()
	<-m.ended
	if m.conn != nil {
		m.conn.Close()
	}
}

// console keeps what the machine shows.
type console struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text.Len() > 64*mebibyte {
		return 0, fmt.Errorf("the console shows too much")
	}
	c.text.Write(p)
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *console) has(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.text.Bytes(), []byte(text))
}

func (c *console) tail(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.text.Bytes()
	return string(b[max(0, len(b)-n):])
}
