package hostfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckOwn(t *testing.T) {
	root := os.Getuid() == 0
	for _, c := range []struct {
		name  string
		root  bool // takes root to prepare
		do    func(dir string) error
		asked string
		want  string // what the error names, below the directory; "" for none
	}{
		{"a file", false, func(string) error { return nil }, "etc/config", ""},
		{"a file for all to read", false, func(d string) error { return os.Chmod(d+"/etc/config", 0o444) }, "etc/config", ""},
		{"nothing", false, func(string) error { return nil }, "etc/absent/x", ""},
		{"its group may write", false, func(d string) error { return os.Chmod(d+"/etc/config", 0o664) }, "etc/config", "/etc/config (mode 0664)"},
		{"all may write", false, func(d string) error { return os.Chmod(d+"/etc/config", 0o646) }, "etc/config", "/etc/config (mode 0646)"},
		{"in a directory of a group", false, func(d string) error { return os.Chmod(d+"/etc", 0o775) }, "etc/config", "/etc (mode 0775)"},
		{"nothing in a directory of a group", false, func(d string) error { return os.Chmod(d+"/etc", 0o775) }, "etc/absent", "/etc (mode 0775)"},
		{"in a sticky directory", false, func(d string) error { return unix.Chmod(d+"/etc", 0o1777) }, "etc/config", ""},
		{"a sticky directory itself", false, func(d string) error { return unix.Chmod(d+"/etc", 0o1777) }, "etc", "/etc (mode 1777)"},
		{"and with a stroke behind", false, func(d string) error { return unix.Chmod(d+"/etc", 0o1777) }, "etc/", "/etc (mode 1777)"},
		{"further up", false, func(d string) error { return unix.Chmod(d, 0o777) }, "etc/config", " (mode 0777)"},
		{"behind a link", false, func(d string) error {
			return errors.Join(os.Mkdir(d+"/other", 0o755), os.Symlink("../etc/config", d+"/other/link"), os.Chmod(d+"/etc/config", 0o664))
		}, "other/link", "/etc/config, which others can write to (mode 0664)"},
		{"a link that others can replace", false, func(d string) error {
			return errors.Join(os.Mkdir(d+"/other", 0o755), os.Symlink(d+"/etc", d+"/other/link"), os.Chmod(d+"/other", 0o757))
		}, "other/link/config", "/other (mode 0757)"},
		{"a ring", false, func(d string) error { return os.Symlink("ring", d+"/ring") }, "ring", "/ring"},
		{"a named pipe", false, func(d string) error { return unix.Mkfifo(d+"/pipe", 0o600) }, "pipe", ""},
		{"somebody's file", true, func(d string) error { return os.Chown(d+"/etc/config", 1000, 0) }, "etc/config", "/etc/config belongs to user 1000"},
		{"somebody's directory", true, func(d string) error { return os.Chown(d+"/etc", 1000, 0) }, "etc/config", "/etc belongs to user 1000"},
		{"somebody's link", true, func(d string) error {
			return errors.Join(os.Symlink("etc/config", d+"/link"), os.Lchown(d+"/link", 1000, 0))
		}, "link", "/link belongs to user 1000"},
		{"a file of a group that may not write", true, func(d string) error { return os.Chown(d+"/etc/config", 0, 1000) }, "etc/config", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && !root {
				t.Skip("giving files away takes root")
			}
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(dir+"/etc", 0o755), os.WriteFile(dir+"/etc/config", nil, 0o600), c.do(dir)); err != nil {
				t.Fatal(err)
			}
			err := CheckOwn(dir + "/" + c.asked)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), dir+c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if root {
		// A link is named where what it leads to is somebody else's.
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(dir+"/theirs", nil, 0o600), os.Chown(dir+"/theirs", 1000, 0), os.Symlink("theirs", dir+"/link")); err != nil {
			t.Fatal(err)
		}
		err := CheckOwn(dir + "/link")
		if want := "the link " + dir + "/link leads to " + dir + "/theirs, which belongs to user 1000"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, fine := range []string{"/", "/dev/null", "/proc/self/fd/0", "/proc/self/mountinfo"} {
		if err := CheckOwn(fine); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	if root {
		dir := t.TempDir()
		if err := os.Chown(dir, 1000, 0); err != nil {
			t.Fatal(err)
		}
		if err := CheckOwn(dir, 1000); err != nil {
			t.Errorf("of one who is trusted: %v", err)
		}
	}
}

// What a process was handed as a descriptor has no name that others could change.
func TestCheckOwnOfDescriptors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := CheckOwn(fmt.Sprintf("/dev/fd/%d", r.Fd())); err != nil {
		t.Error(err)
	}
}
