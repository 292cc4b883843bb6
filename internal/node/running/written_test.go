package running

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// overlay makes h the root of an overlay, whose layers can be seen at /run/layers.
func (h *host) overlay() {
	h.t.Helper()
	base := h.t.TempDir()
	mount := func(source, target, kind, options string) {
		h.t.Helper()
		if err := unix.Mount(source, target, kind, 0, options); err != nil {
			h.t.Skipf("mount %s: %v", kind, err)
		}
		h.t.Cleanup(func() { h.must(unix.Unmount(target, unix.MNT_DETACH)) })
	}
	mount("tmpfs", base, "tmpfs", "mode=0755")
	lower, upper, root := base+"/lower", base+"/upper", base+"/root"
	for _, dir := range []string{lower + "/run/layers", lower + "/opt", lower + "/srv/kept", lower + "/home", upper, base + "/work", root} {
		h.must(os.MkdirAll(dir, 0o755))
	}
	h.must(os.WriteFile(lower+"/srv/kept/file", []byte("kept"), 0o644))
	h.must(os.MkdirAll(lower+"/nix/store", 0o755))
	mount("overlay", root, "overlay", "lowerdir="+lower+",upperdir="+upper+",workdir="+base+"/work")
	h.must(os.MkdirAll(root+"/run/layers", 0o755))
	if err := unix.Mount(base, root+"/run/layers", "", unix.MS_BIND, ""); err != nil {
		h.t.Skip(err)
	}
	h.t.Cleanup(func() { h.must(unix.Unmount(root+"/run/layers", unix.MNT_DETACH)) })
	h.root = root
	store, err := nixstore.OpenStore(root, closure.DefaultStoreDir)
	h.must(err)
	h.t.Cleanup(func() { store.Close() })
	h.m.Store = store
	h.mounted("overlay", "rw,lowerdir=/run/layers/lower,upperdir=/run/layers/upper,workdir=/run/layers/work")
}

// mounted says what the root of the first process is.
func (h *host) mounted(kind, options string) {
	h.m.FirstMounts = func() ([]nixstore.Mount, error) {
		return []nixstore.Mount{{ID: 1, Point: "/", Root: "/", Type: kind, Options: options}}, nil
	}
}

func TestWritten(t *testing.T) {
	h := newHost(t)
	h.overlay()
	h.expect("written")
	h.write("/etc/x", "", 0o644)
	h.write("/var/lib/x", "", 0o644)
	h.write("/root/.bash_history", "", 0o600)
	h.write("/home/u/.cache/a/b", "", 0o600)
	h.must(os.MkdirAll(h.root+"/srv/empty/dirs", 0o755))
	h.expect("written")

	h.write("/root/.bashrc", "evil", 0o644)
	h.write("/srv/kept/more", "", 0o644)
	h.write("/srv/new/a", "12", 0o644)
	h.write("/srv/new/deep/b", "345", 0o644)
	h.must(os.Remove(h.root + "/srv/kept/file"))
	h.must(os.Chmod(h.root+"/home", 0o777))
	h.must(os.Remove(h.root + "/opt")) // what the part "etc" looks at
	h.expect("written", "written-unknown /home:mode", "written-unknown /root/.bashrc", "written-unknown /srv/kept/file", "written-unknown /srv/kept/more", "written-unknown /srv/new")
}

func (h *host) writes() []string {
	h.t.Helper()
	i := slices.IndexFunc(parts(), func(p part) bool { return p.name == "written" })
	l, err := h.m.look(h.t.Context(), parts()[i])
	h.must(err)
	var out []string
	for _, f := range l.findings {
		out = append(out, f.Path+": "+f.Got)
	}
	return append(out, l.notSeen...)
}

func TestWrittenFolds(t *testing.T) {
	h := newHost(t)
	h.overlay()
	for i := range maxOfDir + 5 {
		h.write(fmt.Sprintf("/srv/kept/%02d", i), "x", 0o644)
	}
	h.write("/srv/new/a/b/c", "12345", 0o644)
	h.must(os.Rename(h.root+"/srv/kept/file", h.root+"/srv/file"))
	got := h.writes()
	if want := "/srv/new: a new directory with 1 file, 5 bytes"; !slices.Contains(got, want) {
		t.Errorf("no %q", want)
	}
	// The file that was removed may be among those that are told, or not.
	more := func(s string) bool {
		return strings.HasPrefix(s, "/srv/kept: 6 files, ") && strings.HasSuffix(s, " bytes beyond those that are listed")
	}
	if len(got) != maxOfDir+3 || !slices.ContainsFunc(got, more) {
		t.Errorf("%d: %q", len(got), got)
	}
}

// What is allowed beneath a directory is that whether it is told one by one or not.
func TestWrittenAllowed(t *testing.T) {
	h := newHost(t)
	h.overlay()
	for i := range maxOfDir + 5 {
		h.write(fmt.Sprintf("/srv/kept/%02d", i), "x", 0o644)
		h.write(fmt.Sprintf("/home/%02d", i), "x", 0o644)
	}
	h.m.Allow = []Exception{{Match: "/srv/", Reason: "data"}, {Match: "/home", Reason: "nothing in it"}}
	got := h.writes()
	if len(got) != maxOfDir+1 || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "/srv") }) {
		t.Errorf("%d: %q", len(got), got)
	}
	if i := h.m.excusedBy(report.Finding{Path: "/srv/kept", Field: "mode"}); i >= 0 {
		t.Error("its mode is allowed as well")
	}
}

