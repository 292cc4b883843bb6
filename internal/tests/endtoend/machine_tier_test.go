package endtoend

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

const machineConfig = "/root/machine.json"

// askMachine writes a configuration that asks for parts of the machine tier. What a
// test host has of Debian is allowed by name.
func (m *machine) askMachine(parts ...string) {
	m.t.Helper()
	m.askMachineBut(nil, parts...)
}

// askMachineBut is askMachine, and allows what else a test has put there.
func (m *machine) askMachineBut(puts []string, parts ...string) {
	m.t.Helper()
	type exception struct {
		Match  string `json:"match"`
		Reason string `json:"reason"`
	}
	allow := []exception{{program, "the program that is tested"}}
	for _, name := range testhost.Debian() {
		allow = append(allow, exception{name, "the test host is a Debian"})
	}
	for _, name := range puts {
		allow = append(allow, exception{name, "the test"})
	}
	data, err := json.Marshal(map[string]any{"machine": map[string]any{"parts": parts, "allow": allow}})
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(m.t.TempDir(), "machine.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.Push(file, machineConfig)
}

// planted is one way in which an intruder, or a careless admin, changes a machine
// beside its store.
type planted struct {
	name     string
	do, undo string // for a shell
	causes   []string
}

// TestMachineTier: what an intruder changes beside the store. Before there was the
// tier, each of these was "verified".
func TestMachineTier(t *testing.T) {
	m := startReleased(t)
	m.askMachine("etc", "units", "code")
	a := m.verify("--config", machineConfig)
	a.expect(t, "verified", 0)
	if status, checked := a.tier("machine"); status != "done" || checked < 100 {
		t.Errorf("the machine tier is %s, with %d things looked at", status, checked)
	}
	if a.has("exception-unused") {
		t.Errorf("Debian's list has what the test host has not: %v", a.all("exception-unused"))
	}
	m.Run("useradd", "--create-home", "--system", "visitor")

	for _, p := range slices.Concat(plantedInEtc, plantedUnits, plantedCode) {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", p.do)
			defer m.Run("sh", "-euc", p.undo)
			unasked := m.verify("--unsafe-skip", "source,eval,contents")
			unasked.expect(t, "verified", 0)
			m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents").expect(t, "drifted", 1, p.causes...)
		})
	}
	m.verify("--config", machineConfig).expect(t, "verified", 0)

	// A machine that works is no other machine: units, sessions, logs, builds, users.
	m.Run("systemd-run", "--scope", "--quiet", "sh", "-c", busy)
	for range 10 {
		if a := m.verify("--config", machineConfig, "--unsafe-skip", "source,eval,contents"); a.Verdict != "verified" {
			t.Errorf("while it works: %s, %v", a.Verdict, a.causes())
		}
	}
	m.Run("touch", "/run/idle")

	// Who is not root can't see, and says so.
	m.Run("cp", machineConfig, "/tmp/machine.json")
	m.Run("chmod", "644", "/tmp/machine.json")
	a = m.report("setpriv", "--reuid=visitor", "--clear-groups", "--", program, "--against", tag, "--release", releases, "--unsafe-unsigned",
		"--state-dir", "/tmp/state", "--config", "/tmp/machine.json", "--output", "json", "--unsafe-skip", "source,eval,contents")
	if a.Verdict == "verified" || !slices.Contains(a.causes(), "machine-unseen /proc/1/root") {
		t.Errorf("as a user: %s, %v", a.Verdict, a.causes())
	}
	// A disk is no machine, and the verdict line says so.
	text, _, _ := m.Exec(t.Context(), program, "--against", tag, "--release", releases, "--unsafe-unsigned",
		"--config", machineConfig, "--store-root", "/", "--unsafe-skip", "source,eval,contents")
	if !strings.Contains(text, "machine") {
		t.Errorf("of a disk:\n%s", text)
	}
}

// busy keeps a machine at work until there is /run/idle.
const busy = `setsid sh -c '
	until [ -e /run/idle ]; do
		systemctl restart systemd-logind systemd-hostnamed
		systemctl start --no-block systemd-tmpfiles-clean
		systemctl daemon-reload
		journalctl --rotate --vacuum-files=2
		usermod --comment "$RANDOM" visitor
		systemd-run --scope --quiet true
		nix-build --no-out-link -E "derivation { name = \"busy-$(date +%s%N)\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo >\$out\" ]; }"
		ls -R /usr/share
		sleep 2
	done
' </dev/null >/dev/null 2>&1 &`

// all returns the paths of the findings with a cause.
func (a answer) all(cause string) []string {
	var out []string
	for _, f := range a.Findings {
		if f.Cause == cause {
			out = append(out, f.Path)
		}
	}
	return out
}

