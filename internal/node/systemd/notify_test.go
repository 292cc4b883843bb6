package systemd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// manager listens where a service manager would, and returns what reads one
// message.
func manager(t *testing.T) func() string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", socket)
	return func() string {
		buf := make([]byte, 4096)
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNotify(t *testing.T) {
	for _, c := range []struct {
		name, status string
		extend       time.Duration
		want         string
	}{
		{"status alone", "contents: 3/7 paths", 0, "STATUS=contents: 3/7 paths"},
		{"with a sign of life", "eval", 90 * time.Second, "STATUS=eval\nEXTEND_TIMEOUT_USEC=90000000"},
		{"a newline is no new assignment", "x\nMAINPID=1", 0, "STATUS=x?MAINPID=1"},
		{"control characters and broken UTF-8", "a\x1b[31m\xff", 0, "STATUS=a?[31m?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := manager(t)
			if heard, err := Notify(c.status, c.extend); !heard || err != nil {
				t.Fatalf("Notify = %t, %v", heard, err)
			}
			if got := read(); got != c.want {
				t.Errorf("the manager heard %q, want %q", got, c.want)
			}
		})
	}
}

func TestNotifyNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if heard, err := Notify("x", time.Second); heard || err != nil {
		t.Errorf("outside a unit: Notify = %t, %v; want false, nil", heard, err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if heard, err := Notify("x", time.Second); heard || err == nil {
		t.Errorf("with a manager that is gone: Notify = %t, %v; want false and an error", heard, err)
	}
}

func TestOneLineIsBounded(t *testing.T) {
	got := oneLine(strings.Repeat("é", maxStatus))
	if len(got) > maxStatus || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("oneLine gave %d bytes: %q", len(got), got)
	}
}
