package endtoend

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/testhost"
)

// An agent is a machine with everything that make install installs. Its configuration
// accepts one signed release from a forge on the same machine.
type agent struct{ *machine }

const (
	stateDir   = "/var/lib/ec-verify"
	ledgerFile = stateDir + "/ledger/ledger.db"
	forgeURL   = "http://127.0.0.1:8080/test/machine/releases/download"
	// held is where the evaluation of a run waits while there is a named pipe.
	held = "/run/ec-verify-test"
)

// makeInstalled makes the tree that make install makes, once for all tests.
var makeInstalled = sync.OnceValues(func() (string, error) {
	dir, err := prepared()
	if err != nil {
		return "", err
	}
	dest := filepath.Join(dir, "installed")
	if out, err := exec.Command("make", "-C", "../../..", "install", "DESTDIR="+dest, "PREFIX=/usr/local").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make install: %w\n%s", err, out)
	}
	return dest, nil
})

// installed returns that tree, which is a layer.
func installed(t *testing.T) string {
	t.Helper()
	dest, err := makeInstalled()
	if err != nil {
		t.Fatal(err)
	}
	return dest
}

// startAgent starts an agent. The named members of config stand in its
// configuration beside the release's and the trust's.
func startAgent(t *testing.T, config string) agent {
	t.Helper()
	m := startReleasedWith(t, testhost.Options{Layers: []string{installed(t)}})
	key, public := testhost.SigningKey(t)
	m.write("/root/ci.key", key)
	m.write("/etc/ec-verify/ci.pub", public)
	m.write("/etc/ec-verify/config.json", fmt.Sprintf(`{
		"release": {"source": [%q], "accept": [%q]},
		"trust": {"keys": [{"name": "ci", "file": "/etc/ec-verify/ci.pub"}]},
		"nix": {"binDir": "/usr/local/lib/test-nix"}%s
	}`, forgeURL, tag, config))
	m.Run(program, "release", "sign", releases+"/"+tag, "--key", "/root/ci.key")
	m.Run("rm", "/root/ci.key")
	// A nix that waits in the middle of a run for a test that asks it to: when it
	// is asked for its version, before the evaluation.
	m.Run("sh", "-euc", `
		mkdir -p /usr/local/lib/test-nix /srv/forge/test/machine/releases `+held+`
		ln -s `+releases+` /srv/forge/test/machine/releases/download
		cd /usr/local/lib/test-nix
		ln -s /usr/bin/nix-store /usr/bin/nix-build /usr/bin/nix-instantiate .
		printf '#!/bin/sh\n[ ! -p `+held+`/wait ] || read -r go <`+held+`/wait\nexec /usr/bin/nix "$@"\n' >nix
		chmod 755 nix`)
	a := agent{m}
	for _, unit := range []string{"ec-verify", "ec-verify-fetch", "ec-verify-rebuild"} {
		// The tests start units more often than systemd finds sound.
		a.dropIn(unit+".service", "often", "[Unit]\nStartLimitIntervalSec=0")
	}
	a.serve()
	return a
}

// serve starts the forge, and hide ends it.
func (a agent) serve() {
	a.t.Helper()
	a.Run("systemd-run", "--quiet", "--unit=forge", "--collect", "busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/srv/forge")
	a.until("the forge answers", "busybox wget -q -O /dev/null "+forgeURL+"/"+tag+"/release.json")
}

func (a agent) hide() {
	a.t.Helper()
	a.Run("systemctl", "stop", "forge")
}

// dropIn adds a drop-in to a unit.
func (a agent) dropIn(unit, name, text string) {
	a.t.Helper()
	a.write("/etc/systemd/system/"+unit+".d/"+name+".conf", text+"\n")
	a.Run("systemctl", "daemon-reload")
}

func (a agent) removeDropIn(unit, name string) {
	a.t.Helper()
	a.Run("rm", "/etc/systemd/system/"+unit+".d/"+name+".conf")
	a.Run("systemctl", "daemon-reload")
}

// show returns a property of a unit as systemd has it.
func (a agent) show(unit, property string) string {
	a.t.Helper()
	return a.Run("systemctl", "show", "-P", property, unit)
}

