package running

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

func TestListening(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:926D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 2 000000003e261f47 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 2 00000000bb9dab48 100 0 0 10 0
   2: 0100007F:0016 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 103 2 00000000bb9dab48 100 0 0 10 0
   3: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 2 0 100 0 0 10 0
`
	got := listening{}
	if err := got.read(strings.NewReader(tcp), "tcp", "0A"); err != nil {
		t.Fatal(err)
	}
	want := listening{101: "tcp 127.0.0.1:37485", 102: "tcp 0.0.0.0:22", 104: "tcp [::1]:53"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	const raw = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
    1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 201 2 0000000000000000 0
    2: 0100007F:00FF 0100007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 202 2 0000000000000000 0
`
	const packet = `sk               RefCnt Type Proto  Iface R Rmem   User   Inode
00000000d2d3b8a4 3      3    0003   2     1 0      0      301
`
	got = listening{}
	if err := errors.Join(got.read(strings.NewReader(raw), "raw", ""), got.read(strings.NewReader(packet), packets, "")); err != nil {
		t.Fatal(err)
	}
	if want := (listening{201: "raw 0.0.0.0:1", 202: "raw 127.0.0.1:255", 301: "packet 0003"}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got = listening{}
	for i := range uint64(maxListening - 1) {
		got[1000+i] = "udp 0.0.0.0:1"
	}
	if err := got.read(strings.NewReader(raw), "raw", ""); !errors.Is(err, errListening) || len(got) != maxListening || got[201] == "" {
		t.Errorf("%d sockets, %v", len(got), err)
	}
	for _, bad := range []string{"x", "0100007F", "0100007F:10000", "0100007:0016", "010000ZZ:0016"} {
		if at, err := parseAddress(bad); err == nil {
			t.Errorf("%q is %s", bad, at)
		}
	}
}

// onThread runs do in a thread that ends with it, and is not the first one of this
// process: by that one's files and mounts /proc/self goes.
func onThread(do func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			do()
			return
		}
		begun := make(chan struct{})
		go func() {
			runtime.LockOSThread() // the first one is taken
			close(begun)
			do()
		}()
		<-begun
		runtime.UnlockOSThread()
	}()
}

// A thread may keep its files from the others of its process.
func TestThreadSockets(t *testing.T) {
	type made struct {
		inode uint64
		err   error
	}
	ready, done := make(chan made), make(chan struct{})
	onThread(func() {
		var m made
		var fd int
		var st unix.Stat_t
		if m.err = unix.Unshare(unix.CLONE_FILES); m.err == nil {
			if fd, m.err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); m.err == nil {
				m.err = errors.Join(unix.Listen(fd, 1), unix.Fstat(fd, &st))
				m.inode = st.Ino
			}
		}
		ready <- m
		<-done
	})
	defer close(done)
	m := <-ready
	if m.err != nil {
		t.Fatal(m.err)
	}
	s := listening{m.inode: "tcp"}
	var found []uint64
	for _, task := range tasks(fmt.Sprintf("/proc/%d", os.Getpid())) {
		has, err := s.of(task)
		if err != nil && !isOver(err) {
			t.Fatal(err)
		}
		found = append(found, has...)
	}
	if !slices.Equal(found, []uint64{m.inode}) {
		t.Errorf("found %v, want %d once", found, m.inode)
	}
}

func TestUnitOf(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/sshd.service\n":                                        "sshd.service",
		"1:name=systemd:/x.service\n0::/system.slice/system-a.slice/a@b.service": "a@b.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                          "user.slice",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/nc.service\n":      "user.slice",
		"0::/machine.slice/x.service\n":                                          "machine.slice",
		"0::/system.slice/run-1.scope\n":                                         "run-1.scope",
		"0::/init.scope\n":                                                       "init.scope",
		"0::/\n":                                                                 "no unit",
		"":                                                                       "no unit",
	} {
		if got := unitOf(groups); got != want {
			t.Errorf("%q: got %q, want %q", groups, got, want)
		}
	}
}

func TestHasUnit(t *testing.T) {
	h := newHost(t)
	h.write(string(shell)+"/sshd.service", "", 0o444)
	h.write(string(shell)+"/getty@.service", "", 0o444)
	h.link(string(shell)+"/masked.service", "/dev/null")
	for unit, want := range map[string]bool{
		"sshd.service": true, "getty@tty1.service": true, "evil.service": false, "evil@sshd.service": false, "masked.service": false, "../sshd.service": false,
	} {
		if got := h.m.hasUnit(unit); got != want {
			t.Errorf("%s: got %v", unit, got)
		}
	}
}

// TestActivates: sockets of the service manager are those of socket units.
func TestActivates(t *testing.T) {
	h := newHost(t)
	units := object("f", "units")
	h.m.Paths = append(h.m.Paths, closure.PathInfo{Path: units})
	h.write(string(units)+"/a.socket", "[Socket]\nListenStream=22\nListenStream=/run/x\nListenDatagram=127.0.0.1:53\n", 0o444)
	h.write(string(units)+"/a.socket.d/b.conf", "[Socket]\nListenStream=[fe80::1%eth0]:80\n", 0o444)
	h.write(string(units)+"/a.service", "ListenStream=24\n", 0o444)
	h.link(string(etcPath)+"/etc/systemd/system", string(units))
	addresses, err := h.m.socketAddresses(t.Context())
	h.must(err)
	for socket, want := range map[string]bool{
		"tcp 0.0.0.0:22": true, "tcp [::]:22": true, "udp [::]:22": false, "tcp [::]:23": false, "tcp [::]:24": false,
		"udp 127.0.0.1:53": true, "udp 0.0.0.0:53": false, "tcp [fe80::1]:80": true, "tcp [fe80::2]:80": false, "packet 0003": false,
	} {
		if got := activates(addresses, socket); got != want {
			t.Errorf("%s: got %v", socket, got)
		}
	}
}
