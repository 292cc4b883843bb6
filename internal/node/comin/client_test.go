package comin

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"every.channel/ec-verify/internal/tests/comintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var system = "/nix/store/" + strings.Repeat("a", 32) + "-nixos-system"

func socketIn(t *testing.T) string {
	t.Helper()
	// The name of a socket has at most 108 bytes.
	dir, err := os.MkdirTemp("", "comin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "grpc.sock")
}

func TestNotRunning(t *testing.T) {
	socket := socketIn(t)
	_, err := New(socket).Waiting(t.Context())
	if want := "comin is not running, or its socket is elsewhere (--socket): "; !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), socket) {
		t.Errorf("%v, want %s…", err, want)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	if _, err := New(socket).Waiting(t.Context()); !errors.Is(err, unix.ECONNREFUSED) || !strings.HasPrefix(err.Error(), "comin is not running") {
		t.Error(err)
	}
}

func TestConfirm(t *testing.T) {
	server := &comintest.Server{}
	socket := socketIn(t)
	server.Start(t, socket)
	c := New(socket)
	if g, err := c.Waiting(t.Context()); g != nil || err != nil {
		t.Errorf("nothing waits, and it is said: %v, %v", g, err)
	}
	server.Add(comintest.Generation{ID: "0b4c", OutPath: system + "-older"})
	server.Submit(comintest.Generation{ID: "7f1e", OutPath: system})
	g, err := c.Waiting(t.Context())
	if err != nil || *g != (Generation{"7f1e", system}) {
		t.Fatalf("%v, %v", g, err)
	}
	// Another one than the one that waits is not deployed, then or later.
	if err := c.Confirm(t.Context(), "0b4c"); err != nil {
		t.Error(err)
	}
	if got := server.Deployed(); len(got) != 0 {
		t.Errorf("%q deployed", got)
	}
	if err := c.Confirm(t.Context(), g.ID); err != nil {
		t.Error(err)
	}
	if got := server.Deployed(); len(got) != 1 || got[0] != system {
		t.Errorf("%q deployed", got)
	}
	if g, err := c.Waiting(t.Context()); g != nil || err != nil {
		t.Errorf("it goes on waiting: %v, %v", g, err)
	}
}

func TestWaiting(t *testing.T) {
	for _, test := range []struct {
		name   string
		mode   int64
		submit []comintest.Generation
		want   string
	}{
		{name: "auto", mode: comintest.Auto, want: "deployConfirmer.mode"},
		{name: "without", mode: comintest.Without, want: "deployConfirmer.mode"},
		{name: "older than 0.10", mode: -1, want: "0.10"},
		{name: "two out paths", submit: []comintest.Generation{{ID: "a", OutPath: system}, {ID: "a", OutPath: system + "2"}}, want: "two out paths"},
		{name: "no out path", submit: []comintest.Generation{{ID: "a"}}, want: "out path of generation a: it is empty"},
		{name: "a line break", submit: []comintest.Generation{{ID: "a", OutPath: system + "\nverified"}}, want: "does not belong there"},
		{name: "a long ID", submit: []comintest.Generation{{ID: strings.Repeat("a", maxID+1), OutPath: system}}, want: "longer than"},
		{name: "a long path", submit: []comintest.Generation{{ID: "a", OutPath: system + strings.Repeat("a", maxPath)}}, want: "longer than"},
		{name: "the same twice", submit: []comintest.Generation{{ID: "a", OutPath: system}, {ID: "a", OutPath: system}}},
		{name: "a long state", submit: []comintest.Generation{{ID: "b", OutPath: strings.Repeat("b", maxMessage)}, {ID: "a", OutPath: system}}, want: "longer than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := socketIn(t)
			server := &comintest.Server{}
			server.SetMode(test.mode)
			for _, g := range test.submit {
				server.Submit(g)
			}
			server.Start(t, socket)
			g, err := New(socket).Waiting(t.Context())
			if test.want == "" {
				if err != nil || *g != (Generation{"a", system}) {
					t.Errorf("%v, %v", g, err)
				}
			} else if err == nil || g != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want %q", g, err, test.want)
			}
		})
	}
}