// begin starts a run of the unit that waits in its evaluation, and returns what
// lets it go on. It may be called once.
func (a agent) begin() (goOn func()) {
	a.t.Helper()
	a.Run("mkfifo", held+"/wait")
	a.Run("systemctl", "start", "--no-block", "ec-verify")
	// Opening the pipe waits for the one who reads it.
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	if _, stderr, code := a.Exec(ctx, "sh", "-c", "exec 3>"+held+"/wait; rm "+held+"/wait; sleep 600 </dev/null >/dev/null 2>&1 & echo $! >"+held+"/keeper"); code != 0 {
		a.t.Fatalf("the run does not come to its evaluation: exit %d %s", code, stderr)
	}
	return func() {
		a.t.Helper()
		// The last who could write closes the pipe, which ends the reading.
		a.Run("sh", "-c", "kill $(cat "+held+"/keeper)")
	}
}

// ended waits until no run of the unit is under way, nor what follows it, and returns
// how the last one ended: "success 0", "exit-code 4".
func (a agent) ended() string {
	a.t.Helper()
	a.until("the run has ended", `case $(systemctl show -P ActiveState ec-verify) in activating|deactivating) false ;; esac && [ -z "$(systemctl list-jobs --no-legend ec-verify.service)" ]`)
	return a.show("ec-verify", "Result") + " " + a.show("ec-verify", "ExecMainStatus")
}

// run starts the unit and returns how it ended.
func (a agent) run() string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	a.Exec(ctx, "systemctl", "start", "ec-verify")
	return a.ended()
}

// tidy holds the state directory to what a run leaves, with nothing half-written:
// no file that was under way, and a ledger that is whole.
func (a agent) tidy(t *testing.T) {
	t.Helper()
	const known = `^(accepted\.json|revoked\.json|\.accepted\.json\.lock|ledger(/ledger\.db|/ledger\.copy\.db|/last-report\.json|/standing\.json|/\.ledger\.lock)?|\.run\.lock|rebuild|report\.html|reports|releases|releases/\.lock|releases/` + tag + `(/[A-Za-z0-9][^/]*|/\.ec-verify-kept)?)$`
	pattern := regexp.MustCompile(known)
	for name := range strings.Lines(a.Run("sh", "-c", "cd "+stateDir+" && find . -mindepth 1 -printf '%P\\n'")) {
		if !pattern.MatchString(strings.TrimSpace(name)) {
			t.Errorf("left in the state directory: %s", name)
		}
	}
	if out := a.Run("sqlite3", ledgerFile, "pragma integrity_check"); out != "ok" {
		t.Errorf("the ledger: %s", out)
	}
}

// number reads a property that is one.
func (a agent) number(unit, property string) int64 {
	a.t.Helper()
	n, err := strconv.ParseInt(a.show(unit, property), 10, 64)
	if err != nil {
		a.t.Fatalf("%s of %s: %v", property, unit, err)
	}
	return n
}

