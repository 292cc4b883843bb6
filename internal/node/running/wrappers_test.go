package running

import (
	"os"
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

// Where the release has no wrappers, none is known.
func TestNoWrappers(t *testing.T) {
	h := newHost(t)
	h.write("/run/wrappers/bin/evil", "", 0o4555)
	h.expect("etc", "file-unknown /run/wrappers/bin/evil")
}
