package running

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NixOS's script, but for what makes the directory and the link.
const wrappersScript = `
chmod a+rx "$wrapperDir"

cp /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-bash/bin/sh "$wrapperDir/mount"

# Prevent races
chmod 0000 "$wrapperDir/mount"
chown root:root "$wrapperDir/mount"

chmod "u+s,g-s,u+rx,g+x,o+x" "$wrapperDir/mount"

cp /nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-bash/bin/sh "$wrapperDir/ping"

# Prevent races
chmod 0000 "$wrapperDir/ping"
chown root:root "$wrapperDir/ping"

/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-bash/bin/setcap "cap_setpcap,cap_net_raw+ep" "$wrapperDir/ping"

# Set the executable bit
chmod u+rx,g+x,o+x "$wrapperDir/ping"
`

func TestWrappers(t *testing.T) {
	const dir = "/run/wrappers/wrappers.abc"
	make := func(t *testing.T) *host {
		h := newHost(t)
		h.write(string(shell)+"/bin/wrap", wrappersScript, 0o555)
		h.write(string(shell)+"/suid-sgid-wrappers.service", "[Service]\nExecStart="+string(shell)+"/bin/wrap\n", 0o444)
		h.write(dir+"/mount", "shell", 0o511)
		h.must(unix.Chmod(h.root+dir+"/mount", 0o4511))
		h.write(dir+"/ping", "shell", 0o511)
		if err := unix.Setxattr(h.root+dir+"/ping", "security.capability", []byte{1, 0, 0, 2, 0, 0x21, 19: 0}, 0); err != nil {
			t.Skip(err)
		}
		h.link("/run/wrappers/bin", dir)
		return h
	}
	make(t).expect("etc")
	for _, test := range []struct {
		name string
		do   func(h *host)
		want string
	}{
		{"one more", func(h *host) { h.write(dir+"/evil", "shell", 0o555) }, "file-unknown " + dir + "/evil"},
		{"beside the directory", func(h *host) { h.write("/run/wrappers/evil", "shell", 0o555) }, "file-unknown /run/wrappers/evil"},
		{"other contents", func(h *host) {
			h.must(os.WriteFile(h.root+dir+"/mount", []byte("other"), 0))
			h.must(unix.Chmod(h.root+dir+"/mount", 0o4511))
		}, "etc-altered " + dir + "/mount"},
		{"writable", func(h *host) { h.must(unix.Chmod(h.root+dir+"/mount", 0o4533)) }, "etc-altered " + dir + "/mount"},
		{"of the group, too", func(h *host) { h.must(unix.Chmod(h.root+dir+"/mount", 0o6511)) }, "etc-altered " + dir + "/mount"},
		{"without its right", func(h *host) { h.must(unix.Chmod(h.root+dir+"/mount", 0o511)) }, "etc-altered " + dir + "/mount"},
		{"of somebody", func(h *host) {
			h.must(os.Chown(h.root+dir+"/mount", 1000, 0))
			h.must(unix.Chmod(h.root+dir+"/mount", 0o4511))
		}, "etc-altered " + dir + "/mount"},
		{"without capabilities", func(h *host) { h.must(unix.Removexattr(h.root+dir+"/ping", "security.capability")) }, "etc-altered " + dir + "/ping"},
		{"with another capability", func(h *host) {
			h.must(unix.Setxattr(h.root+dir+"/ping", "security.capability", []byte{1, 0, 0, 2, 0x80, 0x21, 19: 0}, 0))
		}, "etc-altered " + dir + "/ping"},
		{"with one more, above 31", func(h *host) {
			h.must(unix.Setxattr(h.root+dir+"/ping", "security.capability", []byte{1, 0, 0, 2, 0, 0x21, 12: 0x80, 19: 0}, 0))
		}, "etc-altered " + dir + "/ping"},
		{"with inheritable ones", func(h *host) {
			h.must(unix.Setxattr(h.root+dir+"/ping", "security.capability", []byte{1, 0, 0, 2, 0, 0x21, 8: 1, 19: 0}, 0))
		}, "etc-altered " + dir + "/ping"},
		{"for others to read", func(h *host) { h.must(unix.Chmod(h.root+dir+"/ping", 0o515)) }, "etc-altered " + dir + "/ping"},
		{"missing", func(h *host) { h.must(os.Remove(h.root + dir + "/ping")) }, "etc-altered /run/wrappers/bin/ping"},
		{"for all to write", func(h *host) { h.must(unix.Chmod(h.root+dir, 0o777)) }, "etc-altered " + dir},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := make(t)
			test.do(h)
			h.expect("etc", test.want)
		})
	}
	h := make(t)
	h.must(os.Rename(h.root+dir, h.root+"/root"))
	h.link("/run/wrappers/bin", "/root")
	h.expect("etc", "file-unknown /run/wrappers/bin", "etc-altered /run/wrappers/bin/mount", "etc-altered /run/wrappers/bin/ping")
}

