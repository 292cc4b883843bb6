package nixstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/closure"
)

// machine is a root with a store, as a mounted disk is.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t, t.TempDir()}
	m.dir("/nix/store")
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) dir(name string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) file(name, data string) { m.t.Helper(); write(m.t, m.path(name), data) }

func (m *machine) link(name, target string) { m.t.Helper(); symlink(m.t, target, m.path(name)) }

func (m *machine) open() *Store {
	m.t.Helper()
	s, err := OpenStore(m.root, closure.DefaultStoreDir)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { s.Close() })
	return s
}

func TestOpenStore(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	if s.Dir() != closure.DefaultStoreDir {
		t.Errorf("Dir = %s", s.Dir())
	}
	a, b, c := object(1, "a"), object(2, "b"), object(3, "c")
	m.file(string(a), "")
	m.link(string(b), "/nowhere")
	m.dir("/nix/store/.links")
	for _, tc := range []struct {
		p    closure.StorePath
		want bool
	}{{a, true}, {b, true}, {c, false}} {
		if got, err := s.Exists(tc.p); got != tc.want || err != nil {
			t.Errorf("Exists(%s) = %v, %v, want %v", tc.p, got, err, tc.want)
		}
	}
	if _, err := s.Exists("/nix/store/../../etc"); err == nil {
		t.Error("Exists of no store path succeeds")
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(s.File().Fd()), a.Base(), &st, 0); err != nil {
		t.Errorf("File: %v", err)
	}

	// The store of another machine whose /nix is a link within its root.
	moved := newMachine(t)
	removeAll(t, moved.path("/nix"))
	moved.file("/data/nix/store/"+a.Base(), "moved")
	moved.link("/nix", "/data/nix")
	if data, err := moved.open().ReadFile(a, "", 10); string(data) != "moved" {
		t.Errorf("ReadFile through a link within the root = %q, %v", data, err)
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	outside := newMachine(t)
	for name, prepare := range map[string]func(m *machine){
		"nothing":   func(m *machine) { removeAll(t, m.path("/nix")) },
		"a file":    func(m *machine) { removeAll(t, m.path("/nix/store")); m.file("/nix/store", "") },
		"leads out": func(m *machine) { removeAll(t, m.path("/nix")); m.link("/nix", outside.path("/nix")) },
		"climbs out": func(m *machine) {
			removeAll(t, m.path("/nix"))
			m.link("/nix", strings.Repeat("../", 40)+outside.path("/nix"))
		},
		"through /proc":     func(m *machine) { removeAll(t, m.path("/nix")); m.link("/nix", "/proc/self/root"+outside.path("/nix")) },
		"leads to itself":   func(m *machine) { removeAll(t, m.path("/nix")); m.link("/nix", "/nix") },
		"root does not lie": func(m *machine) { removeAll(t, m.root) },
	} {
		m := newMachine(t)
		prepare(m)
		if s, err := OpenStore(m.root, closure.DefaultStoreDir); err == nil {
			t.Errorf("%s: OpenStore succeeds", name)
			s.Close()
		}
	}
	if _, err := OpenStore("", "nix/store"); err == nil {
		t.Error("OpenStore of a relative directory succeeds")
	}
}

func TestReadFile(t *testing.T) {
	m := newMachine(t)
	p := object(1, "source")
	m.file(string(p)+"/sub/flake.lock", "{}")
	m.file(string(p)+"/big", strings.Repeat("x", 1001))
	m.file(string(p)+"/secret-neighbour", "")
	m.link(string(p)+"/link", "sub/flake.lock")
	m.link(string(p)+"/dir", "sub")
	m.link(string(p)+"/out", "/etc/passwd")
	m.file("/etc/passwd", "root")
	m.file(string(object(2, "file")), "itself")
	m.link(string(object(3, "link")), object(2, "file").Base())
	if err := unix.Mkfifo(m.path(string(p)+"/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := m.open()
	for _, tc := range []struct {
		p         closure.StorePath
		rel, want string
	}{
		{p, "sub/flake.lock", "{}"}, {p, "/sub/flake.lock", "{}"}, {p, "secret-neighbour", ""}, {object(2, "file"), "", "itself"},
	} {
		if got, err := s.ReadFile(tc.p, tc.rel, 1000); err != nil || string(got) != tc.want {
			t.Errorf("ReadFile(%s, %q) = %q, %v, want %q", tc.p, tc.rel, got, err, tc.want)
		}
	}
	if _, err := s.ReadFile(p, "big", 1000); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ReadFile of a big file: %v, want ErrTooLarge", err)
	}
	if got, err := s.ReadFile(p, "big", 1001); len(got) != 1001 || err != nil {
		t.Errorf("ReadFile at the limit: %d bytes, %v", len(got), err)
	}
	if _, err := s.ReadFile(p, "nothing", 1000); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of nothing: %v, want ErrNotExist", err)
	}
	for _, rel := range []string{"link", "dir/flake.lock", "out", "fifo", "sub", "", "../../../etc/passwd", "sub/../../" + object(2, "file").Base()} {
		if got, err := s.ReadFile(p, rel, 1000); err == nil {
			t.Errorf("ReadFile(%q) = %q, want an error", rel, got)
		}
	}
	if got, err := s.ReadFile(object(3, "link"), "", 1000); err == nil {
		t.Errorf("ReadFile of an object that is a link = %q", got)
	}
	if _, err := s.ReadFile("/etc/passwd", "", 1000); err == nil {
		t.Error("ReadFile outside the store succeeds")
	}
}

func TestResolveLink(t *testing.T) {
	m := newMachine(t)
	system, etc, source := object(1, "nixos-system"), object(2, "etc"), object(3, "source")
	m.dir(string(system))
	m.link(string(system)+"/etc", string(etc)+"/etc")
	m.file(string(source)+"/flake.nix", "")
	m.dir(string(source) + "/hosts/a")
	// As NixOS lays it out.
	m.link("/run/current-system", string(system))
	m.link("/nix/var/nix/profiles/system", "system-42-link")
	m.link("/nix/var/nix/profiles/system-42-link", string(system))
	m.link("/etc/static", string(etc)+"/etc")
	m.link("/etc/every-channel/flake", "/etc/static/every-channel/flake")
	m.link(string(etc)+"/etc/every-channel/flake", string(source))
	m.link("/etc/whole", "/etc/static/whole/flake")
	m.link(string(etc)+"/etc/whole", "../../"+source.Base()+"/hosts")
	m.dir(string(source) + "/hosts/flake")
	m.link("/deep", string(source)+"/hosts//./a/../a/")
	m.link("/up", "../../..//"+strings.TrimPrefix(string(system), "/"))
	m.link("/gone", string(object(9, "gone")))
	m.link("/gone-inside", string(source)+"/nothing/here")
	m.link("/dangling", "/no/such/place")
	m.link("/loop", "/loop")
	m.link("/out", "/etc")
	m.link("/store", "/nix/store")
	m.link("/odd", "/nix/store/.links")
	m.link("/through-file", string(source)+"/flake.nix/x")
	m.dir("/nix/store/.links")
	m.dir("/plain/dir")
	last := string(system)
	for i := range 41 {
		name := "/chain/" + strings.Repeat("x", i+1)
		m.link(name, last)
		last = name
	}

	s := m.open()
	for _, tc := range []struct {
		name string
		want closure.StorePath
		rest string
	}{
		{"/run/current-system", system, ""},
		{"/nix/var/nix/profiles/system", system, ""},
		{"/etc/every-channel/flake", source, ""},
		{"/run/current-system/etc/every-channel/flake", source, ""},
		{"/etc/static", etc, "/etc"},
		{"/etc/whole", source, "/hosts/flake"},
		{"/deep", source, "/hosts/a"},
		{"/up", system, ""},
		{"//run/../run/./current-system/", system, ""},
		{string(source) + "/hosts", source, "/hosts"},
		{"/chain/" + strings.Repeat("x", 40), system, ""},
	} {
		p, rest, err := s.ResolveLink(tc.name)
		if p != tc.want || rest != tc.rest || err != nil {
			t.Errorf("ResolveLink(%s) = %s, %q, %v, want %s, %q", tc.name, p, rest, err, tc.want, tc.rest)
		}
	}
	for _, tc := range []struct {
		name string
		err  error
		p    closure.StorePath
		rest string
	}{
		{"/gone", fs.ErrNotExist, object(9, "gone"), ""},
		{"/gone-inside", fs.ErrNotExist, source, "/nothing/here"},
		{"/dangling", fs.ErrNotExist, "", ""},
		{"/nothing", fs.ErrNotExist, "", ""},
		{"/loop", ErrLinkLoop, "", ""},
		{"/chain/" + strings.Repeat("x", 41), ErrLinkLoop, "", ""},
		{"/out", ErrOutsideStore, "", ""},
		{"/store", ErrOutsideStore, "", ""},
		{"/odd", ErrOutsideStore, "", ""},
		{"/plain/dir", ErrNotLink, "", ""},
		{"/", ErrNotLink, "", ""},
		{"/through-file", unix.ENOTDIR, "", ""},
		{"/" + strings.Repeat("x", 5000), unix.ENAMETOOLONG, "", ""},
	} {
		p, rest, err := s.ResolveLink(tc.name)
		if !errors.Is(err, tc.err) || p != tc.p || rest != tc.rest {
			t.Errorf("ResolveLink(%.40s) = %s, %q, %v, want %v", tc.name, p, rest, err, tc.err)
		}
	}
	for _, name := range []string{"", "relative", "/nul\x00"} {
		if _, _, err := s.ResolveLink(name); err == nil {
			t.Errorf("ResolveLink(%q) succeeds", name)
		}
	}
}

// TestResolveLinkOfProcess: what a process has open is not where its link says.
func TestResolveLinkOfProcess(t *testing.T) {
	dir := t.TempDir()
	p := object(1, "system")
	object := filepath.Join(dir, p.Base())
	if err := os.Mkdir(object, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore("/", closure.StoreDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Chdir(object)
	for _, name := range []string{"/proc/self/cwd", "/proc/thread-self/cwd", "/proc/self/root" + object, "/proc/self/ns/net"} {
		if at, err := s.Follow(name); !errors.Is(err, ErrProcessLink) {
			t.Errorf("Follow(%q) = %q, %v", name, at, err)
		}
		if p, rest, err := s.ResolveLink(name); !errors.Is(err, ErrProcessLink) {
			t.Errorf("ResolveLink(%q) = %q, %q, %v", name, p, rest, err)
		}
	}
	if at, err := s.Follow("/proc/mounts"); err != nil || !strings.HasSuffix(at, "/mounts") {
		t.Errorf("Follow(/proc/mounts) = %q, %v", at, err)
	}
}

// TestResolveLinkOfTwoRoots: a link names the store by its own name, wherever
// that is mounted, and not the store of this machine.
func TestResolveLinkOfTwoRoots(t *testing.T) {
	m := newMachine(t)
	p := object(1, "system")
	removeAll(t, m.path("/nix/store"))
	m.dir("/data/store/" + p.Base())
	m.link("/nix/store", "/data/store")
	m.link("/run/current-system", string(p))
	if got, _, err := m.open().ResolveLink("/run/current-system"); got != p || err != nil {
		t.Errorf("ResolveLink = %s, %v, want %s", got, err, p)
	}
}
