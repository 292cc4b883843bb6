package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/node/systemd"
)

// startUnit returns a machine on which systemctl start ec-verify verifies it,
// with the unit and the catalog as they are shipped; config is what the
// configuration has beside the release.
func startUnit(t *testing.T, config string) *machine {
	t.Helper()
	m := startReleased(t)
	m.installUnit(config)
	return m
}

func (m *machine) installUnit(config string) {
	m.t.Helper()
	m.Push("../../../systemd/ec-verify.service", "/etc/systemd/system/ec-verify.service")
	m.Push("../../../systemd/ec-verify.catalog", "/usr/local/lib/systemd/catalog/ec-verify.catalog")
	m.write("/etc/systemd/system/ec-verify.service.d/test.conf", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\nExecStart="+program+"\n")
	m.write("/etc/ec-verify/config.json", fmt.Sprintf(
		`{"release": {"source": [%q], "accept": [%q]}, "unsafeUnsigned": true, "nix": {"binDir": "/var/lib/ec-verify/bin"}%s}`, releases, tag, config))
	// The evaluation waits in the middle of a run for a test that asks it to; see
	// interfere.
	m.write("/var/lib/ec-verify/bin/nix", "#!/bin/sh\n[ ! -p /var/lib/ec-verify/wait ] || read -r go </var/lib/ec-verify/wait\nexec /usr/bin/nix \"$@\"\n")
	m.Run("sh", "-euc", "cd /var/lib/ec-verify/bin; chmod 755 nix; cp -L /usr/bin/nix-store /usr/bin/nix-build /usr/bin/nix-instantiate .")
	m.Run("systemctl", "daemon-reload")
	m.Run("journalctl", "--update-catalog")
}

// write writes a file in the host, and the directories above it.
func (m *machine) write(name, content string) {
	m.t.Helper()
	m.Run("mkdir", "-p", filepath.Dir(name))
	if err := os.WriteFile(m.Path(name), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// runUnit starts the unit, and returns its result and the entries of this start
// that have a MESSAGE_ID of ec-verify.
func (m *machine) runUnit() (result string, entries []journalEntry) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	before := m.now()
	m.Exec(ctx, "systemctl", "start", "ec-verify")
	return m.unitResult(before)
}

// now returns an option of journalctl for what comes from now on.
func (m *machine) now() string {
	m.t.Helper()
	m.Run("journalctl", "--sync")
	_, cursor, ok := strings.Cut(m.Run("journalctl", "-n", "0", "--show-cursor"), "-- cursor: ")
	if !ok {
		m.t.Fatal("journalctl shows no cursor")
	}
	return "--after-cursor=" + cursor
}

// log returns what the journal has of a unit, with further options of journalctl. What was
// said before is in it: journald reads what a unit writes when it comes to it, which may be
// after the unit has ended.
func (m *machine) log(unit string, options ...string) string {
	m.t.Helper()
	m.Run("journalctl", "--sync")
	return m.Run(append([]string{"journalctl", "-u", unit, "-o", "cat", "--no-pager"}, options...)...)
}

// unitResult returns the result of the last start of the unit, and the entries
// since then.
func (m *machine) unitResult(since string) (result string, entries []journalEntry) {
	m.t.Helper()
	result = m.Run("systemctl", "show", "-P", "Result", "ec-verify") + " " + m.Run("systemctl", "show", "-P", "ExecMainStatus", "ec-verify")
	return result, m.journal(since, "-u", "ec-verify")
}

// journalEntry is what the journal has of an entry, by field.
type journalEntry map[string]string

// journal returns the entries that match and are ec-verify's, in their order.
func (m *machine) journal(matches ...string) []journalEntry {
	m.t.Helper()
	m.Run("journalctl", "--sync")
	out := m.Run(append([]string{"journalctl", "-o", "json", "--all", "--no-pager"}, matches...)...)
	var entries []journalEntry
	for line := range strings.Lines(out) {
		var raw map[string]any
		if err := json.Unmarshal([]byte(line), &raw); err != nil {
			m.t.Fatalf("journalctl: %v: %s", err, line)
		}
		e := journalEntry{}
		for name, value := range raw {
			s, ok := value.(string)
			if !ok {
				m.t.Errorf("field %s is no text, or there several times: %v", name, value)
			}
			e[name] = s
		}
		if slices.Contains(systemd.Events(), systemd.Event(e["MESSAGE_ID"])) {
			entries = append(entries, e)
		}
	}
	return entries
}

func (e journalEntry) event() systemd.Event { return systemd.Event(e["MESSAGE_ID"]) }

// expect holds fields of e, without the prefix, to what they should be.
func (e journalEntry) expect(t *testing.T, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := e["EC_VERIFY_"+name]; got != value {
			t.Errorf("EC_VERIFY_%s: got %q, want %q", name, got, value)
		}
	}
}

func eventsOf(entries []journalEntry) []systemd.Event {
	var events []systemd.Event
	for _, e := range entries {
		events = append(events, e.event())
	}
	return events
}

// TestJournal: what runs in the unit that is shipped leave in the journal.
func TestJournal(t *testing.T) {
	t.Parallel()
	m := startUnit(t, "")
	altered := m.path("program-01-1.1")

	t.Run("inconclusive", func(t *testing.T) {
		m.Run("sh", "-euc", `cp -a "$1" /root/copy; mount --bind /root/copy "$1"`, "sh", altered)
		defer m.Run("umount", altered)
		result, entries := m.runUnit()
		if result != "exit-code 4" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted, systemd.CoverageOverdue, systemd.FindingMade, systemd.RunInconclusive}) {
			t.Fatalf("%s: %v", result, entries)
		}
		entries[1].expect(t, map[string]string{"RUN": "1", "TIER": "contents", "ITEMS": fmt.Sprint(len(m.manifest.Paths)), "OVERDUE": "1", "EVERY": "168h0m0s"})
		entries[2].expect(t, map[string]string{"CAUSE": "mounted-over", "CLASS": "inconclusive", "PATH": altered})
		entries[3].expect(t, map[string]string{"VERDICT": "inconclusive", "COUNT_INCONCLUSIVE": "1"})
	})
	t.Run("verified", func(t *testing.T) {
		result, entries := m.runUnit()
		if result != "success 0" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted, systemd.RunVerified}) {
			t.Fatalf("%s: %v", result, entries)
		}
		entries[0].expect(t, map[string]string{"RUN": "2"})
		entries[1].expect(t, map[string]string{
			"RUN": "2", "VERDICT": "verified", "RELEASE": tag, "CONFIGURATION": "testhost", "UNSAFE": "unsigned", "COUNT_DRIFT": "0", "CAUSE": "",
		})
		if p := entries[1]["PRIORITY"]; p != "4" {
			t.Errorf("a weakened run has priority %s", p)
		}
	})

	m.FlipByte(altered+"/bin/program-01", 3)
	evil := "evil\x1b[2J\nMESSAGE_ID=0\nverified: all is well"
	m.AddFile(altered+"/"+evil, "x", 0o444)
	t.Run("drifted", func(t *testing.T) {
		result, entries := m.runUnit()
		if result != "exit-code 1" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted, systemd.FindingMade, systemd.RunDrifted}) {
			t.Fatalf("%s: %v", result, entries)
		}
		entries[1].expect(t, map[string]string{
			"RUN": "3", "VERDICT": "drifted", "CLASS": "drift", "CAUSE": "disk-altered", "TIER": "contents",
			"PATH": altered, "FILE": "bin/program-01", "FILES": "2",
		})
		if e := entries[1]; !strings.HasPrefix(e["EC_VERIFY_WANT"], "sha256-") || !strings.HasPrefix(e["EC_VERIFY_GOT"], "sha256-") || e["EC_VERIFY_WANT"] == e["EC_VERIFY_GOT"] || e["PRIORITY"] != "3" {
			t.Errorf("%v", e)
		}
		entries[2].expect(t, map[string]string{"VERDICT": "drifted", "COUNT_DRIFT": "1", "CAUSE": ""})
		// The last ten lines of the log.
		status, _, _ := m.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		for _, want := range []string{altered, "bin/program-01", "disk-altered", "→ Keep the disk as evidence", "status=1/FAILURE", "drifted: this machine is not release " + tag} {
			if !strings.Contains(status, want) {
				t.Errorf("systemctl status does not say %q:\n%s", want, status)
			}
		}
		// Nothing stands there twice.
		log := m.Run("journalctl", "-u", "ec-verify", "--no-pager", "_SYSTEMD_INVOCATION_ID="+entries[0]["_SYSTEMD_INVOCATION_ID"])
		if n := strings.Count(log, altered); n != 1 {
			t.Errorf("the log has the path %d times:\n%s", n, log)
		}
	})
	t.Run("names that an attacker chose", func(t *testing.T) {
		m.FlipByte(altered+"/bin/program-01", 3)
		defer m.FlipByte(altered+"/bin/program-01", 3)
		result, entries := m.runUnit()
		if result != "exit-code 1" || len(entries) != 3 {
			t.Fatalf("%s: %v", result, entries)
		}
		entries[1].expect(t, map[string]string{"FILE": `evil\x1b[2J\nMESSAGE_ID=0\nverified: all is well`})
		for _, format := range []string{"short", "cat", "verbose"} {
			out := m.Run("journalctl", "-x", "-o", format, "--no-pager", "-u", "ec-verify")
			if strings.Contains(out, "\x1b") || strings.Contains(out, "\nverified: all") {
				t.Errorf("journalctl -o %s: %q", format, out)
			}
		}
	})
	t.Run("explained", func(t *testing.T) {
		out := m.Run("journalctl", "-x", "--no-pager", "-u", "ec-verify")
		for _, want := range []string{
			"Subject: A verification of this machine begins", "Subject: This machine equals its release", "Subject: This machine differs from its release",
			"Subject: Found: the files on disk differ from the release", "The contents tier found: the files on disk", "disk-altered, of class drift",
			"Keep the disk as evidence",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("journalctl -x does not say %q:\n%s", want, out)
			}
		}
		if left := regexp.MustCompile(`@[A-Z_]+@`).FindString(out); left != "" {
			t.Errorf("nothing was put for %s:\n%s", left, out)
		}
	})
	t.Run("journald is killed in the middle", func(t *testing.T) {
		before := m.now()
		m.interfere(`journalctl --sync; systemctl kill -s KILL systemd-journald`)
		result, entries := m.unitResult(before)
		if result != "exit-code 1" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted, systemd.FindingMade, systemd.RunDrifted}) {
			t.Fatalf("%s: %v", result, entries)
		}
	})
	t.Run("journald hangs from the middle on", func(t *testing.T) {
		before := m.now()
		m.interfere(`journalctl --sync; systemctl kill -s STOP systemd-journald`)
		if result := m.Run("systemctl", "show", "-P", "ExecMainStatus", "ec-verify"); result != "1" {
			t.Errorf("the run ended with %s", result)
		}
		m.Run("systemctl", "kill", "-s", "CONT", "systemd-journald")
		// What it had taken it reads now, and the report that was written to stdout
		// because nobody knew.
		_, entries := m.unitResult(before)
		if len(entries) == 0 || entries[0].event() != systemd.RunStarted {
			t.Errorf("%v", entries)
		}
		for _, want := range []string{"the journal may not have all events", " store paths hashed"} {
			m.until("the log says "+want, fmt.Sprintf("journalctl --no-pager -u ec-verify '%s' | grep -qF '%s'", before, want))
		}
	})
	t.Run("there is no journald at the end", func(t *testing.T) {
		before := m.now()
		// Its sockets belong to systemd, and would start it anew.
		m.interfere(`journalctl --sync; systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.service`)
		m.Run("systemctl", "start", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")
		result, entries := m.unitResult(before)
		if result != "exit-code 1" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.RunStarted}) {
			t.Fatalf("%s: %v", result, entries)
		}
		if s := m.status(); s.LastRun.Verdict != "drifted" {
			t.Errorf("the ledger has %+v", s.LastRun)
		}
	})
	t.Run("it could not be run", func(t *testing.T) {
		m.Run("mv", "/etc/ec-verify/config.json", "/root/config.json")
		defer m.Run("mv", "/root/config.json", "/etc/ec-verify/config.json")
		m.write("/etc/ec-verify/config.json", `{"wrokers": 1}`)
		result, entries := m.runUnit()
		if result != "exit-code 78" || !slices.Equal(eventsOf(entries), []systemd.Event{systemd.CommandFailed}) {
			t.Fatalf("%s: %v", result, entries)
		}
		if e := entries[0]; e["PRIORITY"] != "3" || !strings.Contains(e["MESSAGE"], `unknown key "wrokers"`) {
			t.Errorf("%v", e)
		}
		if log := m.Run("journalctl", "--no-pager", "_SYSTEMD_INVOCATION_ID="+entries[0]["_SYSTEMD_INVOCATION_ID"]); strings.Count(log, "wrokers") != 1 {
			t.Errorf("it stands there other than once:\n%s", log)
		}
	})
	t.Run("what the documentation asks", func(t *testing.T) { m.documented(t, section(t, "monitoring.md", "## Events in the journal")) })
	t.Run("by hand", func(t *testing.T) {
		run := func(args ...string) []journalEntry {
			since := m.now()
			m.Exec(context.Background(), append([]string{program}, args...)...)
			return m.journal(since, "-t", "ec-verify")
		}
		if entries := run(); len(entries) != 0 {
			t.Errorf("a run by hand is in the journal: %v", entries)
		}
		entries := run("--journal", "always")
		if len(entries) != 3 || entries[0]["EC_VERIFY_RUN"] == "" || entries[0]["_SYSTEMD_UNIT"] == "ec-verify.service" {
			t.Fatalf("%v", entries)
		}
		if all := m.journal("EC_VERIFY_RUN=" + entries[0]["EC_VERIFY_RUN"]); !slices.Equal(eventsOf(all), eventsOf(entries)) {
			t.Errorf("by its number the journal has %v", all)
		}
		if out := m.Run(program, "status"); !strings.Contains(out, ", run "+entries[0]["EC_VERIFY_RUN"]+",") {
			t.Errorf("status does not say its number:\n%s", out)
		}
		// Who typed it is told as well.
		_, stderr, code := m.Exec(context.Background(), program, "--journal", "always", "--workers", "-1")
		if code != 64 || !strings.Contains(stderr, "workers") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("a thousand findings", func(t *testing.T) {
		// References from the system to a thousand paths more, which are not there.
		m.SQL(`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
			insert into ValidPaths (path, hash, registrationTime, narSize)
			select '/nix/store/' || printf('%032d', i) || '-extra', 'sha256:' || printf('%064d', i), 1, 1 from n;
			insert into Refs (referrer, reference) select s.id, e.id from ValidPaths s, ValidPaths e
			where s.path = '` + m.Runner().Systems["testhost"].Toplevel + `' and e.path like '%-extra'`)
		result, entries := m.runUnit()
		if result != "exit-code 1" || len(entries) != systemd.MaxFindings+2 {
			t.Fatalf("%s: %d entries: %v", result, len(entries), eventsOf(entries))
		}
		last := entries[len(entries)-1]
		if left := last["EC_VERIFY_LEFT_OUT"]; len(left) < 3 || !strings.Contains(last["MESSAGE"], "; left out: "+left+";") {
			t.Errorf("%v", last)
		}
		status, _, _ := m.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		if !strings.Contains(status, "; left out: ") {
			t.Errorf("systemctl status:\n%s", status)
		}
	})
}

// interfere runs the unit with a script in the middle of it, while the flake is
// evaluated, and returns when the run has ended.
func (m *machine) interfere(script string) {
	m.t.Helper()
	m.Run("mkfifo", "/var/lib/ec-verify/wait")
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	_, stderr, code := m.Exec(ctx, "sh", "-euc", `
		trap "" PIPE # the reader may be gone
		systemctl start --no-block ec-verify
		exec 3>/var/lib/ec-verify/wait
		rm /var/lib/ec-verify/wait
		`+script+`
		echo go >&3 || true`)
	if code != 0 {
		m.t.Fatalf("interfere: exit %d: %s", code, stderr)
	}
	m.until("the run has ended", `[ "$(systemctl show -P ActiveState ec-verify)" != activating ]`)
}

// documented runs the commands of a part of a document, each of which must succeed
// and print something.
func (m *machine) documented(t *testing.T, part string) {
	t.Helper()
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(part, -1)
	if len(blocks) == 0 {
		t.Fatal("no commands")
	}
	for _, b := range blocks {
		for command := range strings.Lines(b[1]) {
			stdout, stderr, code := m.Exec(context.Background(), "sh", "-c", command)
			if code != 0 || strings.TrimSpace(stdout) == "" || strings.Contains(stdout, "-- No entries --") {
				t.Errorf("%s\nexit %d: %s%s", command, code, stdout, stderr)
			}
		}
	}
}
