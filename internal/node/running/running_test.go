package running

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"every.channel/ec-verify/internal/expected"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// object returns the store path whose digest repeats letter.
func object(letter, name string) closure.StorePath {
	return closure.StorePath("/nix/store/" + strings.Repeat(letter, 32) + "-" + name)
}

var (
	etcPath = object("a", "etc")
	shell   = object("b", "bash")
	users   = object("c", "users-groups.json")
	top     = object("d", "nixos-system")
)

// host is a file tree that is a running NixOS.
type host struct {
	t    *testing.T
	root string
	m    *Machine
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of root take root")
	}
	h := &host{t: t, root: t.TempDir()}
	tree := string(etcPath) + "/etc/"
	h.write(string(shell)+"/bin/sh", "shell", 0o555)
	h.write(string(users), `{
		"mutableUsers": false,
		"users": [
			{"name": "root", "uid": 0, "group": "root", "home": "/root", "shell": "/bin/sh", "hashedPassword": null},
			{"name": "guest", "uid": 1000, "group": "users", "home": "/home/guest", "shell": "/bin/sh", "initialHashedPassword": ""}
		],
		"groups": [{"name": "root", "gid": 0, "members": []}, {"name": "users", "gid": 100, "members": []}, {"name": "wheel", "gid": 1, "members": ["root"]}]
	}`, 0o444)
	h.link(tree+"os-release", string(shell)+"/bin/sh")
	h.link(tree+"systemd/system", string(shell))
	h.link(tree+"sudoers", string(shell)+"/bin/sh")
	h.write(tree+"sudoers.mode", "0440\n", 0o444)
	h.write(tree+"sudoers.uid", "+0\n", 0o444)
	h.write(tree+"sudoers.gid", "+0\n", 0o444)
	h.link(tree+"mtab", "/proc/mounts")
	h.write(tree+"mtab.mode", "direct-symlink\n", 0o444)
	h.link(string(top)+"/etc", tree)

	h.link("/etc/static", tree)
	h.link("/etc/os-release", "/etc/static/os-release")
	h.link("/etc/systemd/system", "/etc/static/systemd/system")
	h.link("/etc/mtab", "/proc/mounts")
	h.write("/etc/sudoers", "shell", 0o440)
	h.write("/etc/NIXOS", "", 0o644)
	h.write("/etc/ssh/ssh_host_ed25519_key", "secret", 0o600)
	h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x:1000:100::/home/guest:/bin/sh\n", 0o644)
	h.write("/etc/shadow", "root:!:1::::::\nguest::1::::::\n", 0o640)
	h.write("/etc/group", "root:x:0:\nusers:x:100:\n", 0o644)
	h.link("/bin/sh", string(shell)+"/bin/sh")
	h.write("/var/empty/.keep", "", 0o644)

	store, err := nixstore.OpenStore(h.root, closure.DefaultStoreDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h.m = &Machine{Store: store, Toplevel: top, Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	h.m.UnitsLoaded = func(ctx context.Context) (time.Time, error) {
		units, err := h.m.LoadedUnits(ctx)
		if err != nil {
			return time.Time{}, err
		}
		return units.Loaded, nil
	}
	for _, p := range []closure.StorePath{etcPath, shell, users, top} {
		h.m.Paths = append(h.m.Paths, closure.PathInfo{Path: p})
	}
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(name, text string, mode os.FileMode) {
	h.t.Helper()
	name = filepath.Join(h.root, name)
	h.must(os.MkdirAll(filepath.Dir(name), 0o755))
	h.must(os.WriteFile(name, []byte(text), mode))
	h.must(os.Chmod(name, mode))
}

func (h *host) link(name, target string) {
	h.t.Helper()
	name = filepath.Join(h.root, name)
	h.must(os.MkdirAll(filepath.Dir(name), 0o755))
	os.Remove(name)
	h.must(os.Symlink(target, name))
}

// found returns what a look at a part finds, as "cause path:field", in order.
func (h *host) found(name string) []string {
	h.t.Helper()
	i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
	l, err := h.m.look(h.t.Context(), parts()[i])
	h.must(err)
	var out []string
	for _, f := range l.findings {
		s := string(f.Cause) + " " + f.Path
		if f.Field != "" {
			s += ":" + f.Field
		}
		out = append(out, s)
		if report.ClassOf(f.Cause) == report.Notice {
			h.t.Errorf("%s is a notice", s)
		}
	}
	return out
}

func (h *host) expect(part string, want ...string) {
	h.t.Helper()
	if got := h.found(part); !slices.Equal(got, want) {
		h.t.Errorf("found:\n got  %q\n want %q", got, want)
	}
}

func TestEtc(t *testing.T) {
	newHost(t).expect("etc")
	for _, test := range []struct {
		name string
		do   func(h *host)
		want []string
	}{
		{"static elsewhere", func(h *host) { h.link("/etc/static", "/root/static") }, []string{"etc-altered /etc/static"}},
		{"static to a copy of the tree in the store", func(h *host) {
			h.write(string(object("f", "etc"))+"/etc/x", "", 0o444)
			h.link("/etc/static", string(object("f", "etc"))+"/etc")
		}, []string{"etc-altered /etc/static"}},
		{"a link elsewhere", func(h *host) { h.link("/etc/os-release", "/root/x") }, []string{"etc-altered /etc/os-release"}},
		{"a link past static", func(h *host) { h.link("/etc/systemd/system", "/root/x") }, []string{"etc-altered /etc/systemd/system"}},
		{"a link missing", func(h *host) { os.Remove(h.root + "/etc/os-release") }, []string{"etc-altered /etc/os-release"}},
		{"a direct link elsewhere", func(h *host) { h.link("/etc/mtab", "/root/x") }, []string{"etc-altered /etc/mtab"}},
		{"a copy changed", func(h *host) { h.write("/etc/sudoers", "shelf", 0o440) }, []string{"etc-altered /etc/sudoers"}},
		{"a copy of another mode", func(h *host) { h.write("/etc/sudoers", "shell", 0o644) }, []string{"etc-altered /etc/sudoers"}},
		{"a copy of another owner", func(h *host) { h.must(os.Chown(h.root+"/etc/sudoers", 1000, 0)) }, []string{"etc-altered /etc/sudoers"}},
		{"a directory for all", func(h *host) { h.must(os.Chmod(h.root+"/etc/systemd", 0o777)) }, []string{"etc-altered /etc/systemd"}},
		{"a file more", func(h *host) { h.write("/etc/ld.so.preload", "/x", 0o644) }, []string{"file-unknown /etc/ld.so.preload"}},
		{"a name that is no text", func(h *host) { h.write("/etc/\xff\n", "/x", 0o644) }, []string{"file-unknown /etc/\xff\n"}},
		{"a directory more", func(h *host) { h.write("/etc/sudoers.d/a/b", "x", 0o644) }, []string{"file-unknown /etc/sudoers.d"}},
		{"an empty directory", func(h *host) { h.must(os.MkdirAll(h.root+"/etc/empty/more", 0o755)) }, nil},
		{"another key of the host", func(h *host) { h.write("/etc/ssh/sshd_config", "x", 0o644) }, []string{"file-unknown /etc/ssh/sshd_config"}},
		{"a second root", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x:00:0::/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"a user more", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmore:x:1001:0::/:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:more"}},
		{"no password in passwd", func(h *host) { h.write("/etc/passwd", "root::0:0::/root:/bin/sh\n", 0o644) }, []string{"account-altered /etc/passwd:root"}},
		{"another number of a user", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/root:/bin/sh\nguest:x:1001:100:x:/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"another shell of a user", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/root:/bin/sh\nguest:x:1000:100:x:/home/guest:/tmp/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"another home of a user", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/tmp:/bin/sh\nguest:x:1000:100:x:/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:root"}},
		{"another group of a user", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/root:/bin/sh\nguest:x:1000:0:x:/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"a member more", func(h *host) { h.write("/etc/group", "root:x:0:\nusers:x:100:\nwheel:x:1:guest,root\n", 0o644) }, []string{"account-altered /etc/group:wheel"}},
		{"a group of a user with zeros before its number", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/root:/bin/sh\nguest:x:1000:00:x:/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"a group of a user without a line", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0:x:/root:/bin/sh\nguest:x:1000:1:x:/home/guest:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:guest"}},
		{"a password in passwd", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nroot:$6$salt$hash:0:0::/root:/bin/sh\n", 0o644)
		}, []string{"account-altered /etc/passwd:root"}},
		{"no password possible", func(h *host) {
			h.write("/etc/passwd", "root:*:0:0::/root:/bin/sh\nguest:!:1000:100::/home/guest:/bin/sh\n", 0o644)
		}, nil},
		{"a second group root", func(h *host) { h.write("/etc/group", "root:x:0:\nusers:x:100:\nevil:x:00:guest\n", 0o644) }, []string{"account-altered /etc/group:evil"}},
		{"a group more", func(h *host) { h.write("/etc/group", "root:x:0:\nusers:x:100:\nevil:x:1:guest\n", 0o644) }, []string{"account-altered /etc/group:evil"}},
		{"another number of a group", func(h *host) { h.write("/etc/group", "root:x:0:\nwheel:x:100:\nusers:x:100:\n", 0o644) }, []string{"account-altered /etc/group:wheel"}},
		{"a group without a number", func(h *host) { h.write("/etc/group", "root:x:0:\nusers:x:100:\nwheel:x:-:\n", 0o644) }, []string{"account-altered /etc/group:wheel"}},
		{"a password of a group", func(h *host) {
			h.write("/etc/group", "root:x:0:\nusers:x:100:\nwheel:$6$salt$hash:1:\n", 0o644)
		}, []string{"account-altered /etc/group:wheel"}},
		{"no password of a group", func(h *host) {
			h.write("/etc/group", "root::0:\nusers:!:100:\nwheel:*:1:\n", 0o644)
			h.write("/etc/gshadow", "root:::\nusers:!*::\nwheel:*::root\n", 0o640)
		}, nil},
		{"a hidden password of a group", func(h *host) { h.write("/etc/gshadow", "wheel:$6$salt$hash::\n", 0o640) }, []string{"account-altered /etc/gshadow:wheel"}},
		{"a hidden member of a group", func(h *host) { h.write("/etc/gshadow", "wheel:!::root,guest\n", 0o640) }, []string{"account-altered /etc/gshadow:wheel"}},
		{"a hidden administrator of a group", func(h *host) { h.write("/etc/gshadow", "wheel:!:guest:\n", 0o640) }, []string{"account-altered /etc/gshadow:wheel"}},
		{"passwords of groups for all to read", func(h *host) { h.write("/etc/gshadow", "wheel:!::\n", 0o644) }, []string{"account-altered /etc/gshadow"}},
		{"root's number for a user's namespaces", func(h *host) {
			h.write("/etc/subuid", "root:0:1\nguest:00:65536\n1000:100000:65536\n", 0o644)
			h.write("/etc/subgid", "guest:-1:2\n", 0o644)
		}, []string{"account-altered /etc/subgid:guest", "account-altered /etc/subuid:guest"}},
		{"users in a file elsewhere", func(h *host) {
			h.write("/home/guest/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644)
			h.link("/etc/passwd", "/home/guest/passwd")
		}, []string{"file-unknown /etc/passwd"}},
		{"not a number", func(h *host) { h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x::0::/:/\n", 0o644) }, []string{"account-altered /etc/passwd:guest"}},
		{"not a line", func(h *host) { h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n+\n", 0o644) }, []string{"account-altered /etc/passwd:+"}},
		{"no password", func(h *host) { h.write("/etc/shadow", "root::1::::::\n", 0o640) }, []string{"account-altered /etc/shadow:root"}},
		{"passwords for all to read", func(h *host) { h.must(os.Chmod(h.root+"/etc/shadow", 0o644)) }, []string{"account-altered /etc/shadow"}},
		{"a key", func(h *host) { h.write("/home/guest/.ssh/authorized_keys", "# c\n\nssh-ed25519 AAAA\n", 0o600) }, []string{"account-altered /home/guest/.ssh/authorized_keys"}},
		{"a key in a directory elsewhere", func(h *host) {
			h.write("/var/keys/authorized_keys", "ssh-ed25519 AAAA\n", 0o600)
			h.link("/home/guest/.ssh", "/var/keys")
		}, []string{"account-altered /home/guest/.ssh/authorized_keys"}},
		{"a link to a key", func(h *host) {
			h.write("/var/keys", "ssh-ed25519 AAAA\n", 0o600)
			h.link("/home/guest/.ssh/authorized_keys", "../../../var/keys")
		}, []string{"account-altered /home/guest/.ssh/authorized_keys"}},
		{"a rule for polkit", func(h *host) { h.write("/run/polkit-1/rules.d/00.rules", "", 0o644) }, []string{"file-unknown /run/polkit-1"}},
		{"a pipe of keys", func(h *host) {
			h.write("/home/guest/.ssh/known_hosts", "", 0o600)
			h.must(unix.Mkfifo(h.root+"/home/guest/.ssh/authorized_keys", 0o600))
		}, nil},
		{"keys in a circle", func(h *host) { h.link("/home/guest/.ssh/authorized_keys", "authorized_keys") }, nil},
		{"no key", func(h *host) { h.write("/home/guest/.ssh/authorized_keys", "# c\n\n", 0o600) }, nil},
		{"keys of the release", func(h *host) { h.link("/root/.ssh/authorized_keys", string(shell)+"/bin/sh") }, nil},
		{"keys of the release, of the user", func(h *host) {
			h.link(string(etcPath)+"/etc/ssh/authorized_keys.d/guest", string(shell)+"/keys")
			h.write(string(shell)+"/keys", "ssh-ed25519 AAAA\n", 0o444)
			h.link("/etc/ssh/authorized_keys.d/guest", "/etc/static/ssh/authorized_keys.d/guest")
			h.link("/home/guest/.ssh/authorized_keys", string(shell)+"/keys")
		}, nil},
		{"keys of the release, of another user", func(h *host) {
			h.link(string(etcPath)+"/etc/ssh/authorized_keys.d/guest", string(shell)+"/keys")
			h.write(string(shell)+"/keys", "ssh-ed25519 AAAA\n", 0o444)
			h.link("/etc/ssh/authorized_keys.d/guest", "/etc/static/ssh/authorized_keys.d/guest")
			h.link("/root/.ssh/authorized_keys", string(shell)+"/keys")
		}, []string{"account-altered /root/.ssh/authorized_keys"}},
		{"the number of another in a user's namespaces", func(h *host) {
			h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nguest:x:1000:100::/home/guest:/bin/sh\n", 0o644)
			h.write("/etc/subuid", "root:1000:1\nguest:1000:1\nother:900:101\n", 0o644)
			h.write("/etc/subgid", "guest:100:1\nguest:100000:65536\n", 0o644)
		}, []string{"account-altered /etc/subgid:guest", "account-altered /etc/subuid:other"}},
		{"a known file that is a program with the rights of root", func(h *host) { h.write("/etc/adjtime", "shell", os.ModeSetuid|0o755) }, []string{"file-unknown /etc/adjtime"}},
		{"one with capabilities", func(h *host) {
			h.write("/etc/machine-info", "shell", 0o755)
			h.capable("/etc/machine-info")
		}, []string{"file-unknown /etc/machine-info"}},
		{"secrets of services", func(h *host) {
			h.write("/etc/credstore/mail.password", "secret", 0o400)
			h.write("/run/credstore/network.wireguard.key", "secret", 0o400)
		}, nil},
		{"a command among them", func(h *host) {
			h.write("/etc/credstore/tmpfiles.extra", "w /proc/sys/kernel/core_pattern - - - - |/evil", 0o400)
		}, []string{"file-unknown /etc/credstore/tmpfiles.extra"}},
		{"a login without a password among them", func(h *host) { h.write("/run/credstore.encrypted/login.noauth", "", 0o400) }, []string{"file-unknown /run/credstore.encrypted/login.noauth"}},
		{"devices of the kernel", func(h *host) {
			h.write("/run/tmpfiles.d/static-nodes.conf", "d /dev/snd 0755 - - -\nc! /dev/snd/seq 0600 - - - 116:1\n", 0o644)
			h.write("/var/spool/atjobs/.SEQ", "00001", 0o600)
		}, nil},
		{"what tmpfiles writes", func(h *host) {
			h.write("/run/tmpfiles.d/static-nodes.conf", "d /dev/../etc 0777 - - -\n", 0o644)
			h.write("/run/tmpfiles.d/x.conf", "", 0o644)
		}, []string{"file-unknown /run/tmpfiles.d/static-nodes.conf", "file-unknown /run/tmpfiles.d/x.conf"}},
		{"a job", func(h *host) { h.write("/var/spool/atjobs/a0001", "", 0o700) }, []string{"file-unknown /var/spool/atjobs/a0001"}},
		{"a user of no file", func(h *host) { h.write("/run/userdb/evil.user", "{}", 0o644) }, []string{"file-unknown /run/userdb"}},
		{"what runs at shutdown", func(h *host) { h.write("/run/initramfs/shutdown", "", 0o755) }, []string{"file-unknown /run/initramfs/shutdown"}},
		{"drivers of the release", func(h *host) { h.link("/run/opengl-driver", string(shell)) }, nil},
		{"drivers elsewhere", func(h *host) { h.link("/run/opengl-driver", "/root") }, []string{"file-unknown /run/opengl-driver"}},
		{"a pipe for keys", func(h *host) {
			h.must(os.MkdirAll(h.root+"/root/.ssh/authorized_keys", 0o755))
		}, nil},
		{"another shell", func(h *host) { h.link("/bin/sh", "/root/sh") }, []string{"file-unknown /bin/sh"}},
		{"another program as shell", func(h *host) {
			h.write(string(shell)+"/bin/reboot", "", 0o555)
			h.link("/bin/sh", string(shell)+"/bin/reboot")
		}, []string{"file-unknown /bin/sh"}},
		{"a shell of another store path", func(h *host) {
			h.write(string(object("f", "bash"))+"/bin/sh", "", 0o555)
			h.link("/bin/sh", string(object("f", "bash"))+"/bin/sh")
		}, []string{"file-unknown /bin/sh"}},
		{"a program", func(h *host) { h.write("/usr/local/bin/ls", "", 0o755) }, []string{"file-unknown /usr/local/bin"}},
		{"a crontab", func(h *host) { h.write("/var/spool/cron/crontabs/root", "", 0o600) }, []string{"file-unknown /var/spool/cron"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			test.do(h)
			h.expect("etc", test.want...)
		})
	}
}

// What a release says is compared with, and not what lies on the disk.
func TestExpectedByRelease(t *testing.T) {
	h := newHost(t)
	var err error
	h.m.Expected, err = expected.Read(t.Context(), h.m.Store, "x", top, h.m.Paths)
	h.must(err)
	h.expect("etc")
	h.link(string(etcPath)+"/etc/evil", string(shell)+"/bin/sh")
	h.link("/etc/evil", "/etc/static/evil")
	h.write(string(shell)+"/bin/sh", "other", 0o555)
	h.write("/etc/sudoers", "other", 0o440)
	h.write(string(users), `{"mutableUsers": true, "users": [{"name": "guest", "password": ""}]}`, 0o444)
	h.write("/etc/group", "root:x:0:\nwheel:x:1:guest\n", 0o644)
	h.expect("etc", "file-unknown /etc/evil", "account-altered /etc/group:wheel", "etc-altered /etc/sudoers")
	h.m.Expected = nil
	h.expect("etc")
}

func TestExceptions(t *testing.T) {
	h := newHost(t)
	h.write("/etc/extra/a", "", 0o644)
	h.write("/etc/extra/b", "", 0o644)
	h.write("/usr/local/bin/ls", "", 0o755)
	for _, test := range []struct {
		allow Exception
		want  []string
	}{
		{Exception{Match: "/etc/extra/"}, []string{"file-unknown /usr/local/bin"}},
		{Exception{Match: "/etc/extra/a"}, []string{"file-unknown /etc/extra/b", "file-unknown /usr/local/bin"}},
		{Exception{Match: "/etc/*/[ab]"}, []string{"file-unknown /usr/local/bin"}},
		{Exception{Match: "/etc/extra"}, []string{"file-unknown /usr/local/bin"}},
		{Exception{Match: "/usr/local/bin/ls", Until: "2026-03-01"}, []string{"file-unknown /etc/extra"}},
		{Exception{Match: "/usr/local/bin/ls", Until: "2026-02-28"}, []string{"file-unknown /etc/extra", "file-unknown /usr/local/bin/ls"}},
	} {
		h.m.Allow = []Exception{test.allow}
		h.expect("etc", test.want...)
	}
	for _, test := range []struct {
		allow Exception
		want  bool
	}{
		{Exception{Match: "/etc/passwd:evil"}, false},
		{Exception{Match: "/etc/passwd:evil", Cause: report.AccountAltered}, false},
		{Exception{Match: "/etc/passwd:evil", Cause: report.AccountAltered, Value: "user evil (1001:100:/:/bin/sh)"}, true},
		{Exception{Match: "/etc/passwd:evil", Cause: report.AccountAltered, Value: "user evil (1001:100:/:/bin/bash)"}, false},
		{Exception{Match: "/etc/passwd:evil", Cause: report.FileUnknown, Value: "user evil (1001:100:/:/bin/sh)"}, false},
	} {
		h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nevil:x:1001:100::/:/bin/sh\n", 0o644)
		h.m.Allow = []Exception{test.allow}
		if got := slices.Contains(h.found("etc"), "account-altered /etc/passwd:evil"); got == test.want {
			t.Errorf("%+v: found %v", test.allow, got)
		}
		// And another number is another thing.
		h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nevil:x:0:100::/:/bin/sh\n", 0o644)
		if !slices.Contains(h.found("etc"), "account-altered /etc/passwd:evil") {
			t.Errorf("%+v allows the number 0", test.allow)
		}
	}
	h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644)
	h.m.Allow = []Exception{{Match: "/etc/"}}
	for cause, want := range map[report.Cause]bool{report.FileUnknown: true, report.ForeignMount: false, report.MountedOver: false} {
		if got := h.m.excusedBy(report.Finding{Cause: cause, Path: "/etc/nix"}) >= 0; got != want {
			t.Errorf("%s of a directory: allowed %v", cause, got)
		}
	}
	h.m.Allow = []Exception{{Match: "/etc/", Cause: report.ForeignMount}}
	if h.m.excusedBy(report.Finding{Cause: report.ForeignMount, Path: "/etc/nix"}) < 0 || h.m.excusedBy(report.Finding{Cause: report.FileUnknown, Path: "/etc/nix"}) >= 0 {
		t.Error("a mount that is allowed by its cause")
	}
	h.m.Allow = []Exception{{Match: "/etc/extra/"}, {Match: "/usr/local/bin/"}, {Match: "/nothing"}, {Match: "/etc/extra", Until: "2020-01-01"}}
	got, err := h.m.Check(t.Context(), []string{"etc"})
	h.must(err)
	var causes []string
	for _, f := range got.Findings {
		causes = append(causes, string(f.Cause)+" "+f.Path+" "+f.Got)
	}
	want := []string{"exception-used /etc/extra/ 1 allowed", "exception-used /usr/local/bin/ 1 allowed", "exception-unused /nothing ", "exception-over /etc/extra "}
	if !slices.Equal(causes, want) || got.Excused != 2 {
		t.Errorf("excused %d:\n got  %q\n want %q", got.Excused, causes, want)
	}
}

// An exception for one of two lines with a name allows the other one nothing.
func TestExceptionOfOneLine(t *testing.T) {
	h := newHost(t)
	h.m.Allow = []Exception{{Match: "/etc/passwd:evil", Cause: report.AccountAltered, Value: "user evil (1001:100:/:/bin/sh)"}}
	h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nevil:x:1001:100::/:/bin/sh\nevil:x:0:100::/:/bin/sh\n", 0o644)
	h.expect("etc", "account-altered /etc/passwd:evil")
}

func TestExceptionsRefused(t *testing.T) {
	for _, e := range []Exception{
		{}, {Match: "/etc/x"}, {Match: "/etc/x", Reason: " "}, {Match: "/", Reason: "r"}, {Match: "/*", Reason: "r"}, {Match: "*", Reason: "r"},
		{Match: "/etc/[", Reason: "r"}, {Match: "/etc/x", Reason: "r", Cause: "evil"}, {Match: "/etc/x", Reason: "r", Value: "v"},
		{Match: "/etc/x", Reason: "r", Cause: report.AccountAltered}, {Match: "/etc/x", Reason: "r", Until: "tomorrow"}, {Match: strings.Repeat("x", 2000), Reason: "r"},
	} {
		if err := e.Check(); err == nil {
			t.Errorf("%+v is accepted", e)
		}
	}
	if err := (&Exception{Match: "/etc/x", Reason: "r", Until: "2026-12-31"}).Check(); err != nil {
		t.Error(err)
	}
}

// A difference that does not last is none.
func TestConfirmed(t *testing.T) {
	h := newHost(t)
	h.write("/etc/os-release.tmp", "", 0o644)
	// By a clock that stands while something is looked at.
	synctest.Test(t, func(t *testing.T) {
		removed := make(chan struct{})
		go func() {
			defer close(removed)
			time.Sleep(confirmAfter / 4)
			os.Remove(h.root + "/etc/os-release.tmp")
		}()
		begin := time.Now()
		got, err := h.m.Check(t.Context(), []string{"etc"})
		if took := time.Since(begin); err != nil || took != confirmAfter || len(got.Findings) > 0 {
			t.Errorf("after %s found %+v, %v", took, got.Findings, err)
		}
		<-removed
	})
}

// What has another name at each look is there all the same.
func TestMoving(t *testing.T) {
	h := newHost(t)
	h.write("/etc/stays", "", 0o644)
	h.write("/etc/moves-0", "", 0o644)
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			time.Sleep(confirmAfter / 4) // never at the time of a look
			for i := range 10 {
				os.Rename(fmt.Sprintf("%s/etc/moves-%d", h.root, i), fmt.Sprintf("%s/etc/moves-%d", h.root, i+1))
				time.Sleep(confirmAfter / 2)
			}
		}()
		got, err := h.m.Check(t.Context(), []string{"etc"})
		if err != nil || len(got.Findings) != 2 || got.Findings[0].Path != "/etc/moves-6" || got.Findings[1].Path != "/etc/stays" {
			t.Errorf("found %+v, %v", got.Findings, err)
		}
		<-ended
	})
	// Something that was replaced at the first look, and something else at the second.
	h.must(os.Remove(h.root + "/etc/moves-10"))
	h.write("/etc/replaced", "", 0o644)
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			time.Sleep(confirmAfter / 2)
			os.Rename(h.root+"/etc/replaced", h.root+"/etc/another")
			time.Sleep(confirmAfter)
			os.Remove(h.root + "/etc/another")
		}()
		got, err := h.m.Check(t.Context(), []string{"etc"})
		if err != nil || len(got.Findings) != 1 || got.Findings[0].Path != "/etc/stays" {
			t.Errorf("found %+v, %v", got.Findings, err)
		}
		<-ended
	})
}

// A look that fails does not say that what an earlier one found is gone.
func TestConfirmedByFailedLook(t *testing.T) {
	evil, failed := report.Finding{Cause: report.FileUnknown, Path: "/etc/evil"}, errors.New("it can't be read")
	for _, test := range []struct {
		name  string
		looks []error // of each look: nil for one that finds evil
		gone  int     // the look from which on evil is gone
		want  []report.Cause
	}{
		{"it is there again", []error{nil, failed, nil}, 4, []report.Cause{report.FileUnknown}},
		{"it is gone", []error{nil, failed, nil}, 2, nil},
		{"each other look fails", []error{nil, failed, failed}, 4, []report.Cause{report.MachineUnseen}},
		{"the last look fails", []error{failed, nil, nil, failed}, 4, []report.Cause{report.FileUnknown}},
		{"only the first one fails", []error{failed, nil, nil}, 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looks := 0
				l, err := new(Machine).confirmed(t.Context(), part{name: "etc", check: func(_ *Machine, _ context.Context, l *look) error {
					err := test.looks[looks]
					if looks++; err == nil && looks <= test.gone {
						l.find(evil)
					}
					return err
				}})
				var got []report.Cause
				for _, f := range l.findings {
					got = append(got, f.Cause)
				}
				if err != nil || !slices.Equal(got, test.want) {
					t.Errorf("after %d looks found %v, %v, want %v", looks, got, err, test.want)
				}
			})
		})
	}
}

// A machine of which nothing is right is told in a bounded report.
func TestBounded(t *testing.T) {
	h := newHost(t)
	for i := range 3 * maxFindings / 2 {
		h.write("/etc/"+strings.Repeat("x", 100)+string(rune('a'+i%26))+strings.Repeat("y", i/26), "", 0o644)
	}
	got, err := h.m.Check(t.Context(), []string{"etc"})
	h.must(err)
	last := got.Findings[len(got.Findings)-1]
	if len(got.Findings) != maxFindings+1 || last.Cause != report.MachineUnseen {
		t.Errorf("%d findings, the last one %+v", len(got.Findings), last)
	}
}
