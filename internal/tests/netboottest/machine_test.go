//go:build qemu

package netboottest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/guest"
)

// bootTimeout is how long a machine may take from power on to power off: about
// half a minute under emulation on an idle core.
const bootTimeout = 15 * time.Minute

// firmware is a kind of machine.
type firmware string

const (
	bios firmware = "bios" // SeaBIOS, with iPXE in the network card's ROM
	uefi firmware = "uefi" // EDK2, with its own PXE and no ROM in the card
)

// macPrefix begins the hardware addresses of a kind.
var macPrefix = map[firmware]string{bios: "52:54:00:77:01", uefi: "52:54:00:77:02"}

// console collects what a machine writes to its serial port.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

// String returns what was written, without what moves a terminal's cursor.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return -1
		}
		return r
	}, c.buf.String())
}

// boot turns on a machine of the given kind in the lab, waits until it turns
// itself off, and returns what was on its serial console. more are arguments of
// qemu.
func (l *lab) boot(t *testing.T, kind firmware, more ...string) string {
	t.Helper()
	args := []string{
		"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-accel", "tcg", "-m", "768", "-serial", "stdio",
	}
	args = append(append(args, l.machine(t, kind)...), more...)
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	cmd := l.command(ctx, args...)
	screen := new(console)
	cmd.Stdout, cmd.Stderr = screen, screen
	start := time.Now()
	err := cmd.Run()
	text := screen.String()
	if err != nil {
		t.Errorf("the machine did not come to its end: %v", err)
	}
	t.Logf("%s: on for %s", kind, time.Since(start).Round(time.Second))
	return text
}

// start turns on a machine of the given kind that a test can talk with.
func (l *lab) start(t *testing.T, kind firmware, more ...string) *guest.Machine {
	t.Helper()
	args := append(append(guest.Emulated("on"), "-m", "1280"), l.machine(t, kind)...)
	return guest.Start(t, func(argv ...string) *exec.Cmd { return l.command(t.Context(), argv...) }, append(args, more...)...)
}

// machine connects a machine of the given kind to the lab: qemu's arguments for it.
func (l *lab) machine(t *testing.T, kind firmware) []string {
	t.Helper()
	// The name of a device has at most 15 characters.
	n := l.nextTap()
	tap := fmt.Sprintf("tap%d", n)
	l.sh("ip tuntap add " + tap + " mode tap && ip link set " + tap + " master lan up")
	args := []string{
		"-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng",
		"-netdev", "tap,id=lan,ifname=" + tap + ",script=no,downscript=no",
	}
	card := fmt.Sprintf("virtio-net-pci,netdev=lan,mac=%s:%02x,bootindex=1", macPrefix[kind], n)
	switch kind {
	case bios:
		if rom := os.Getenv("EC_VERIFY_PXE_ROM"); rom != "" {
			card += ",romfile=" + rom
		}
		args = append(args, "-machine", "pc,graphics=off", "-device", card)
	case uefi:
		vars := filepath.Join(t.TempDir(), "vars.fd")
		data, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vars, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-machine", "q35",
			"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
			"-drive", "if=pflash,format=raw,file="+vars,
			"-device", card+",romfile=")
	}
	return args
}

var taps struct {
	sync.Mutex
	n int
}

func (l *lab) nextTap() int {
	taps.Lock()
	defer taps.Unlock()
	taps.n++
	return taps.n
}

// marker is what the initrd of the release tag says.
func marker(tag string) string { return "EC-NETBOOT-TEST booted " + tag }
