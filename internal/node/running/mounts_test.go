package running

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
)

// table returns mounts, written as "POINT DEVICE ROOT TYPE", each on the last one
// before whose point is above.
func table(t *testing.T, text string) []nixstore.Mount {
	t.Helper()
	var out []nixstore.Mount
	for line := range strings.Lines(strings.TrimSpace(text)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			t.Fatalf("malformed: %q", line)
		}
		m := nixstore.Mount{ID: 20 + len(out), Parent: 1, Point: f[0], Device: f[1], Root: f[2], Type: f[3], Source: f[3]}
		for _, above := range out {
			if above.Point == "/" || beneath(m.Point, above.Point) {
				m.Parent = above.ID
			}
		}
		out = append(out, m)
	}
	return out
}

const plainMounts = "/ 8:1 / ext4\n/proc 0:5 / proc\n/sys 0:6 / sysfs\n/run 0:7 / tmpfs\n/nix/store 8:1 /nix/store ext4\n"

func TestFirstMounts(t *testing.T) {
	for _, c := range []struct{ name, fstab, more, want string }{
		{"nothing more", "/dev/sda1 / ext4", "", ""},
		{"what systemd mounts", "/dev/sda1 / ext4", "/sys/fs/cgroup 0:8 / cgroup2\n/sys/kernel/debug 0:9 / debugfs\n/sys/kernel/tracing 0:10 / tracefs\n/proc/sys/fs/binfmt_misc 0:11 / autofs\n/proc/sys/fs/binfmt_misc 0:12 / binfmt_misc\n/run/user/0 0:13 / tmpfs\n/run/credentials/x.service 0:14 / ramfs\n/dev 0:15 / devtmpfs", ""},
		{"wrappers of an older NixOS", "/dev/sda1 / ext4", "/run/wrappers 0:8 / tmpfs", ""},
		{"a transient machine-id", "/dev/sda1 / ext4", "/etc/machine-id 0:7 /machine-id tmpfs", ""},
		{"another file in its place", "/dev/sda1 / ext4", "/etc/machine-id 0:7 /evil tmpfs", "foreign-mount /etc/machine-id"},
		{"the lock of a closed gate", "/dev/sda1 / ext4", "/nix/var/nix/profiles/system.lock 0:5 /null devtmpfs", ""},
		{"another file over it", "/dev/sda1 / ext4", "/nix/var/nix/profiles/system.lock 0:5 /evil devtmpfs", "foreign-mount /nix/var/nix/profiles/system.lock"},
		{"a boot disk that systemd found", "/dev/sda1 / ext4", "/boot 0:8 / autofs\n/boot 8:2 / vfat", ""},
		{"another than the configured boot disk", "/dev/sda1 / ext4\n/dev/sda9 /boot ext4", "/boot 8:2 / vfat", "foreign-mount /boot"},
		{"a disk for data", "/dev/sda1 / ext4", "/mnt 8:3 / ext4\n/var/lib/x 8:4 / ext4\n/home/a 8:4 / ext4", ""},
		{"over a program", "/dev/sda1 / ext4", "/nix/store/x/bin/y 8:1 /root/y ext4", "foreign-mount /nix/store/x/bin/y"},
		{"over /etc/static", "/dev/sda1 / ext4", "/etc/static 8:1 /root/y ext4", "foreign-mount /etc/static"},
		{"over what beneath is bound over itself", "/dev/sda1 / ext4", "/etc 8:1 /root/etc ext4\n/etc/nix 8:1 /root/etc/nix ext4", "foreign-mount /etc"},
		{"a process that is hidden", "/dev/sda1 / ext4", "/proc/77 0:7 /empty tmpfs", "foreign-mount /proc/77"},
		{"another process in its place", "/dev/sda1 / ext4", "/proc/77 0:5 /1 proc", "foreign-mount /proc/77"},
		{"a list of modules", "/dev/sda1 / ext4", "/proc/modules 8:1 /root/modules ext4", "foreign-mount /proc/modules"},
		{"a tmpfs of the kernel's name", "/dev/sda1 / ext4", "/sys/kernel/debug 0:9 / tmpfs", "foreign-mount /sys/kernel/debug"},
		{"keys", "/dev/sda1 / ext4", "/home/a 8:4 / ext4\n/home/a/.ssh 8:4 /b ext4", "foreign-mount /home/a/.ssh"},
		{"without an fstab", "", "/etc 8:1 /root/etc ext4", "mounted-over /etc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			l := h.m.newLook()
			want := &expected.Machine{Mounts: strings.Split(c.fstab, "\n")}
			if c.fstab == "" {
				want.Mounts = nil
			}
			first := slices.DeleteFunc(table(t, plainMounts+c.more), func(m nixstore.Mount) bool { return !onWay(m.Point) && m.Point != "/home/a" })
			l.firstMounts(h.m, want, first, false)
			if got := toldOf(l); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func toldOf(l *look) string {
	var out []string
	for _, f := range l.findings {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Cause, f.Path, f.Field)))
	}
	return strings.Join(out, "; ")
}

