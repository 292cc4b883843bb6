package running

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// TestLogin: what a login of root runs, or finds programs in.
func TestLogin(t *testing.T) {
	profile, generation := string(object("f", "user-environment")), "/nix/var/nix/profiles/per-user/root/profile-1-link"
	for _, test := range []struct {
		name string
		do   func(h *host)
		want []string
	}{
		{"a profile of root", func(h *host) {
			h.write(profile+"/bin/ls", "evil", 0o555)
			h.link(generation, profile)
			h.link("/root/.nix-profile", generation)
		}, []string{"file-unknown /root/.nix-profile"}},
		{"one without programs", func(h *host) {
			h.write(profile+"/manifest.nix", "[ ]", 0o444)
			h.link("/root/.local/state/nix/profile", profile)
		}, nil},
		{"one of the release", func(h *host) { h.link("/root/.nix-profile", string(shell)) }, nil},
		{"one that is gone", func(h *host) { h.link("/root/.nix-profile", generation) }, nil},
		{"a profile of the machine", func(h *host) {
			h.write(profile+"/bin/ls", "evil", 0o555)
			h.link("/nix/var/nix/profiles/default", profile)
		}, []string{"file-unknown /nix/var/nix/profiles/default"}},
		{"a directory as a profile", func(h *host) { h.write("/root/.nix-profile/bin/ls", "evil", 0o755) }, []string{"file-unknown /root/.nix-profile/bin/ls"}},
		{"what a shell runs", func(h *host) { h.write("/root/.bashrc", "evil", 0o644) }, []string{"file-unknown /root/.bashrc"}},
		{"the same by a link", func(h *host) {
			h.write("/var/evil", "evil", 0o644)
			h.link("/root/.profile", "/var/evil")
		}, []string{"file-unknown /root/.profile"}},
		{"one of the release", func(h *host) { h.link("/root/.bashrc", string(shell)+"/bin/sh") }, nil},
		{"units of root", func(h *host) {
			h.link("/root/.config/systemd/user/fine.service", string(shell)+"/bin/sh")
			h.write("/root/.config/systemd/user/default.target.wants/evil.service", "evil", 0o644)
		}, []string{"file-unknown /root/.config/systemd/user/default.target.wants/evil.service"}},
		{"units of root until the boot", func(h *host) {
			h.write("/run/user/0/systemd/user/default.target.wants/evil.service", "evil", 0o644)
		}, []string{"file-unknown /run/user/0/systemd/user/default.target.wants/evil.service"}},
		{"a user whose services are started at boot", func(h *host) { h.write(lingering+"/guest", "", 0o644) }, []string{"file-unknown " + lingering + "/guest"}},
		{"one of the configuration", func(h *host) { h.linger("guest"); h.write(lingering+"/guest", "", 0o644) }, nil},
		{"its services", func(h *host) {
			h.linger("guest")
			h.write(lingering+"/guest", "", 0o644)
			h.write("/home/guest/.config/systemd/user/evil.service", "evil", 0o644)
			h.link("/home/guest/.config/systemd/user/fine.service", string(shell)+"/bin/sh")
			h.write("/run/user/1000/systemd/user.control/evil.service", "evil", 0o644)
			h.write("/home/guest/.bashrc", "", 0o644)
		}, []string{"file-unknown /home/guest/.config/systemd/user/evil.service", "file-unknown /run/user/1000/systemd/user.control/evil.service"}},
		{"services of its profile", func(h *host) {
			h.linger("guest")
			h.write(lingering+"/guest", "", 0o644)
			h.write(profile+"/bin/ls", "mine", 0o555)
			h.write(profile+"/share/systemd/user/default.target.wants/evil.service", "evil", 0o444)
			h.link("/home/guest/.nix-profile", profile)
		}, []string{"file-unknown /home/guest/.nix-profile/share/systemd/user/default.target.wants/evil.service"}},
		{"services by a link out of its home", func(h *host) {
			h.linger("guest")
			h.write(lingering+"/guest", "", 0o644)
			h.write("/srv/config/systemd/user/evil.service", "evil", 0o644)
			h.link("/home/guest/.config", "/srv/config")
		}, []string{"file-unknown /home/guest/.config/systemd/user/evil.service"}},
		{"a link as one who lingers", func(h *host) { h.link(lingering+"/guest", "/dev/null") }, []string{"file-unknown " + lingering + "/guest"}},
		{"those who linger elsewhere", func(h *host) {
			h.write("/srv/linger/guest", "", 0o644)
			h.link(lingering, "/srv/linger")
		}, []string{"file-unknown " + lingering + "/guest"}},
		{"what a manager gives to its services", func(h *host) {
			h.write("/root/.config/systemd/user.conf", "[Manager]\nDefaultEnvironment=LD_PRELOAD=/tmp/evil.so\n", 0o644)
			h.write("/root/.config/systemd/user.conf.d/evil.conf", "", 0o644)
		}, []string{"file-unknown /root/.config/systemd/user.conf", "file-unknown /root/.config/systemd/user.conf.d/evil.conf"}},
		{"services of another", func(h *host) { h.write("/home/guest/.config/systemd/user/mine.service", "", 0o644) }, nil},
		{"completions", func(h *host) { h.write("/root/.bash_completion", "evil", 0o644) }, []string{"file-unknown /root/.bash_completion"}},
		{"keys that write commands", func(h *host) { h.write("/root/.inputrc", "evil", 0o644) }, []string{"file-unknown /root/.inputrc"}},
		{"a link in a directory that is one", func(h *host) {
			h.write("/srv/evil/a.conf", "evil", 0o644)
			h.write("/srv/config/x", "", 0o644)
			h.link("/srv/config/environment.d", "../evil")
			h.link("/root/.config", "/srv/config")
		}, []string{"file-unknown /root/.config/environment.d"}},
		{"a link to itself", func(h *host) { h.link("/root/.bashrc", ".bashrc") }, nil},
		{"a pipe", func(h *host) {
			h.write("/root/x", "", 0o644)
			h.must(unix.Mkfifo(h.root+"/root/.bashrc", 0o644))
		}, []string{"file-unknown /root/.bashrc"}},
		{"nothing in it", func(h *host) { h.write("/root/.config/systemd/other", "", 0o644) }, nil},
		{"words for the kernel", func(h *host) {
			h.write("/sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67", "x", 0o644)
		}, []string{"file-unknown /sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			test.do(h)
			h.expect("etc", test.want...)
		})
	}
}

// linger has the configuration start the services of a user at boot.
func (h *host) linger(name string) {
	h.t.Helper()
	file := object("g", "lingering-users")
	h.write(string(file), name+"\n", 0o444)
	h.m.Paths = append(h.m.Paths, closure.PathInfo{Path: file})
}

// TestLoginByProcess: what an open file of a process is called says nothing of what it is.
func TestLoginByProcess(t *testing.T) {
	home := t.TempDir()
	name := filepath.Join(home, "script")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), filepath.Join(home, ".bashrc")); err != nil {
		t.Fatal(err)
	}
	store, err := nixstore.OpenStore("/", closure.StoreDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := (&Machine{Store: store}).newLook()
	if err := l.m.checkLogin(t.Context(), l, &expected.Users{Users: []expected.User{{Name: "root", Home: home}}}); err != nil {
		t.Fatal(err)
	}
	if len(l.findings) != 1 || l.findings[0].Path != home+"/.bashrc" {
		t.Errorf("found %+v", l.findings)
	}
}
