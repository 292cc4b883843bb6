//go:build qemu

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/tests/testhost"
)

const (
	// Program is where ec-verify is on a machine, and on the host that makes its release.
	Program = "/usr/local/bin/ec-verify"
	// Tag is that of the release.
	Tag = "boot-v2026.02.28"

	configDir = "/etc/ec-verify"
	releases  = "/srv/releases"
)

// notOfRelease is what a machine has that a NixOS would not have, with the reason. Each
// entry allows a file or, with a slash at its end, a directory: no mount, no account, and
// no setting in effect.
func notOfRelease() []running.Exception {
	var out []running.Exception
	add := func(reason string, names ...string) {
		for _, name := range names {
			out = append(out, running.Exception{Match: name, Reason: reason})
		}
	}
	add("the root is a Debian", slices.DeleteFunc(testhost.Debian(), func(name string) bool { return name == "/etc/fstab" })...)
	add("of the packages that hack/test-boot adds to it",
		"/etc/cron.d/", "/etc/e2scrub.conf", "/etc/hosts.allow", "/etc/hosts.deny", "/etc/initramfs/", "/etc/kernel/", "/etc/mke2fs.conf",
		"/etc/modules", "/etc/ssh/", "/etc/sv/", "/etc/systemd/user/", "/etc/ucf.conf", "/etc/udev/")
	add("the units are Debian's, with those of the layout and of the test", "/etc/systemd/system/", "/etc/systemd/journald.conf.d/")
	add("the test's: the program and the agent, and how it is asked", Program, "/usr/local/sbin/agent", configDir+"/")
	add("the test's: its release", releases+"/")
	add("the sshd of Debian", "/usr/sbin/sshd:tcp *")
	return out
}

// MakeRelease has the host make and sign the release of its configuration testhost, which
// is a month old. Then [OfRelease] are on the host.
func MakeRelease(t *testing.T, h *testhost.Host) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "ec-verify")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "every.channel/ec-verify/cmd/ec-verify")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build ec-verify: %v\n%s", err, out)
	}
	h.Push(program, Program)
	private, public := testhost.SigningKey(t)
	Configure(t, h, releases, Tag, public)
	key := filepath.Join(dir, "ci.key")
	Write(t, key, private)
	h.Push(key, "/root/ci.key")
	created := time.Now().AddDate(0, -1, 0).Unix()
	h.Run("env", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", created), Program, "manifest", "create", "/etc/every-channel/flake#testhost",
		"--out", releases+"/"+Tag, "--tag", Tag, "--best-before", "87600h")
	h.Run(Program, "release", "sign", releases+"/"+Tag, "--key", "/root/ci.key")
}

// Configure pushes to the host the configuration of a machine that runs the release tag of
// a source, signed with the private half of a key; and beside it the same that asks for
// all parts of the running machine, which [SecondStage] takes.
func Configure(t *testing.T, h *testhost.Host, source, tag, public string) {
	t.Helper()
	dir := t.TempDir()
	Write(t, filepath.Join(dir, "ci.pub"), public)
	release := map[string]any{"source": []string{source}}
	settings := map[string]any{
		"release": release,
		"trust":   map[string]any{"keys": []any{map[string]string{"name": "ci", "file": configDir + "/ci.pub"}}},
	}
	write := func(name string) {
		data, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		Write(t, filepath.Join(dir, name), string(data))
	}
	write("config.json") // accepts what it is asked about, and none that is older
	release["accept"] = []string{tag}
	settings["machine"] = map[string]any{"parts": running.Parts(), "allow": notOfRelease()}
	settings["unsafeSkip"] = []string{"source", "eval"} // no machine has what these take
	write("machine.json")
	h.Push(dir, configDir)
}

// SecondStage makes of the root in dir what NixOS makes of it when it boots toplevel, a
// system on the host, but for the units; and adds the files of the host that are named,
// those of [Configure] among them.
func SecondStage(t *testing.T, h *testhost.Host, toplevel, dir string, files ...string) {
	t.Helper()
	etc := h.Run("readlink", "-f", toplevel+"/etc")
	for _, name := range strings.Fields(h.Run("sh", "-euc", `cd "$1" && find . -type l ! -path ./systemd/system`, "sh", etc)) {
		Link(t, filepath.Join("/etc/static", name), filepath.Join(dir, "etc", name))
	}
	Link(t, etc, filepath.Join(dir, "etc/static"))
	for _, name := range files {
		Shell(t, `tar -C "$1" -c "$3" | tar -C "$2" -x`, h.Path("/"), dir, strings.TrimPrefix(name, "/"))
	}
	config := filepath.Join(dir, configDir)
	Command(t, "mv", filepath.Join(config, "machine.json"), filepath.Join(config, "config.json"))
}

// OfRelease are the files that [MakeRelease] leaves on a host.
func OfRelease() []string { return []string{Program, configDir, releases} }