// serve has whatever answers listen at the socket.
func serve(t *testing.T, socket string, answer http.HandlerFunc) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: answer, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// No server can delay the client beyond its time limit, or make it use more than its limit
// of memory.
func TestAnyServer(t *testing.T) {
	framed := func(message []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	}
	answer := func(status string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write(body)
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", "because")
		}
	}
	field := func(number protowire.Number, message ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), message)
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a website", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }, "is not comin"},
		{"refused", answer("12", nil), "status 12: because"},
		{"no status", answer("", framed(nil)), "gRPC status"},
		{"cut short", answer("0", framed([]byte("message"))[:8]), "not one complete message"},
		{"two messages", answer("0", append(framed(nil), framed(nil)...)), "not one complete message"},
		{"compressed", answer("0", []byte{1, 0, 0, 0, 0}), "not one complete message"},
		{"nothing", answer("0", nil), "not one complete message"},
		{"no message", answer("0", framed([]byte{0xff, 0xff, 0xff})), "comin's state: "},
		{"a field that ends late", answer("0", framed([]byte{8<<3 | 2, 100, 0})), "comin's state: "},
		{"a text for a number", answer("0", framed(field(stateDeployConfirmer, field(confirmerMode, 'x')...))), ""},
		{"empty", answer("0", framed(nil)), "deployConfirmer.mode"},
		{"endless body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, "longer than"},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			for range 200 {
				w.Header().Add("X", strings.Repeat("x", 4<<10))
			}
		}, "ask comin"},
		{"endless trailer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write(framed(nil))
			for range 200 {
				w.Header().Add(http.TrailerPrefix+"X", strings.Repeat("x", 4<<10))
			}
		}, "comin's answer to GetState"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := socketIn(t)
			serve(t, socket, test.answer)
			g, err := New(socket).Waiting(t.Context())
			if test.want == "" {
				if g != nil {
					t.Error(g)
				}
			} else if g != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want %q", g, err, test.want)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		socket := socketIn(t)
		listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		c := New(socket)
		c.wait = 50 * time.Millisecond
		if _, err := c.Waiting(t.Context()); err == nil {
			t.Error("an answer of nobody")
		}
	})
}

// Who listens there and is not root is asked nothing.
func TestPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes root, to be somebody else")
	}
	socket := socketIn(t)
	if err := os.Chmod(filepath.Dir(socket), 0o777); err != nil { //nolint:gosec // for the other user
		t.Fatal(err)
	}
	const other = 65533
	made := make(chan error)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, which does not let go of it.
		runtime.LockOSThread()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			if _, _, no := unix.RawSyscall(unix.SYS_SETRESUID, other, other, other); no != 0 {
				err = no
			}
		}
		if err == nil {
			err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 5))
		}
		made <- err
		<-stop
	}()
	defer func() { close(stop); <-done }()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	_, err := New(socket).Waiting(t.Context())
	if peer := (*PeerError)(nil); !errors.As(err, &peer) || peer.User != other {
		t.Error(err)
	}
}

func TestReachable(t *testing.T) {
	dir := filepath.Dir(socketIn(t))
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // others pass
		t.Fatal(err)
	}
	state := filepath.Join(dir, "private", "comin")
	link := filepath.Join(dir, "comin")
	for _, err := range []error{os.MkdirAll(state, 0o755), os.Symlink("private/comin", link)} { //nolint:gosec // as comin has it
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(link, "grpc.sock")
	if _, err := Reachable(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(state, "grpc.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, test := range []struct {
		private, socket fs.FileMode
		want            bool
	}{{0o755, 0o777, true}, {0o700, 0o777, false}, {0o755, 0o700, false}, {0o711, 0o702, true}} {
		if err := errors.Join(os.Chmod(filepath.Dir(state), test.private), os.Chmod(socket, test.socket)); err != nil {
			t.Fatal(err)
		}
		if got, err := Reachable(socket); got != test.want || err != nil {
			t.Errorf("%04o, %04o: %v, %v", test.private, test.socket, got, err)
		}
	}
}

func FuzzWaiting(f *testing.F) {
	f.Add([]byte{})
	f.Add(confirmation("a"))
	f.Fuzz(func(t *testing.T, message []byte) {
		g, err := waiting(message)
		if g != nil && (err != nil || plain(g.ID, maxID) != nil || plain(g.OutPath, maxPath) != nil) {
			t.Errorf("%v, %v", g, err)
		}
	})
}
