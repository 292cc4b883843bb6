//go:build qemu

package boottest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/tests/testhost"
)

// notOfRelease is what an installed machine has that a NixOS would not have, with the
// reason. Each entry allows a file or, with a slash at its end, a directory: no mount, no
// account, and no setting in effect.
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
	add("the test's: the program and the agent, and how it is asked", "/usr/local/bin/ec-verify", "/usr/local/sbin/agent", "/etc/ec-verify/")
	add("the sshd of Debian", "/usr/sbin/sshd:tcp *")
	return out
}

// modulesOf returns the release of the kernel that the tests boot, and the list of its
// modules.
func modulesOf(t *testing.T) (kernel, list string) {
	t.Helper()
	lists, err := filepath.Glob(filepath.Join(made(t), "tree/usr/lib/modules/*/modules.dep"))
	if err != nil || len(lists) != 1 {
		t.Fatalf("the modules of one kernel: %q, %v", lists, err)
	}
	data, err := os.ReadFile(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(filepath.Dir(lists[0])), string(data)
}

// secondStage makes of the root in dir what NixOS makes of it when it boots, but for the
// units, and adds ec-verify with its release.
func (in installer) secondStage(dir string) {
	in.t.Helper()
	etc := in.Run("readlink", "-f", in.system()+"/etc")
	for _, name := range strings.Fields(in.Run("sh", "-euc", `cd "$1" && find . -type l ! -path ./systemd/system`, "sh", etc)) {
		link(in.t, filepath.Join("/etc/static", name), filepath.Join(dir, "etc", name))
	}
	link(in.t, etc, filepath.Join(dir, "etc/static"))

	shell(in.t, `tar -C "$1" -c usr/local/bin/ec-verify etc/ec-verify srv/releases | tar -C "$2" -x`, in.Path("/"), dir)
	file := filepath.Join(dir, "etc/ec-verify/config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		in.t.Fatal(err)
	}
	config := map[string]any{}
	if err := json.Unmarshal(data, &config); err != nil {
		in.t.Fatal(err)
	}
	config["machine"] = map[string]any{"parts": running.Parts(), "allow": notOfRelease()}
	if data, err = json.Marshal(config); err != nil {
		in.t.Fatal(err)
	}
	write(in.t, file, string(data))
}

// clean sees that ec-verify finds nothing on the machine, which runs system, with all
// parts of the tier machine; and, so that this says something, one thing that was planted.
func (m *machine) clean(system string) {
	m.t.Helper()
	m.run(fmt.Sprintf("for link in current-system booted-system; do ln -sfn %s /run/$link; done", system))
	verify := func(verdict string, code int, causes ...string) {
		m.t.Helper()
		out, got := m.try("/usr/local/bin/ec-verify --against " + tag + " --output json --progress never --offline --rebuild none --unsafe-skip source,eval,live,contents 2>&1")
		var report struct {
			Verdict  string
			Findings []struct{ Cause, Severity, Path, Field, Got string }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			m.t.Fatalf("what ec-verify says, exit %d: %v\n%s", got, err, out)
		}
		var found []string
		for _, f := range report.Findings {
			if !strings.HasPrefix(f.Cause, "exception-") && f.Cause != "check-skipped" {
				found = append(found, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Cause, f.Path, f.Field)))
			}
		}
		if report.Verdict != verdict || got != code || !slices.Equal(found, causes) {
			m.t.Errorf("with all parts of the tier machine: exit %d, want %d and %q:\n%s", got, code, causes, out)
		}
	}
	verify("verified", 0)
	m.run("echo evil >/root/.evilrc")
	verify("drifted", 1, "written-unknown /root/.evilrc")
}
