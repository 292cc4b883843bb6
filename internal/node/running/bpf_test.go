package running

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
)

func TestKeptProgram(t *testing.T) {
	for _, test := range []struct {
		facts, kind string
		id          uint32
	}{
		{"pos:\t0\nflags:\t02000002\nprog_type:\t15\nprog_jited:\t1\nprog_tag:\t59f4a931744dcdc6\nprog_id:\t102\n", "cgroup_device", 102},
		{"pos:\t0\nlink_type:\ttracing\nlink_id:\t3\nprog_tag:\t59f4\nprog_id:\t7\nattach_type:\t24\n", "tracing", 7},
		{"prog_type:\t99\nprog_id:\t1\n", "99", 1},
		{"map_type:\t1\nmap_id:\t4\nmax_entries:\t1\n", "", 0},
		{"prog_id:\t-1\n", "", 0},
		{"", "", 0},
	} {
		if id, kind := keptProgram(test.facts); id != test.id || kind != test.kind {
			t.Errorf("%q: %d, %q", test.facts, id, kind)
		}
	}
}

// loadBPF loads a program that does nothing, by bpf(2).
func loadBPF(t *testing.T, kind uint32, name string) *os.File {
	t.Helper()
	instructions := [2]uint64{0xb7, 0x95} // r0 = 0; exit
	license := [4]byte{'G', 'P', 'L'}
	a := struct {
		kind, count           uint32
		instructions, license unsafe.Pointer
		level, size           uint32
		log                   uint64
		version, flags        uint32
		name                  [16]byte
	}{kind: kind, count: 2, instructions: unsafe.Pointer(&instructions), license: unsafe.Pointer(&license)}
	copy(a.name[:15], name)
	fd, err := bpf(unix.BPF_PROG_LOAD, &a)
	if err != nil {
		t.Skipf("no BPF program can be loaded here: %v", err)
	}
	f := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { f.Close() })
	return f
}

func numberOf(t *testing.T, f *os.File) uint32 {
	t.Helper()
	facts, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	id, _ := keptProgram(string(facts))
	if id == 0 {
		t.Fatalf("no number in %q", facts)
	}
	return id
}

// pin has a file keep a program.
func pin(t *testing.T, f *os.File, name string) {
	t.Helper()
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	a := struct {
		name      unsafe.Pointer
		fd, flags uint32
	}{name: unsafe.Pointer(text), fd: uint32(f.Fd())}
	if _, err := bpf(unix.BPF_OBJ_PIN, &a); err != nil {
		t.Fatal(err)
	}
}

// bpfFinds returns what is found of those programs whose findings have a word, while
// processes and mounts are these.
func bpfFinds(t *testing.T, m *Machine, word string, pids ...string) (found []string) {
	t.Helper()
	l := m.newLook()
	if err := m.checkBPF(t.Context(), l, pids); err != nil {
		t.Fatal(err)
	}
	for _, f := range l.findings {
		if s := f.Path + ":" + f.Field; strings.Contains(s+" "+f.Got, word) {
			found = append(found, s)
		}
	}
	return found
}

// wantSame reports whether what was found is what is wanted.
func wantSame(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("found:\n got  %q\n want %q", got, want)
	}
}

const socketFilter, xdpFilter, classifier = 1, 6, 3

// TestBPF: a program in the kernel is a finding, unless a service of the release, or the
// first process, keeps it.
func TestBPF(t *testing.T) {
	r := newRunner(t)
	r.m.FirstMounts = func() ([]nixstore.Mount, error) { return nil, nil }
	f := loadBPF(t, socketFilter, "kept_by_test")
	own := strconv.Itoa(os.Getpid())
	exe, err := os.Readlink("/proc/self/exe")
	r.must(err)
	wantSame(t, bpfFinds(t, r.m, own+",", own), exe+":BPF socket_filter")

	// Whatever else holds it, who may list programs sees it.
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	r.must(err)
	defer unix.Close(sockets[0])
	defer unix.Close(sockets[1])
	r.must(unix.SetsockoptInt(sockets[0], unix.SOL_SOCKET, unix.SO_ATTACH_BPF, int(f.Fd())))
	wantSame(t, bpfFinds(t, r.m, "kept_by_test", own))
	f.Close()
	wantSame(t, bpfFinds(t, r.m, "kept_by_test", own), "BPF program kept_by_test:socket_filter")
	r.must(unix.SetsockoptInt(sockets[0], unix.SOL_SOCKET, unix.SO_DETACH_BPF, 0))
}

