package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// insideEnv tells a process of this test which of liveMounts to try, in the
// machine whose root is the working directory.
const insideEnv = "EC_VERIFY_TEST_INSIDE"

// liveMounts are what can be mounted over a running machine of a plain disk,
// whose release has the fstab plainFstab, and what is found of it. The machine is
// the test's own directory, with mounts and a first process of its own; its file
// system is whatever that of the temporary directory is.
var liveMounts = []struct {
	name     string
	do       func(m *inside)
	verdict  report.Verdict
	findings string
	// stranger says that the first process is not of the machine.
	stranger bool
}{
	{"nothing", func(*inside) {}, report.Verified, "", false},
	{"the store bound over itself", func(m *inside) { m.bind("/nix/store", "/nix/store") }, report.Verified, "", false},
	{"as the fstab says", func(m *inside) { m.bind("/spare/profiles", "/nix/var/nix/profiles") }, report.Verified, "", false},
	{"a copy of /nix", func(m *inside) { m.copy("/nix") }, report.Drifted, "foreign-mount /nix", false},
	{"a copy, bound over itself", func(m *inside) { m.copy("/nix"); m.bind("/nix/store", "/nix/store") }, report.Drifted, "foreign-mount /nix", false},
	{"a copy of the store", func(m *inside) { m.copy("/nix/store") }, report.Drifted, "foreign-mount /nix/store", false},
	{
		"an empty store", func(m *inside) { m.mount("tmpfs", "/nix/store", "tmpfs", 0, "size=1m,mode=1775") }, report.Drifted,
		"mounted-over /nix/store; source-missing /etc/every-channel/flake < mounted-over; source-missing /etc/every-channel/flake < mounted-over; " +
			"missing data < mounted-over; missing lib < mounted-over; missing source < mounted-over; missing nixos-system < mounted-over", false,
	},
	{
		"an empty database", func(m *inside) { m.mount("tmpfs", "/nix/var/nix/db", "tmpfs", 0, "size=1m,mode=755") }, report.Drifted,
		"foreign-mount /nix/var/nix/db; database-unreadable < foreign-mount", false,
	},
	{
		"no /proc", func(m *inside) { m.mount("tmpfs", "/proc", "tmpfs", 0, "size=1m") }, report.Unsettled,
		"proc-unavailable /proc; live-unknown /proc/cmdline init= < proc-unavailable; mounted-over /nix/var/nix/profiles < proc-unavailable; " +
			"mounted-over /nix/store < proc-unavailable; mounted-over /nix/store < proc-unavailable; unreadable /nix/store < proc-unavailable", false,
	},
	{"another database", func(m *inside) { m.copy("/nix/var/nix/db") }, report.Drifted, "foreign-mount /nix/var/nix/db", false},
	{"another file of the database", func(m *inside) { m.bind("/spare/file", "/nix/var/nix/db/db.sqlite") }, report.Drifted, "foreign-mount /nix/var/nix/db/db.sqlite", false},
	{"a file of the database, bound over itself", func(m *inside) { m.bind("/nix/var/nix/db/db.sqlite", "/nix/var/nix/db/db.sqlite") }, report.Verified, "", false},
	{"other profiles", func(m *inside) { m.copy("/nix/var/nix/profiles") }, report.Drifted, "foreign-mount /nix/var/nix/profiles", false},
	{"other profiles of the same disk", func(m *inside) { m.bind("/spare/other", "/nix/var/nix/profiles") }, report.Drifted, "foreign-mount /nix/var/nix/profiles", false},
	{"what runs", func(m *inside) { m.bind("/spare/run", "/run") }, report.Drifted, "foreign-mount /run", false},
	{
		"a first process that sees other directories", func(*inside) {}, report.Unsettled,
		"mounted-over /nix/var/nix/profiles; mounted-over /run; mounted-over /nix/store; mounted-over /nix/var/nix/db", true,
	},
}

const plainFstab = "/spare/profiles /nix/var/nix/profiles none bind 0 0\n"