// One wrapper that is not understood does not hide the others, or the rest of the part.
func TestUnclearWrapper(t *testing.T) {
	const dir = "/run/wrappers/wrappers.abc"
	h := newHost(t)
	script := strings.ReplaceAll(wrappersScript, "cap_net_raw+ep", "cap_of_tomorrow+ep")
	h.write(string(shell)+"/bin/wrap", script, 0o555)
	h.write(string(shell)+"/suid-sgid-wrappers.service", "[Service]\nExecStart="+string(shell)+"/bin/wrap\n", 0o444)
	h.write(dir+"/mount", "other", 0o511)
	h.must(unix.Chmod(h.root+dir+"/mount", 0o4511))
	h.write(dir+"/ping", "shell", 0o511)
	h.link("/run/wrappers/bin", dir)
	h.write("/usr/bin/evil", "", 0o755)
	h.expect("etc", "etc-altered "+dir+"/mount", "machine-unseen "+dir+"/ping", "file-unknown /usr/bin/evil")
}

// Where the release has no wrappers, none is known.
func TestNoWrappers(t *testing.T) {
	h := newHost(t)
	h.write("/run/wrappers/bin/evil", "", 0o4555)
	h.expect("etc", "file-unknown /run/wrappers/bin/evil")
}

func TestChmod(t *testing.T) {
	for clauses, want := range map[string]uint32{
		"0000 u+s g-s u+rx g+x o+x": 0o4511, "0000 u-s g+s u+rx g+rx": 0o2550, "755 go-rx": 0o700, "0 +rwx": 0o755, "777 o=": 0o770, "0 a=rx u+w": 0o755,
		"750 o=g": 0o755, "700 go=u-w": 0o755, "640 a+X": 0o640, "700 g+X": 0o710, "0 u+rx-x+w": 0o600, "0 =0755 -0011": 0o744,
		"0 +4755": 0o4755, "0 +t u+t": 0o1000, "1777 o=": 0o770, "4755 =rx": 0o555, "777 ugo-wx": 0o444,
	} {
		mode := uint32(0)
		for _, clause := range strings.Fields(clauses) {
			var err error
			if mode, err = chmod(mode, clause); err != nil {
				t.Fatal(err)
			}
		}
		if mode != want {
			t.Errorf("%s: got %04o, want %04o", clauses, mode, want)
		}
	}
	for _, bad := range []string{"", "u", "z+x", "u+z", "8", "77777", "u+r8", "ugo", "u+uu"} {
		if mode, err := chmod(0, bad); err == nil {
			t.Errorf("%s: got %04o", bad, mode)
		}
	}
}

func TestParseCapabilities(t *testing.T) {
	got, err := parseCapabilities("cap_setpcap,cap_net_raw+ep cap_bpf+i")
	if want := (capabilities{1<<8 | 1<<13, 1 << 39, true}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"cap_evil+ep", "cap_setuid", "cap_setuid+x"} {
		if got, err := parseCapabilities(bad); err == nil {
			t.Errorf("%s: got %+v", bad, got)
		}
	}
}