// A service's child process has for a moment what the service manager has open.
func TestBPFOfManager(t *testing.T) {
	r := newRunner(t)
	f := loadBPF(t, socketFilter, "kept_by_manager")
	b := &bpfLook{look: r.m.newLook(), kept: map[uint32]bool{}}
	var err error
	b.manager, err = programOf("/proc/self")
	r.must(err)
	r.must(b.process(strconv.Itoa(os.Getpid())))
	if len(b.findings) > 0 || !b.kept[numberOf(t, f)] {
		t.Errorf("found %v, kept %v", b.findings, b.kept)
	}
}

// TestBPFPins: what is pinned runs without any process.
func TestBPFPins(t *testing.T) {
	r := newRunner(t)
	dir := filepath.Join(t.TempDir(), "bpf")
	r.must(os.Mkdir(dir, 0o700))
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=700"); err != nil {
		t.Skipf("no file system of BPF can be mounted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) }) //nolint:errcheck // a test's
	r.m.FirstMounts = func() ([]nixstore.Mount, error) { return []nixstore.Mount{{Point: dir, Type: "bpf"}}, nil }
	wantSame(t, bpfFinds(t, r.m, dir))
	f := loadBPF(t, socketFilter, "pinned")
	r.must(os.Mkdir(dir+"/tc", 0o700))
	pin(t, f, dir+"/tc/evil")
	f.Close()
	wantSame(t, bpfFinds(t, r.m, dir), dir+"/tc/evil:")
	// The file explains the program, if the machine of the test is that of the first process.
	if _, err := os.Stat(FirstRoot + dir + "/tc/evil"); err == nil {
		wantSame(t, bpfFinds(t, r.m, "BPF program pinned"))
	}
	r.must(os.Remove(dir + "/tc/evil"))
}

// TestMayPin: the kernel and a service of the release have files of their own there.
func TestMayPin(t *testing.T) {
	h := newHost(t)
	const restrict = "systemd/userns-restrict/programs/userns_restrict_path_chown"
	for name, want := range map[string]bool{"maps.debug": true, "progs.debug": true, "a/progs.debug": false, restrict: false, "evil": false} {
		if h.m.mayPin(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	h.write(string(shell)+"/systemd-nsresourced.service", "", 0o444)
	if !h.m.mayPin(restrict) {
		t.Errorf("%s is not systemd's", restrict)
	}
}

// TestBPFInterfaces: programs see packets of an interface without any process.
func TestBPFInterfaces(t *testing.T) {
	r := newRunner(t)
	// The thread, with a network of its own, ends with this goroutine.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network can be made here: %v", err)
	}
	finds := func() (found []string) {
		t.Helper()
		b := &bpfLook{look: r.m.newLook(), kept: map[uint32]bool{}}
		r.must(b.interfaces())
		for _, f := range b.findings {
			found = append(found, f.Path+":"+f.Field)
		}
		if len(b.notSeen) > 0 || b.checked == 0 {
			t.Errorf("looked at %d, not seen %q", b.checked, b.notSeen)
		}
		return found
	}
	wantSame(t, finds())
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	r.must(err)
	defer conn.Close()
	number := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	// bpf_xdp_attach of the loopback interface, the kernel's own way.
	info := make([]byte, unix.SizeofIfInfomsg)
	copy(info[4:], number(1))
	attach := func(fd int32) error {
		data, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.IFLA_XDP | netlink.Nested, Data: attributesOf(t,
			netlink.Attribute{Type: unix.IFLA_XDP_FD, Data: number(uint32(fd))},
			netlink.Attribute{Type: unix.IFLA_XDP_FLAGS, Data: number(unix.XDP_FLAGS_SKB_MODE)})}})
		r.must(err)
		_, err = conn.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_SETLINK, Flags: netlink.Request | netlink.Acknowledge}, Data: append(slices.Clone(info), data...)})
		return err
	}
	f := loadBPF(t, xdpFilter, "on_interface")
	r.must(attach(int32(f.Fd())))
	wantSame(t, finds(), "interface lo:BPF xdp")
	r.must(attach(-1))
	wantSame(t, finds())

	// "tc qdisc add dev lo clsact", and "tc filter add dev lo egress bpf direct-action".
	class := make([]byte, 20)
	copy(class[4:], number(1))
	copy(class[8:], number(0xffff0000))
	copy(class[12:], number(0xfffffff1))
	create := netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWQDISC, Flags: create},
		Data:   append(slices.Clone(class), attributesOf(t, netlink.Attribute{Type: unix.TCA_KIND, Data: []byte("clsact\x00")})...),
	})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("a kernel without clsact")
	}
	r.must(err)
	filter := make([]byte, 20)
	copy(filter[4:], number(1))
	copy(filter[12:], number(0xfffffff3))
	copy(filter[16:], number(1<<16|0x0300)) // a priority, and all protocols
	c := loadBPF(t, classifier, "classifies")
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWTFILTER, Flags: create},
		Data: append(filter, attributesOf(t,
			netlink.Attribute{Type: unix.TCA_KIND, Data: []byte("bpf\x00")},
			netlink.Attribute{Type: unix.TCA_OPTIONS | netlink.Nested, Data: attributesOf(t,
				netlink.Attribute{Type: 6, Data: number(uint32(c.Fd()))}, netlink.Attribute{Type: tcaBPFName, Data: []byte("classifies\x00")},
				netlink.Attribute{Type: tcaBPFFlags, Data: number(1)})})...),
	})
	r.must(err)
	wantSame(t, finds(), "interface lo:BPF tc egress")
}