// TestMountsLive: a copy of the closure that is mounted over the disk is the
// release by every hash.
func TestMountsLive(t *testing.T) {
	var which int
	if _, err := fmt.Sscan(os.Getenv(insideEnv), &which); err == nil {
		mountsInside(t, which)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("mounting takes root")
	}
	m := newMachine(t)
	m.write(string(top)+"/etc/fstab", plainFstab)
	m.files = nil
	m.manifest.Paths = []closure.PathInfo{m.info(data), m.info(lib, data), m.info(src), m.info(top, data, lib, src)}
	m.claim(top)
	m.releases = m.path("/releases")
	m.publish(testTag)
	m.link(CurrentSystem, string(top))
	m.link(BootedSystem, string(top))
	m.write("/cmdline", "init="+string(top)+"/init "+params(top))
	for _, dir := range []string{"/proc", "/tmp", "/spare"} {
		m.mkdir(dir)
	}
	for _, copied := range []struct{ from, to string }{{"/nix/var/nix/profiles", "profiles"}, {"/nix/var/nix/profiles", "other"}, {"/run", "run"}, {"/nix/var/nix/db/db.sqlite", "file"}} {
		m.must(exec.CommandContext(t.Context(), "cp", "-a", m.path(copied.from), m.path("/spare/"+copied.to)).Run())
	}
	for i, c := range liveMounts {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMountsLive$", "-test.v")
			cmd.Dir = m.root
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", insideEnv, i), "TMPDIR=/tmp")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			if !c.stranger {
				cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
			}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, syscall.EPERM) {
				t.Skipf("no mount namespaces here: %v", err)
			}
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// inside is the machine as a process in it mounts things there.
type inside struct{ t *testing.T }

func (m *inside) mount(source, at, kind string, flags uintptr, options string) {
	m.t.Helper()
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		m.t.Fatalf("mount %s: %v", at, err)
	}
}

func (m *inside) bind(from, at string) { m.t.Helper(); m.mount(from, at, "", unix.MS_BIND, "") }

// copy lays a copy of a directory over it, in memory.
func (m *inside) copy(at string) {
	m.t.Helper()
	if err := os.MkdirAll("/copy", 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.mount("tmpfs", "/copy", "tmpfs", 0, "size=16m,mode=755")
	if err := copyTree(at, "/copy"); err != nil {
		m.t.Fatal(err)
	}
	m.mount("/copy", at, "", unix.MS_MOVE, "")
}

// copyTree copies files, directories and links with their modes and times; there
// is no cp in the machine.
func copyTree(from, to string) error {
	var dirs []string
	err := filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		dst := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case info.IsDir():
			dirs = append(dirs, path)
			return os.MkdirAll(dst, 0o755)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			return errors.Join(err, os.Symlink(target, dst))
		}
		text, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(dst, text, 0o600), os.Chmod(dst, info.Mode()), os.Chtimes(dst, info.ModTime(), info.ModTime()))
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		info, serr := os.Stat(dirs[i])
		if serr != nil {
			return errors.Join(err, serr)
		}
		dst := filepath.Join(to, strings.TrimPrefix(dirs[i], from))
		err = errors.Join(err, os.Chmod(dst, info.Mode()), os.Chtimes(dst, info.ModTime(), info.ModTime()))
	}
	return err
}

// mountsInside is the inner process of TestMountsLive.
func mountsInside(t *testing.T, which int) {
	m := &inside{t}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	m.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	m.bind(root, root)
	m.mount("proc", filepath.Join(root, "proc"), "proc", 0, "")
	m.bind(filepath.Join(root, "cmdline"), filepath.Join(root, "proc/cmdline"))
	// The directory becomes the root of all, as systemd-nspawn has it.
	if err := errors.Join(os.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/")); err != nil {
		t.Fatalf("change the root: %v", err)
	}
	c := liveMounts[which]
	c.do(m)
	disk := &machine{t: t, root: "/", releases: "/releases", eval: &evaluator{top: closure.Toplevel{DrvPath: drv, OutPath: top}}}
	v := disk.verifier()
	v.Root = ""
	v.Open = func(ctx context.Context) []Candidate { return []Candidate{disk.open(ctx, testTag)} }
	r := v.Verify(t.Context(), nil)
	var findings []string
	if c.findings != "" {
		findings = strings.Split(c.findings, "; ")
	}
	expect(t, r, c.verdict, findings...)
	if len(r.Coverage.Origins) < 4 && nixstore.CheckProc() == nil {
		t.Errorf("the report does not say from where was read: %+v", r.Coverage.Origins)
	}
	if t.Failed() {
		for _, f := range r.Findings {
			t.Logf("%+v", f)
		}
	}
}
