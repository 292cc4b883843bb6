//go:build qemu

package guest

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
	// BootTimeout is how long a machine may take to boot: some 20 s where its processor
	// is emulated on a machine at rest.
	BootTimeout = 15 * time.Minute
	// StopTimeout is how long it may take to shut down.
	StopTimeout    = 5 * time.Minute
	commandTimeout = 5 * time.Minute
)

// Machine is a virtual machine that runs.
type Machine struct {
	t       *testing.T
	cmd     *exec.Cmd
	ended   chan struct{} // closed when qemu has
	console *console
	agent   *bufio.Reader
	conn    net.Conn
}

// Emulated has qemu emulate the machine's processor, whose clock counts its
// instructions, four nanoseconds each: where this machine is busy, it is slow, but does
// not time out. sleep is qemu's: whether an idle machine waits for its next timer, or its
// clock leaps to that.
func Emulated(sleep string) []string {
	// One processor: with more, a kernel that patches its own code now and then trips
	// over it under emulation.
	return []string{"-accel", "tcg", "-smp", "1", "-icount", "shift=2,align=off,sleep=" + sleep}
}

// Start starts a machine and returns at once. command makes the command of qemu's
// arguments: those that Start has, and args, among them those of [Emulated].
func Start(t *testing.T, command func(argv ...string) *exec.Cmd, args ...string) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "guest-") // a short name, for the socket
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
	cmd := command(append([]string{
		"qemu-system-x86_64", "-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-device", "isa-serial,chardev=console",
		"-chardev", "socket,id=agent,path=" + socket, "-device", "isa-serial,chardev=agent",
	}, args...)...)
	// With the test goes the machine, however the test goes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m := &Machine{t: t, cmd: cmd, ended: make(chan struct{}), console: &console{changed: make(chan struct{}, 1)}}
	cmd.Stdout, cmd.Stderr = m.console, m.console
	if err := cmd.Start(); err != nil {
		t.Fatalf("start qemu: %v", err)
	}
	go func() {
		_ = cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		m.Cut()
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

// Shows reports whether the console has shown text.
func (m *Machine) Shows(text string) bool { return m.console.has(text) }

// Up waits until the machine has booted.
func (m *Machine) Up() *Machine {
	m.t.Helper()
	begin := time.Now()
	// A firmware speaks on every serial port.
	for line := ""; line != "ready"; {
		line = m.answer(BootTimeout - time.Since(begin))
	}
	m.t.Logf("up after %.0f s", time.Since(begin).Seconds())
	return m
}

func (m *Machine) answer(timeout time.Duration) string {
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

// Try runs a script in the machine: its output, without the last line break,
// and its status.
func (m *Machine) Try(script string) (string, int) {
	m.t.Helper()
	m.Send(script)
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

// Send has the machine run a script, and does not wait.
func (m *Machine) Send(script string) {
	m.t.Helper()
	if _, err := io.WriteString(m.conn, base64.StdEncoding.EncodeToString([]byte(script))+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

// Run is Try for what must succeed.
func (m *Machine) Run(script string) string {
	m.t.Helper()
	out, code := m.Try(script)
	if code != 0 {
		m.t.Fatalf("%s: status %d\n%s", script, code, out)
	}
	return out
}

// Expect runs a script and compares what it prints.
func (m *Machine) Expect(script, want string) {
	m.t.Helper()
	if got, code := m.Try(script); got != want {
		m.t.Errorf("%s: got %q (status %d), want %q", script, got, code, want)
	}
}

// Hear waits until text appears on the console.
func (m *Machine) Hear(text string, timeout time.Duration) {
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

// Ends waits until the machine has ended by itself.
func (m *Machine) Ends(timeout time.Duration) {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(timeout):
		m.t.Fatalf("the machine still runs after %v", timeout)
	}
}

// Over reports whether the machine has ended.
func (m *Machine) Over() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// Reboot has the machine shut down as for a reboot, where qemu ends.
func (m *Machine) Reboot() {
	m.t.Helper()
	m.Send("systemctl --no-block reboot") // which may end the agent before it answers
	m.Ends(StopTimeout)
}

// Cut takes the power away.
func (m *Machine) Cut() {
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
	if c.text.Len() > 64<<20 {
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
