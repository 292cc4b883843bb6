package nar

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// opens watches paths and returns a function that tells how many times they
// were opened since. It is how a test sees that something was left alone.
func opens(t *testing.T, paths ...string) (count func() int) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Skip("no inotify: ", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for _, p := range paths {
		_, err := unix.InotifyAddWatch(fd, p, unix.IN_OPEN|unix.IN_ACCESS|unix.IN_DONT_FOLLOW)
		must(t, err)
	}
	return func() int {
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return 0
		}
		must(t, err)
		return n / unix.SizeofInotifyEvent
	}
}

// unsupported makes one of each type that a NAR cannot hold, as far as the
// user may.
func unsupported(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths := map[string]string{"FIFO": dir + "/fifo", "socket": dir + "/socket"}
	must(t, unix.Mkfifo(paths["FIFO"], 0o644))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: paths["socket"], Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	// A character device with the number of /dev/null, a block device with none.
	if unix.Mknod(dir+"/null", unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))) == nil {
		paths["character device"] = dir + "/null"
	}
	if unix.Mknod(dir+"/block", unix.S_IFBLK|0o644, int(unix.Mkdev(250, 250))) == nil {
		paths["block device"] = dir + "/block"
	}
	return paths
}

func TestSumRefusesUnsupported(t *testing.T) {
	for kind, path := range unsupported(t, t.TempDir()) {
		t.Run(kind, func(t *testing.T) {
			checkNoLeak(t)
			root := place(t, dir{"a": file{}, "sub": dir{"b": file{}}})
			inside := root + "/sub/special"
			must(t, os.Rename(path, inside))
			opened := opens(t, inside)

			for _, tt := range []struct{ path, want string }{
				{root, "root/sub/special"},
				{inside, "special"}, // as the root, where no directory tells the type
			} {
				for _, mode := range []ReadMode{ReadCached, ReadDisk} {
					sum, err := hashPath(t, tt.path, Options{Read: mode})
					var perr *PathError
					if !errors.Is(err, ErrUnsupported) || !errors.As(err, &perr) || perr.Path != tt.want || sum != (Sum{}) {
						t.Errorf("HashPath = %v, %v; want ErrUnsupported about %q", sum, err, tt.want)
					} else if !strings.Contains(err.Error(), kind) {
						t.Errorf("error %q does not say %q", err, kind)
					}
				}
			}
			if n := opened(); n != 0 {
				t.Errorf("it was opened: %d events", n)
			}
			// The watch would have told.
			if kind == "FIFO" {
				f, err := os.OpenFile(inside, os.O_RDWR, 0)
				must(t, err)
				f.Close()
				if opened() == 0 {
					t.Error("the watch does not see an open")
				}
			}
		})
	}
}

func TestSumFollowsNoLink(t *testing.T) {
	outside := place(t, dir{"f": file{data: "outside"}})
	opened := opens(t, outside, outside+"/f")
	path := place(t, dir{"file": link(outside + "/f"), "dir": link(outside)})
	want := sumOf(archive(dir{"file": link(outside + "/f"), "dir": link(outside)}))
	if got, err := hashPath(t, path, Options{}); err != nil || got != want {
		t.Errorf("HashPath = %v, %v; want %v", got, err, want)
	}
	if n := opened(); n != 0 {
		t.Errorf("a target was opened: %d events", n)
	}
	if _, err := os.ReadFile(path + "/file"); err != nil || opened() == 0 {
		t.Error("the watch does not see an open")
	}
}