var plantedInEtc = []planted{
	{
		"a second root", "cp -p /etc/passwd /root/passwd; echo toor:x:0:0::/root:/bin/sh >>/etc/passwd", "cp -p /root/passwd /etc/passwd",
		[]string{"account-altered /etc/passwd toor"},
	},
	{
		"an empty password", "cp -p /etc/shadow /root/shadow; sed -i 's/^visitor:[^:]*:/visitor::/' /etc/shadow", "cp -p /root/shadow /etc/shadow",
		[]string{"account-altered /etc/shadow visitor"},
	},
	{
		"a key of root", "mkdir -p /root/.ssh; echo ssh-ed25519 AAAA evil >/root/.ssh/authorized_keys", "rm /root/.ssh/authorized_keys",
		[]string{"account-altered /root/.ssh/authorized_keys"},
	},
	{
		"a key of a user", "mkdir -m 700 /home/visitor/.ssh; echo ssh-ed25519 AAAA evil >/home/visitor/.ssh/authorized_keys2", "rm -r /home/visitor/.ssh",
		[]string{"account-altered /home/visitor/.ssh/authorized_keys2"},
	},
	{
		"a group like root's", "cp -p /etc/group /root/group; echo wheel0:x:0:visitor >>/etc/group", "cp -p /root/group /etc/group",
		[]string{"account-altered /etc/group wheel0"},
	},
	{"ld.so.preload", "echo /tmp/evil.so >/etc/ld.so.preload.new; mv /etc/ld.so.preload.new /etc/ld.so.preload", "rm /etc/ld.so.preload", []string{"file-unknown /etc/ld.so.preload"}},
	{"sudoers", "mkdir /etc/sudoers.d; echo 'visitor ALL=NOPASSWD: ALL' >/etc/sudoers.d/visitor", "rm -r /etc/sudoers.d", []string{"file-unknown /etc/sudoers.d"}},
	{
		"/etc/static redirected", "cp -a \"$(realpath /etc/static)\" /root/static; ln -sfn /root/static /etc/static",
		"ln -sfn \"$(realpath /run/current-system/etc)\" /etc/static; rm -r /root/static", []string{"etc-altered /etc/static"},
	},
	{"an entry redirected", "ln -sfn /root/os-release /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}},
	{"an entry removed", "rm /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}},
	{"an entry replaced by a file", "rm /etc/os-release; cp /etc/static/os-release /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}},
	{"a directory for all to write", "chmod 777 /etc/every-channel", "chmod 755 /etc/every-channel", []string{"etc-altered /etc/every-channel"}},
	{"a unit", "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/evil.service", "rm /etc/systemd/system/evil.service", []string{"file-unknown /etc/systemd/system/evil.service"}},
	{"a program", "cp /bin/true /usr/local/bin/ls", "rm /usr/local/bin/ls", []string{"file-unknown /usr/local/bin/ls"}},
	{"a crontab", "mkdir -p /var/spool/cron/crontabs; echo '* * * * * /tmp/x' >/var/spool/cron/crontabs/root", "rm -r /var/spool/cron", []string{"file-unknown /var/spool/cron"}},
	{"a wrapper", "mkdir -p /run/wrappers/bin; cp /bin/true /run/wrappers/bin/evil; chmod 4755 /run/wrappers/bin/evil", "rm -r /run/wrappers", []string{"file-unknown /run/wrappers/bin/evil"}},
	{"a rule of udev", "mkdir -p /run/udev/rules.d; echo 'RUN+=\"/tmp/x\"' >/run/udev/rules.d/99.rules", "rm -r /run/udev/rules.d", []string{"file-unknown /run/udev/rules.d"}},
}

const evilUnit = "printf '[Service]\\nExecStart=/usr/bin/sleep 1000\\n' >/run/systemd/system/evil.service"

var plantedUnits = []planted{
	{"a unit that was started", evilUnit + "; systemctl daemon-reload; systemctl start evil", "systemctl stop evil; rm /run/systemd/system/evil.service; systemctl daemon-reload", []string{"unit-unknown /run/systemd/system/evil.service"}},
	{"and its file removed", evilUnit + "; systemctl daemon-reload; systemctl start evil; rm /run/systemd/system/evil.service", "systemctl stop evil; systemctl daemon-reload", []string{"unit-unknown /run/systemd/system/evil.service"}},
	{
		"a drop-in", "mkdir -p /run/systemd/system/dbus.service.d; printf '[Service]\\nNice=1\\n' >/run/systemd/system/dbus.service.d/a.conf; systemctl daemon-reload",
		"rm -r /run/systemd/system/dbus.service.d; systemctl daemon-reload", []string{"unit-unknown /run/systemd/system/dbus.service.d/a.conf"},
	},
	{"a masked unit", "systemctl mask --runtime systemd-logind.service", "systemctl unmask --runtime systemd-logind.service", []string{"unit-unknown /run/systemd/system/systemd-logind.service"}},
	{"a transient service", "systemd-run --unit=evil sleep 1000", "systemctl stop evil", []string{"unit-unknown /run/systemd/transient/evil.service"}},
	{"a generator", "mkdir /run/systemd/system-generators; cp /bin/true /run/systemd/system-generators/evil", "rm -r /run/systemd/system-generators", []string{"unit-unknown /run/systemd/system-generators/evil"}},
}

var plantedCode = []planted{
	{"a shell from /tmp", "cp /bin/sleep /tmp/.x; setsid /tmp/.x 1000 </dev/null >/dev/null 2>&1 & sleep 0.2", "kill $(pidof .x); rm /tmp/.x", []string{"code-unknown /tmp/.x"}},
	{"and its file removed", "cp /bin/sleep /tmp/.x; setsid /tmp/.x 1000 </dev/null >/dev/null 2>&1 & sleep 0.2; rm /tmp/.x", "kill $(pidof .x)", []string{"code-unknown /tmp/.x (deleted)"}},
	{
		"a program of the release's name", "mkdir /root/o; cp /bin/sleep /root/o/sleep; setsid unshare --mount sh -c 'mount --bind /root/o/sleep /usr/bin/sleep; exec sleep 1000' </dev/null >/dev/null 2>&1 & sleep 0.5",
		"pkill -x sleep; rm -r /root/o", []string{"code-unknown /usr/bin/sleep replaced"},
	},
}