func TestPrivateMounts(t *testing.T) {
	for _, c := range []struct{ name, unit, first, has, want string }{
		{"the same", "", "", "", ""},
		{"read-only over itself", "", "", "/usr 8:1 /usr ext4\n/etc 8:1 /etc ext4\n/etc/nix 8:1 /etc/nix ext4", ""},
		{"another /proc and /sys", "", "/sys/kernel/debug 0:9 / debugfs", "/proc 0:20 / proc\n/proc/sys 0:20 /sys proc\n/sys 0:21 / sysfs\n/sys/fs/cgroup 0:22 / cgroup2", ""},
		{"groups of its own", "", "/sys/fs/cgroup 0:22 / cgroup2", "/sys/fs/cgroup 0:22 /system.slice/x.service cgroup2", ""},
		{"what is hidden", "", "", "/proc/kcore 0:7 /systemd/inaccessible/reg tmpfs\n/etc/nix 0:7 /systemd/inaccessible/dir tmpfs", ""},
		{"what was mounted later", "", "/boot 8:2 / vfat", "", ""},
		{"what was unmounted", "", "/etc/nix 8:2 / ext4", "", "foreign-mount /etc/nix x.service"},
		{"another directory", "", "", "/etc/nix 8:1 /srv/evil ext4", "foreign-mount /etc/nix x.service"},
		{"and what lies in it", "", "/etc/nix/path 8:1 /x ext4", "/etc/nix 8:1 /srv/evil ext4", "foreign-mount /etc/nix x.service"},
		{"another part of /proc", "", "", "/proc/sys 0:5 /bus proc", "foreign-mount /proc/sys x.service"},
		{"an empty one", "", "", "/etc/nix 0:30 / tmpfs", "foreign-mount /etc/nix x.service"},
		{"an empty one that the unit has", "TemporaryFileSystem=/etc/nix:ro /opt", "", "/etc/nix 0:30 / tmpfs", ""},
		{"a part of a file system where it has an empty one", "TemporaryFileSystem=/etc/nix", "", "/etc/nix 0:7 /evil tmpfs", "foreign-mount /etc/nix x.service"},
		{"an image that the unit has", "ExtensionImages=/x.raw", "", "/usr 0:40 / overlay", ""},
		{"an image, and a program over its", "ExtensionImages=/x.raw", "", "/usr 0:40 / overlay\n/usr/bin/x 8:1 /evil ext4", "foreign-mount /usr/bin/x x.service"},
		{"homes", "", "", "/home 0:30 / tmpfs\n/root 0:7 /systemd/inaccessible/dir tmpfs\n/tmp 8:1 /tmp/x ext4", ""},
		{"keys of one", "", "", "/root/.ssh 8:1 /evil ext4", "foreign-mount /root/.ssh x.service"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			l := h.m.newLook()
			keep := func(text string) []nixstore.Mount {
				return slices.DeleteFunc(table(t, plainMounts+text), func(m nixstore.Mount) bool { return !onWay(m.Point) })
			}
			l.privateMounts("x.service", "/proc/self", bindingsOf("[Service]\n"+c.unit), keep(c.first), keep(c.has))
			if got := toldOf(l); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A file that is bound by the unit's own setting is the very file.
func TestBindings(t *testing.T) {
	h := newHost(t)
	h.write("/srv/a", "", 0o644)
	h.write("/srv/b", "", 0o644)
	h.link("/srv/link", "a")
	stat := func(name string) nixstore.Mount { return nixstore.Mount{Point: name, Type: "ext4", Root: name} }
	for _, c := range []struct {
		setting, point string
		want           bool
	}{
		{"BindPaths=/srv/a:/srv/a", "/srv/a", true},
		{"BindReadOnlyPaths=-/srv/link:/srv/a:rbind", "/srv/a", true},
		{"BindReadOnlyPaths=/srv/b:/srv/a", "/srv/a", false},
		{"BindReadOnlyPaths=/srv/gone:/srv/a", "/srv/a", false},
		{"BindReadOnlyPaths=/srv/a:/srv/b", "/srv/a", false},
		{"BindReadOnlyPaths=/srv:/srv", "/srv/a", true},
		{"BindReadOnlyPaths=%t/a:/srv/a", "/srv/a", true},
		{"BindReadOnlyPaths=/srv/b:/srv/%i", "/srv/a", false},
		{"BindReadOnlyPaths=/srv/a /srv/b", "/srv/b", true},
		{"# BindPaths=/srv/a", "/srv/a", false},
		{"TemporaryFileSystem=/srv/a", "/srv/a", false},
	} {
		m := stat(c.point)
		// The process is this one, and its root the machine's.
		got := slices.ContainsFunc(bindingsOf("[Service]\n"+c.setting), func(b binding) bool { return b.explains(h.m, h.root, c.point, &m) })
		if got != c.want {
			t.Errorf("%s at %s: got %v", c.setting, c.point, got)
		}
	}
}

func TestDropInNames(t *testing.T) {
	for unit, want := range map[string]string{
		"a.service":       "a.service service",
		"a-b-c.service":   "a-b-c.service a-b-.service a-.service service",
		"g-x@tty.service": "g-x@tty.service g-x@.service g-.service service",
	} {
		if got := strings.Join(dropInNames(unit), " "); got != want {
			t.Errorf("%s: got %q, want %q", unit, got, want)
		}
	}
}

// TestThreadNamespace: a thread may have mounts that its process has not.
func TestThreadNamespace(t *testing.T) {
	own, err := namespaceOf("/proc/self", "mnt")
	if err != nil {
		t.Fatal(err)
	}
	tid, done := make(chan string), make(chan struct{})
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			tid <- ""
			return
		}
		tid <- fmt.Sprint(unix.Gettid())
		<-done
	})
	defer close(done)
	id := <-tid
	if id == "" {
		t.Skip("no mount namespaces here")
	}
	s := &spaces{own: own, builds: &code{}, dirs: map[namespace][]string{}}
	if err := s.process(fmt.Sprintf("/proc/%d", os.Getpid())); err != nil {
		t.Fatal(err)
	}
	for _, dirs := range s.dirs {
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasSuffix(dir, "/task/"+id) }) {
			return
		}
	}
	t.Errorf("thread %s is in none of %v", id, s.dirs)
}