const tcaBPFFlags = 8

func attributesOf(t *testing.T, list ...netlink.Attribute) []byte {
	t.Helper()
	data, err := netlink.MarshalAttributes(list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// In a container the kernel's programs are another machine's, and those of processes are
// looked at all the same.
func TestBPFOfContainer(t *testing.T) {
	h := newHost(t)
	h.write("/run/systemd/container", "lxc", 0o444)
	loadBPF(t, socketFilter, "contained")
	own := strconv.Itoa(os.Getpid())
	l := h.m.newLook()
	h.must(h.m.checkBPF(t.Context(), l, []string{own}))
	if len(l.findings) != 1 || len(l.notSeen) != 1 {
		t.Errorf("found %v, not seen %q", l.findings, l.notSeen)
	}
}

// TestBPFUnprivileged: without the right to list programs, the kernel is not asked.
func TestBPFUnprivileged(t *testing.T) {
	if os.Getenv("RUNNING_TEST_NO_ADMIN") == "" {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("it takes setpriv")
		}
		cmd := exec.Command(setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "RUNNING_TEST_NO_ADMIN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	r := newRunner(t)
	r.m.FirstMounts = func() ([]nixstore.Mount, error) { return nil, nil }
	l := r.m.newLook()
	r.must(r.m.checkBPF(t.Context(), l, nil))
	if len(l.findings) > 0 || len(l.notSeen) == 0 || !strings.Contains(l.notSeen[0], "CAP_SYS_ADMIN") {
		t.Errorf("found %v, not seen %q", l.findings, l.notSeen)
	}
}

// BenchmarkBPF looks at the processes of this machine.
func BenchmarkBPF(b *testing.B) {
	store, err := nixstore.OpenStore("/", "/nix/store")
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	m := &Machine{Store: store, FirstMounts: func() ([]nixstore.Mount, error) { return nil, nil }}
	pids, err := processes()
	if err != nil {
		b.Fatal(err)
	}
	open := 0
	for _, pid := range pids {
		if err := openFiles(path.Join(proc, pid), func(string, []byte) { open++ }); err != nil && !isOver(err) {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := m.checkBPF(b.Context(), m.newLook(), pids); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(pids)), "processes")
	b.ReportMetric(float64(open), "open-files")
}