// unprivileged runs f on a thread that may not do what only root may.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The file system's user ID is that of a thread, and with it go the
		// capabilities that concern files. The thread ends with the goroutine,
		// since it is never unlocked.
		runtime.LockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestSumUnreadable(t *testing.T) {
	path := place(t, dir{
		"file": file{data: "secret"}, "dir": dir{"f": file{}}, "open": dir{"f": file{data: "f"}},
	})
	// So that another user gets there; what is not this test's stays as it is.
	for p := filepath.Dir(path); p != filepath.Clean(os.TempDir()) && p != "/"; p = filepath.Dir(p) {
		must(t, os.Chmod(p, 0o755))
	}
	parent, err := os.OpenFile(filepath.Dir(path), unix.O_PATH, 0)
	must(t, err)
	defer parent.Close()

	check := func(name string, broken string, mode os.FileMode) {
		t.Helper()
		must(t, os.Chmod(path+broken, mode))
		unprivileged(t, func() {
			_, err := NewHasher(Options{}).Sum(t.Context(), parent, "root")
			var perr *PathError
			if !errors.Is(err, syscall.EACCES) || !errors.As(err, &perr) || perr.Path != "root"+name {
				t.Errorf("%s with mode %v: Sum = %v; want EACCES about %q", broken, mode, err, "root"+name)
			}
			if errors.Is(err, ErrChanged) || errors.Is(err, ErrUnsupported) {
				t.Errorf("Sum = %v; want no sentinel", err)
			}
		})
		must(t, os.Chmod(path+broken, 0o755))
	}
	check("/file", "/file", 0)
	check("/dir", "/dir", 0)
	check("/dir/f", "/dir", 0o444) // may be listed, not entered
	check("", "", 0)

	// Someone else's readable files: O_NOATIME is refused and given up.
	unprivileged(t, func() {
		h := NewHasher(Options{})
		want := sumOf(archive(dir{"f": file{data: "f"}}))
		sub, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer sub.Close()
		if got, err := h.Sum(t.Context(), sub, "open"); err != nil || got != want {
			t.Errorf("Sum = %v, %v; want %v", got, err, want)
		}
		if os.Geteuid() == 0 && h.noatime != 0 {
			t.Error("O_NOATIME was allowed: the test does not show what it is for")
		}
	})
}

func TestSumReadError(t *testing.T) {
	// The memory of this process at address 0 fails with EIO.
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer mem.Close()
	h := NewHasher(Options{})
	h.path = append(h.path, "root/f"...)
	h.out.start(h.digest, false)
	err = h.fromCache(int(mem.Fd()), 10, false)
	var errno syscall.Errno
	if !errors.As(err, &errno) || errno != syscall.EIO || errors.Is(err, ErrChanged) {
		t.Errorf("fromCache = %v; want EIO", err)
	}
	if want := `read "root/f": input/output error`; err.Error() != want {
		t.Errorf("error is %q; want %q", err, want)
	}

	// A file that says it has 4,096 bytes and cannot be read.
	const speed = "/sys/class/net/lo/speed"
	if _, err := os.Stat(speed); err != nil {
		t.Skip(err)
	}
	for _, mode := range []ReadMode{ReadCached, ReadDisk} {
		if _, err := hashPath(t, speed, Options{Read: mode}); !errors.As(err, &errno) || errno != syscall.EINVAL {
			t.Errorf("%v: HashPath(%q) = %v; want EINVAL", mode, speed, err)
		}
	}
}

// No link on Linux is longer than 4,095 bytes; what a buffer may have cut short
// must not be hashed all the same.
func TestSumTargetCutShort(t *testing.T) {
	path := place(t, dir{"7": link("1234567"), "8": link("12345678")})
	parent, err := os.Open(path)
	must(t, err)
	defer parent.Close()
	h := NewHasher(Options{})
	h.target = make([]byte, 8)
	if got, err := h.Sum(t.Context(), parent, "7"); err != nil || got != sumOf(archive(link("1234567"))) {
		t.Errorf("7 bytes: Sum = %v, %v", got, err)
	}
	if got, err := h.Sum(t.Context(), parent, "8"); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("8 bytes: Sum = %v, %v; want ENAMETOOLONG", got, err)
	}
}

func TestPathErrorMessage(t *testing.T) {
	tests := []struct {
		err  PathError
		want string
	}{
		{PathError{Path: "r/\x80\n\x1b[2J", Op: "open", Err: syscall.EACCES}, `open "r/\x80\n\x1b[2J": permission denied`},
		{
			PathError{Path: strings.Repeat("a", 5000), Op: "list", Err: ErrChanged},
			`list …"` + strings.Repeat("a", 4096) + `": changed while being read`,
		},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q; want %q", got, tt.want)
		}
	}
}