// TestInaccessible: what is bound over what services are not to see is empty.
func TestInaccessible(t *testing.T) {
	h := newHost(t)
	l := h.m.newLook()
	h.must(os.MkdirAll(h.root+"/run/systemd/inaccessible/dir", 0o700))
	h.write("/run/systemd/inaccessible/reg", "", 0)
	if l.judgeInaccessible(); toldOf(l) != "" {
		t.Errorf("got %s", toldOf(l))
	}
	h.write("/run/systemd/inaccessible/dir/evil", "", 0o644)
	h.write("/run/systemd/inaccessible/reg", "evil", 0o644)
	l.judgeInaccessible()
	if got := toldOf(l); got != "foreign-mount /run/systemd/inaccessible/dir; foreign-mount /run/systemd/inaccessible/reg" {
		t.Errorf("got %s", got)
	}
}

// TestMountsMany: there may be thousands in each of many namespaces.
func TestMountsMany(t *testing.T) {
	h := newHost(t)
	var text strings.Builder
	text.WriteString(plainMounts)
	for i := range 2 * maxGuarded {
		fmt.Fprintf(&text, "/etc/%d 8:1 /etc/%d ext4\n", i, i)
	}
	l := h.m.newLook()
	l.privateMounts("x.service", "/proc/self", nil, table(t, plainMounts), table(t, text.String()))
	if got := toldOf(l); got != "machine-unseen unit x.service" {
		t.Errorf("got %q", got)
	}
	h.m.FirstMounts = func() ([]nixstore.Mount, error) { return nil, errors.New("no list") }
	h.expect("mounts", "machine-unseen part mounts")
}