// A directory in the place of another hides what was in that.
func TestWrittenOpaque(t *testing.T) {
	h := newHost(t)
	h.overlay()
	h.must(os.RemoveAll(h.root + "/srv/kept"))
	h.write("/srv/kept/other", "x", 0o644)
	got := h.writes()
	want := []string{"/srv/kept: a directory that replaces the one below", "/srv/kept/other: a new file of 1 bytes, mode 0644, owner 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Another directory in the place of the upper layer is none.
func TestWrittenElsewhere(t *testing.T) {
	h := newHost(t)
	h.overlay()
	h.mounted("overlay", "upperdir=/srv/kept")
	h.expect("written", "machine-unseen part written")
	h.mounted("ext4", "")
	if got := h.writes(); len(got) != 1 || !strings.Contains(got[0], "ext4") {
		t.Errorf("got %q", got)
	}
}

func TestWrittenInMemory(t *testing.T) {
	h := newHost(t)
	h.mounted("tmpfs", "")
	h.write("/srv/evil", "", 0o644)
	h.expect("written", "written-unknown /srv")
}

// Of data only the rights are judged, where others can get at it.
func TestWrittenRights(t *testing.T) {
	h := newHost(t)
	h.overlay()
	suid := func(name string, mode uint32) {
		h.t.Helper()
		h.write(name, "shell", 0o755)
		h.must(unix.Chmod(h.root+name, mode))
	}
	suid("/var/tmp/.sh", 0o4755)
	suid("/tmp/group", 0o2755)
	suid("/home/u/.cache/x/sh", 0o4755)
	suid("/var/lib/own", 0o4755)
	h.must(os.Chown(h.root+"/var/lib/own", 1000, 1000))
	h.must(unix.Chmod(h.root+"/var/lib/own", 0o4755))
	suid("/var/lib/containers/usr/bin/su", 0o4755)
	h.must(os.Chmod(h.root+"/var/lib/containers", 0o700))
	suid("/var/lib/groups/su", 0o4755)
	h.must(os.Chown(h.root+"/var/lib/groups", 0, 100))
	h.must(os.Chmod(h.root+"/var/lib/groups", 0o750))
	suid("/var/lib/rooms/su", 0o4755)
	h.must(os.Chmod(h.root+"/var/lib/rooms", 0o710))
	suid("/var/lib/listed/su", 0o4755)
	h.must(os.Chmod(h.root+"/var/lib/listed", 0o700))
	list := binary.LittleEndian.AppendUint32(nil, 2) // u::rwx,u:1000:--x,g::---,m::--x,o::---
	for _, e := range [][3]uint32{{1, 7, math.MaxUint32}, {2, 1, 1000}, {4, 0, math.MaxUint32}, {16, 1, math.MaxUint32}, {32, 0, math.MaxUint32}} {
		list = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(list, e[0]|e[1]<<16), e[2])
	}
	h.must(unix.Setxattr(h.root+"/var/lib/listed", "system.posix_acl_access", list, 0))
	suid("/nix/store/x", 0o4755) // contents, or a notice
	h.write("/var/lib/tool", "tool", 0o755)
	h.must(unix.Setxattr(h.root+"/var/lib/tool", "security.capability", []byte{1, 0, 0, 2, 0x80, 19: 0}, 0))
	h.expect("written", "written-unknown /home/u/.cache/x/sh", "written-unknown /tmp/group", "written-unknown /var/lib/groups/su", "written-unknown /var/lib/listed/su", "written-unknown /var/lib/tool", "written-unknown /var/tmp/.sh")
}

// Whatever a user makes in /tmp, the rest is judged.
func TestWrittenPast(t *testing.T) {
	h := newHost(t)
	h.overlay()
	deep := "/tmp/u" + strings.Repeat("/d", 250)
	h.write(deep+"/x", "", 0o644)
	h.write("/tmp/z/sh", "shell", 0o755)
	h.must(unix.Chmod(h.root+"/tmp/z/sh", 0o4755))
	h.write("/var/tmp/sh", "shell", 0o755)
	h.must(unix.Chmod(h.root+"/var/tmp/sh", 0o4755))
	h.expect("written", "machine-unseen "+deep[:len("/tmp/u")+2*198], "written-unknown /tmp/z/sh", "written-unknown /var/tmp/sh")
	// A user's file system, by FUSE.
	w := &written{look: h.m.newLook(), mounts: []nixstore.Mount{{Point: "/tmp/m"}}}
	for name, err := range map[string]error{"tmp/m": unix.EACCES, "tmp/n": unix.EACCES} {
		h.must(w.failed(name, err))
	}
	h.must(w.failed("tmp/m", unix.EIO))
	if len(w.findings) != 2 {
		t.Errorf("found %+v", w.findings)
	}
}