// TestAgentUnits: systemd accepts the installed units, and they grant no more rights than
// they say.
func TestAgentUnits(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	units := strings.Fields(a.Run("sh", "-c", "cd /usr/local/lib/systemd/system && ls"))
	if len(units) < 5 {
		t.Fatalf("installed are the units %q", units)
	}
	t.Run("verify", func(t *testing.T) {
		// The host has no man to look the pages up with.
		out, stderr, code := a.Exec(t.Context(), append([]string{"systemd-analyze", "verify", "--man=no"}, units...)...)
		if code != 0 || out+stderr != "" {
			t.Errorf("exit %d: %s%s", code, out, stderr)
		}
	})
	t.Run("exit codes", func(t *testing.T) {
		// What systemd calls them is in docs/operating.md.
		document, err := os.ReadFile("../../../docs/operating.md")
		if err != nil {
			t.Fatal(err)
		}
		rows := regexp.MustCompile("(?m)^\\| ([0-9]+) \\| `status=([0-9]+)/([A-Z]+|n/a)` \\|").FindAllStringSubmatch(string(document), -1)
		if len(rows) != 10 {
			t.Fatalf("docs/operating.md has %d exit codes", len(rows))
		}
		for _, row := range rows {
			name := strings.Fields(a.Run("sh", "-c", "systemd-analyze exit-status "+row[1]+" | tail -n 1"))[0]
			if name == "-" {
				name = "n/a"
			}
			if row[1] != row[2] || row[3] != name {
				t.Errorf("docs/operating.md has %q, systemd calls it %q", row[0], name)
			}
		}
	})
	t.Run("security", func(t *testing.T) {
		overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `)
		for unit, most := range map[string]float64{"ec-verify.service": 2.5, "ec-verify-fetch.service": 2, "ec-verify-rebuild.service": 5.5, "ec-verify-boot.service": 1.5, "ec-verify-gate.service": 5, "ec-verify-gate-comin.service": 2.5} {
			out := a.Run("systemd-analyze", "security", "--no-pager", unit)
			found := overall.FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("no figure for %s: %s", unit, out)
			}
			exposure, err := strconv.ParseFloat(found[1], 64)
			if err != nil || exposure > most {
				t.Errorf("%s: exposure %s, at most %.1f\n%s", unit, found[1], most, out)
			}
		}
	})
	// What the host can't enforce, having no resource controllers, and no network
	// to take away, is at least what systemd was told.
	t.Run("limits", func(t *testing.T) {
		total, err := strconv.ParseInt(a.Run("awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		memory := map[string]int64{"ec-verify.service": total << 10 / 2, "ec-verify-fetch.service": 512 << 20, "ec-verify-rebuild.service": total << 10 * 3 / 4}
		for unit, want := range map[string]map[string]string{
			"ec-verify.service": {
				"PrivateNetwork": "yes", "RestrictAddressFamilies": "AF_UNIX", "ProtectSystem": "strict",
				"NoNewPrivileges": "yes", "CapabilityBoundingSet": "cap_dac_read_search cap_setgid cap_setuid", "OOMPolicy": "continue", "OOMScoreAdjust": "1000",
				"MemorySwapMax": "0", "TasksMax": "512", "IOSchedulingClass": "3", "CPUSchedulingPolicy": "5", "CPUWeight": "idle", "Nice": "19",
				"TimeoutStartUSec": "30min", "Type": "oneshot", "NotifyAccess": "main",
			},
			"ec-verify-fetch.service": {"CapabilityBoundingSet": "", "PrivateUsers": "yes", "PrivateNetwork": "no",
				"InaccessiblePaths": "-/nix/var -/nix/store /var/lib/ec-verify/ledger /var/lib/ec-verify/reports -/var/lib/ec-verify/rebuild -/etc/credstore -/etc/credstore.encrypted -/run/credstore -/run/credstore.encrypted -/var/lib/systemd/credential.secret"},
			"ec-verify-boot.service": {
				"PrivateNetwork": "yes", "RestrictAddressFamilies": "AF_UNIX", "ProtectSystem": "strict", "RestrictNamespaces": "yes",
				"NoNewPrivileges": "yes", "CapabilityBoundingSet": "cap_dac_read_search", "UnitFileState": "disabled", "SuccessExitStatus": "",
				"TimeoutStartUSec": "15min", "Type": "oneshot", "NotifyAccess": "none", "RemainAfterExit": "yes", "MemorySwapMax": "0",
			},
			"ec-verify-rebuild.service": {"PrivateNetwork": "yes", "NoNewPrivileges": "yes", "OOMPolicy": "continue", "CPUSchedulingPolicy": "5"},
			"ec-verify.timer":           {"Persistent": "yes", "FixedRandomDelay": "yes", "RandomizedDelayUSec": "1h"},
		} {
			got := make(map[string]string)
			for line := range strings.Lines(a.Run("systemctl", "show", unit)) {
				property, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				got[property] = value
			}
			for property, value := range want {
				if got[property] != value {
					t.Errorf("%s: %s=%s, want %s", unit, property, got[property], value)
				}
			}
			if most, ok := memory[unit]; ok {
				// In whole pages.
				if n, err := strconv.ParseInt(got["MemoryMax"], 10, 64); err != nil || n > most || n < most-1<<16 {
					t.Errorf("%s: MemoryMax=%s, want %d", unit, got["MemoryMax"], most)
				}
			}
		}
	})
	t.Run("what it can do", func(t *testing.T) {
		// The bounds as a program finds them that is started in the unit's place.
		a.dropIn("ec-verify.service", "probe", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'touch /etc/x || echo no-etc; touch /nix/store/x || echo no-store; cat /root/secret || echo no-home; chown 1 "+stateDir+" || echo no-chown; unshare -m true || echo no-namespaces; busybox nc 127.0.0.1 8080 </dev/null || echo no-network; touch "+stateDir+"/x && rm "+stateDir+"/x && echo state'")
		defer a.removeDropIn("ec-verify.service", "probe")
		a.write("/root/secret", "x")
		since := a.now()
		a.Run("systemctl", "start", "ec-verify")
		log := a.log("ec-verify", since)
		for _, want := range []string{"no-etc", "no-store", "no-home", "no-chown", "no-namespaces", "no-network", "state"} {
			if !strings.Contains(log, "\n"+want+"\n") {
				t.Errorf("no %q in\n%s", want, log)
			}
		}
	})
	t.Run("what a fetch can do", func(t *testing.T) {
		a.dropIn("ec-verify-fetch.service", "probe", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'cat /etc/credstore/ec-verify-report-key || echo no-key; rm "+stateDir+"/reports/x || echo no-reports; mv "+stateDir+"/reports "+stateDir+"/y || echo no-other-reports; touch "+ledgerFile+"-journal || echo no-journal; mv "+stateDir+"/ledger "+stateDir+"/z || echo no-ledger; ls /nix/store/ || echo no-store; touch "+stateDir+"/x && rm "+stateDir+"/x && echo state'")
		defer a.removeDropIn("ec-verify-fetch.service", "probe")
		a.write("/etc/credstore/ec-verify-report-key", "no key")
		a.write(stateDir+"/reports/x", "x")
		defer a.Run("rm", "-r", "/etc/credstore/ec-verify-report-key", stateDir+"/reports")
		// Neither is there yet on a machine that fetches for the first time.
		a.Run("rm", "-rf", stateDir+"/ledger")
		since := a.now()
		a.Run("systemctl", "start", "ec-verify-fetch")
		log := a.log("ec-verify-fetch", since)
		for _, want := range []string{"no-key", "no-reports", "no-other-reports", "no-journal", "no-ledger", "no-store", "state"} {
			if !strings.Contains(log, "\n"+want+"\n") {
				t.Errorf("no %q in\n%s", want, log)
			}
		}
	})
	t.Run("a source that is not what Nix registered", func(t *testing.T) {
		// It is evaluated all the same, and found to give another system.
		a.edit(a.Runner().Source+"/flake.nix", `echo "# changed" >> "$1"`)
		since := a.now()
		if got := a.run(); got != "exit-code 1" {
			t.Errorf("the unit ended with %s", got)
		}
		log := a.log("ec-verify", since)
		if !strings.Contains(log, "source-altered") || !strings.Contains(log, "evaluation-drift") {
			t.Errorf("the journal has\n%s", log)
		}
		a.edit(a.Runner().Source+"/flake.nix", `sed -i '$d' "$1"`)
	})
	t.Run("a flake that eats memory", func(t *testing.T) {
		// What evaluates is a process of the unit, within its limit, and no worker
		// of Nix's daemon.
		goOn := a.begin()
		if group := a.Run("sh", "-c", "cat /proc/$(pgrep -of test-nix/nix)/cgroup"); !strings.HasSuffix(group, "/system.slice/ec-verify.service") {
			t.Errorf("the evaluation is a process of %s", group)
		}
		goOn()
		a.ended()
		// What the kernel does when there is too much of it.
		const nix = "/usr/local/lib/test-nix/nix-instantiate"
		a.Run("mv", nix, nix+".kept")
		defer a.Run("mv", nix+".kept", nix)
		a.Push(suicidal(t), nix)
		since := a.now()
		if got := a.run(); got != "exit-code 4" {
			t.Errorf("the unit ended with %s", got)
		}
		if log := a.log("ec-verify", since); !strings.Contains(log, "[eval, evaluation-failed]") || !strings.Contains(log, ": 1 thing could not be checked") {
			t.Errorf("the journal has\n%s", log)
		}
	})
	t.Run("evidence that was made unreadable", func(t *testing.T) {
		file := a.path("program-01-1.1") + "/bin/program-01"
		a.FlipByte(file, 3)
		a.Run("chmod", "000", file)
		if got := a.run(); got != "exit-code 1" {
			t.Errorf("the unit ended with %s", got)
		}
		status, _, _ := a.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		if !strings.Contains(status, "bin/program-01") || !strings.Contains(status, "disk-altered") {
			t.Errorf("systemctl status:\n%s", status)
		}
	})
}

// suicidal returns a program that ends as one does of which the kernel wants the
// memory back.
func suicidal(t *testing.T) string {
	t.Helper()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"syscall\"\n\nfunc main() { syscall.Kill(syscall.Getpid(), syscall.SIGKILL) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return built(t, source)
}

// built returns the program that a Go file is.
func built(t *testing.T, source string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-o", file, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// notToday has a timer elapse daily as the one that is shipped does, but half a day from
// now: no test may meet it.
func notToday() string {
	return "OnCalendar=\nOnCalendar=*-*-* " + time.Now().UTC().Add(12*time.Hour).Format("15:04:05") + " UTC\n"
}

// TestAgentTimer: the timer starts runs, which find what there is to find, over
// a reboot and without a network.
func TestAgentTimer(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	// At once, and once: the shipped delay is for fleets.
	a.dropIn("ec-verify.timer", "test", "[Timer]\nOnBootSec=\n"+notToday()+"OnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms")
	fired := func() {
		t.Helper()
		before := a.show("ec-verify", "InvocationID")
		a.Run("systemctl", "restart", "ec-verify.timer")
		a.until("the timer fires", `[ "$(systemctl show -P InvocationID ec-verify)" != "`+before+`" ]`)
	}
	t.Run("verified", func(t *testing.T) {
		fired()
		if got := a.ended(); got != "success 0" || a.show("ec-verify", "ActiveState") != "inactive" {
			t.Errorf("the unit ended with %s, and is %s", got, a.show("ec-verify", "ActiveState"))
		}
		s := a.status()
		if s.LastRun.Verdict != "verified" || s.Timers[0].State != "waiting" || s.Timers[0].Next.Before(time.Now()) || s.Timers[1].State != "inactive" {
			t.Errorf("status: %+v", s)
		}
		a.tidy(t)
	})
	t.Run("the forge is gone", func(t *testing.T) {
		a.hide()
		fired()
		if got := a.ended(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
		// What is in the cache needs no forge: only what is not makes it fail.
		a.Run("mv", stateDir+"/releases", "/root/releases")
		since := a.now()
		fired()
		if got := a.ended(); got != "exit-code 4" {
			t.Errorf("without a cache the unit ended with %s", got)
		}
		if got := a.show("ec-verify-fetch", "Result"); got != "exit-code" {
			t.Errorf("the fetch ended with %s", got)
		}
		if log := a.log("ec-verify-fetch", since); strings.Contains(log, tag+": failed") || strings.Count(log, "0 of 1 accepted releases are in the cache") != 1 {
			t.Errorf("what the fetch could not do stands in the journal other than once:\n%s", log)
		}
		status, _, _ := a.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		if !strings.Contains(status, "ec-verify release refresh") {
			t.Errorf("systemctl status does not say what to do:\n%s", status)
		}
		a.Run("sh", "-euc", "rm -r "+stateDir+"/releases; mv /root/releases "+stateDir+"/releases")
		a.serve()
	})
	altered := a.path("program-01-1.1")
	t.Run("drifted", func(t *testing.T) {
		a.FlipByte(altered+"/bin/program-01", 3)
		defer a.FlipByte(altered+"/bin/program-01", 3)
		fired()
		if got := a.ended(); got != "exit-code 1" || a.show("ec-verify", "ActiveState") != "failed" {
			t.Errorf("the unit ended with %s, and is %s", got, a.show("ec-verify", "ActiveState"))
		}
		status, _, _ := a.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		for _, want := range []string{altered, "bin/program-01", "disk-altered", "→ Keep the disk as evidence", "status=1/FAILURE", "Status: \"drifted: this machine is not release " + tag} {
			if !strings.Contains(status, want) {
				t.Errorf("systemctl status does not say %q:\n%s", want, status)
			}
		}
	})
	t.Run("OnFailure", func(t *testing.T) {
		// As docs/operating.md has it.
		a.write("/etc/systemd/system/ec-verify-alarm@.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo \"$MONITOR_UNIT $MONITOR_SERVICE_RESULT $MONITOR_EXIT_STATUS\" >/root/alarm'\n")
		a.dropIn("ec-verify.service", "alarm", "[Unit]\nOnFailure=ec-verify-alarm@%n.service")
		defer a.removeDropIn("ec-verify.service", "alarm")
		a.FlipByte(altered+"/bin/program-01", 3)
		defer a.FlipByte(altered+"/bin/program-01", 3)
		fired()
		a.until("the alarm was raised", "test -s /root/alarm")
		if got := a.Run("cat", "/root/alarm"); got != "ec-verify.service exit-code 1" {
			t.Errorf("the alarm was told %q", got)
		}
		// What it can attach, and the journal says where it is.
		page := a.Run("cat", stateDir+"/report.html")
		for _, want := range []string{"<!doctype html>", "ec-verify: drifted", altered, "disk-altered"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		if got := a.Run("stat", "-c", "%a %U", stateDir+"/report.html"); got != "644 root" {
			t.Errorf("the page is %s", got)
		}
		if said := a.log("ec-verify", "-n", "20"); !strings.Contains(said, "ended with exit-code 1; its report as a page: "+stateDir+"/report.html") {
			t.Errorf("the journal says\n%s", said)
		}
	})
	t.Run("missed", func(t *testing.T) {
		// The machine was off when the time came: the stamp is that of a run two
		// days ago, and only the calendar is left to catch up with.
		a.dropIn("ec-verify.timer", "test", "[Timer]\nOnBootSec=\n"+notToday()+"RandomizedDelaySec=0\nAccuracySec=1ms")
		a.Run("systemctl", "stop", "ec-verify.timer")
		before := a.show("ec-verify", "InvocationID")
		a.Run("touch", "-d", "2 days ago", "/var/lib/systemd/timers/stamp-ec-verify.timer")
		a.Run("systemctl", "start", "ec-verify.timer")
		a.until("the timer catches up", `[ "$(systemctl show -P InvocationID ec-verify)" != "`+before+`" ]`)
		if got := a.ended(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
	})
	t.Run("without a next run", func(t *testing.T) {
		// systemd passes the line over, and the timer is active all the same.
		a.dropIn("ec-verify.timer", "test", "[Timer]\nOnBootSec=\nOnActiveSec=0\nOnCalendar=evry day\nRandomizedDelaySec=0\nAccuracySec=1ms")
		a.Run("systemctl", "restart", "ec-verify.timer")
		a.until("the timer has elapsed", "[ \"$(systemctl show -P SubState ec-verify.timer)\" = elapsed ]")
		if s := a.status(); s.Timers[0].State != "elapsed" || !s.Timers[0].Next.IsZero() || a.show("ec-verify.timer", "ActiveState") != "active" {
			t.Errorf("status: %+v", s.Timers[0])
		}
	})
}

// TestAgentRebuild: builds stay within the limits of their unit, and write nothing of Nix's
// except its locks.
func TestAgentRebuild(t *testing.T) {
	t.Parallel()
	a := startAgent(t, `, "rebuild": {"choice": "first-party", "firstParty": ["program-00*"], "reserve": 1000000}`)
	before := a.Run("sh", "-c", "cd /nix && find store var/nix/db/db.sqlite var/nix/profiles var/nix/gcroots -maxdepth 1 -printf '%p %s %T@\\n' | sort")
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	if _, stderr, code := a.Exec(ctx, "systemctl", "start", "ec-verify-rebuild"); code != 0 {
		t.Fatalf("exit %d: %s\n%s", code, stderr, a.Run("journalctl", "-u", "ec-verify-rebuild", "--no-pager"))
	}
	if s := a.status(); s.LastRun.Verdict != "verified" || s.Tiers[1].Items == 0 || s.Tiers[1].Covered != s.Tiers[1].Items {
		t.Errorf("status: %+v", s)
	}
	if after := a.Run("sh", "-c", "cd /nix && find store var/nix/db/db.sqlite var/nix/profiles var/nix/gcroots -maxdepth 1 -printf '%p %s %T@\\n' | sort"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	a.tidy(t)
}
