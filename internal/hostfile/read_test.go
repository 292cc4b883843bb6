package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadSmall: what is no small regular file is refused by name, and nothing
// of it is waited for. A test that waits fails by its time limit.
func TestReadSmall(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("file"), []byte("12345"), 0o600))
	must(os.WriteFile(at("sparse"), nil, 0o600))
	must(os.Truncate(at("sparse"), 1<<40))
	must(os.Symlink("file", at("link")))
	must(os.Symlink("loop", at("loop")))
	must(unix.Mkfifo(at("pipe"), 0o600))
	// A pipe that somebody holds open can be opened, and a read would wait.
	must(unix.Mkfifo(at("held"), 0o600))
	held, err := os.OpenFile(at("held"), os.O_RDWR, 0)
	must(err)
	defer held.Close()
	socket, err := net.Listen("unix", at("socket"))
	must(err)
	defer socket.Close()

	for _, c := range []struct {
		name             string
		want, wantNoLink error
	}{
		{at("file"), nil, nil},
		{at("link"), nil, ErrNotRegular},
		{at("pipe"), ErrNotRegular, ErrNotRegular},
		{at("held"), ErrNotRegular, ErrNotRegular},
		{at("socket"), ErrNotRegular, ErrNotRegular},
		{at("loop"), unix.ELOOP, ErrNotRegular},
		{at("none"), fs.ErrNotExist, fs.ErrNotExist},
		{dir, ErrNotRegular, ErrNotRegular},
		{"/dev/zero", ErrNotRegular, ErrNotRegular},
	} {
		data, err := ReadSmall(c.name, 5)
		check(t, c.name, data, err, c.want)
		data, err = ReadSmallNoFollow(c.name, 5)
		check(t, c.name, data, err, c.wantNoLink)
	}
	// The size of a file in /proc is 0, whatever it contains.
	for name, limit := range map[string]int64{at("file"): 4, at("sparse"): 1 << 10, "/proc/self/maps": 5} {
		if _, err := ReadSmall(name, limit); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s: larger than %d bytes", name, limit)) {
			t.Errorf("%s with the limit %d: %v", name, limit, err)
		}
	}
}

func check(t *testing.T, name string, data []byte, err, want error) {
	t.Helper()
	switch {
	case !errors.Is(err, want):
		t.Errorf("%s: %v, want %v", name, err, want)
	case err == nil && string(data) != "12345":
		t.Errorf("%s: read %q", name, data)
	case err != nil && !strings.Contains(err.Error(), name):
		t.Errorf("%s: the error does not name it: %v", name, err)
	}
}
