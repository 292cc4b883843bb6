package endtoend

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// statusOutput is the output of ec-verify status, in the form of docs/operating.md.
type statusOutput struct {
	Standing *struct {
		Verdict  string
		Since    time.Time
		Findings []struct{ Class, Cause, Tier, Path, Since string }
	}
	LastRun *struct{ Verdict string }
	Tiers   []struct {
		Name                             string
		Items, Covered, Overdue, Drifted int
		CompleteSince                    *string
	}
	SetAside []string
	OpenRun  *struct{ ID int64 }
	UnderWay *struct {
		PID     int
		Unit    string
		Command string
	}
	PendingReboot *struct{ Booted, Next string }
	Timers        []struct {
		Unit, State string
		Next        time.Time
	}
}

func (m *machine) status() statusOutput {
	m.t.Helper()
	stdout, stderr, code := m.Exec(context.Background(), program, "status", "--output", "json")
	if code != 0 {
		m.t.Fatalf("status: exit %d: %s", code, stderr)
	}
	var s statusOutput
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (a answer) has(cause string) bool {
	return slices.ContainsFunc(a.Findings, func(f finding) bool { return f.Cause == cause })
}

// TestLedger: what a run verified is remembered, and where it can't be the
// machine is verified all the same.
func TestLedger(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.asPolicy("")
	if _, stderr, code := m.Exec(context.Background(), program, "status"); code != 4 || !strings.Contains(stderr, "nothing is known of this machine") {
		t.Errorf("before the first run: exit %d: %s", code, stderr)
	}
	m.verify().expect(t, "verified", 0)
	s := m.status()
	contents := s.Tiers[0]
	if s.LastRun.Verdict != "verified" || contents.Items != len(m.manifest.Paths) || contents.Covered != contents.Items || contents.CompleteSince == nil {
		t.Errorf("%+v", s)
	}
	// Others may look, and can lock nothing.
	other := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	if out := m.Run(append(other, program, "status")...); !strings.HasPrefix(out, "verified ") {
		t.Errorf("to another user, status says %s", out)
	}
	if out := m.Run(append(other, "sh", "-c", "for f in $(find "+stateDir+" -name '.*' -type f) "+ledgerFile+"; do ! flock -n $f true || echo $f; done")...); out != "" {
		t.Errorf("another user can lock %s", out)
	}
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	m.verify().expect(t, "drifted", 1, "disk-altered "+m.path("program-01-1.1")+" bin/program-01:content")
	m.FlipByte(m.path("program-01-1.1")+"/bin/program-01", 3)
	if s := m.status(); s.LastRun.Verdict != "drifted" || s.Tiers[0].Drifted != 1 || s.Tiers[0].Overdue != 0 {
		t.Errorf("%+v", s)
	}
	// Another disk is not this machine.
	m.Run("sh", "-euc", `mkdir /mnt/disk; mount --bind / /mnt/disk`)
	m.verify("--store-root", "/mnt/disk").expect(t, "verified", 0)
	if s := m.status(); s.LastRun.Verdict != "drifted" {
		t.Errorf("%+v", s)
	}
	// A damaged one is set aside and said.
	m.Run("sh", "-euc", `dd if=/dev/urandom of=`+ledgerFile+` bs=4k seek=1 count=4 conv=notrunc status=none`)
	a := m.verify()
	a.expect(t, "verified", 0)
	if s := m.status(); !a.has("ledger-damaged") || len(s.SetAside) != 1 || s.Tiers[0].Covered != contents.Items {
		t.Errorf("%+v\n%+v", a.Findings, s)
	}
	// A full disk.
	m.Run("sh", "-euc", `mv /var/lib/ec-verify /root/state; mkdir /var/lib/ec-verify; mount -t tmpfs -o size=1m,mode=755 none /var/lib/ec-verify; dd if=/dev/zero of=/var/lib/ec-verify/filler bs=4k status=none || true`)
	if a := m.verify(); a.Verdict != "verified" || !a.has("not-remembered") {
		t.Errorf("on a full disk: %+v, %s", a, a.stderr)
	}
	// A state directory that can't be written to, with a ledger and without.
	m.Run("sh", "-euc", `umount /var/lib/ec-verify; mount --bind /root/state /var/lib/ec-verify; mount -o remount,bind,ro /var/lib/ec-verify`)
	if a := m.verify(); a.Verdict != "verified" || !a.has("not-remembered") {
		t.Errorf("where nothing can be written: %+v, %s", a, a.stderr)
	}
	if s := m.status(); s.LastRun.Verdict != "verified" {
		t.Errorf("%+v", s)
	}
	m.Run("sh", "-euc", `umount /var/lib/ec-verify; mount -t tmpfs -o ro,mode=755 none /var/lib/ec-verify`)
	if a := m.verify(); a.Verdict != "verified" || !a.has("not-remembered") {
		t.Errorf("where nothing is and can't be: %+v, %s", a, a.stderr)
	}
}

// TestStandingOutlivesLedger: what the policy's runs found stays when the ledger is
// damaged, and what can't be read any more is never taken for verified.
func TestStandingOutlivesLedger(t *testing.T) {
	t.Parallel()
	m := startUnit(t, `, "metrics": {"file": "`+metricsFile+`"}, "rebuild": {"choice": "first-party", "firstParty": ["program-00*"]}`)
	m.Run("mkdir", "-p", metricsDir)
	m.write("/etc/systemd/system/ec-verify.service.d/zz.conf", "[Service]\nReadWritePaths=-"+metricsDir+"\nExecStart=\nExecStart="+program+" --offline --rebuild none\n")
	m.Run("systemctl", "daemon-reload")
	const profile = "/nix/var/nix/profiles/system"
	set := func(system string) { m.Run("nix-env", "-p", profile, "--set", m.Runner().Systems[system].Toplevel) }
	damage := func() {
		m.Run("sh", "-euc", `dd if=/dev/urandom of=`+ledgerFile+` bs=4k seek=1 count=4 conv=notrunc status=none`)
	}
	set("testhost-other")
	m.runUnit()
	before := m.status()
	if before.Standing == nil || before.Standing.Verdict != "drifted" {
		t.Fatalf("%+v", before.Standing)
	}
	expectStanding := func(when, verdict string, causes ...string) {
		t.Helper()
		s := m.status().Standing
		var got []string
		if s != nil {
			for _, f := range s.Findings {
				got = append(got, f.Cause)
			}
		}
		if s == nil || s.Verdict != verdict || !slices.Equal(got, causes) {
			t.Errorf("%s: %+v", when, s)
		}
		expectVerdict(t, m.metrics(), verdict)
	}
	// Before anybody has set it aside, and then a look is the first to see the damage.
	damage()
	if out, _, code := m.Exec(context.Background(), program, "status", "--check"); code != 1 || !strings.HasPrefix(out, "drifted: ") || !strings.Contains(out, "damaged") {
		t.Errorf("status --check: exit %d: %s", code, out)
	}
	if a := m.report(program, "--output", "json", "--unsafe-skip", "live"); !a.has("ledger-damaged") || a.Standing.Verdict != "drifted" {
		t.Errorf("%+v, %+v", a.Standing, a.Findings)
	}
	expectStanding("after a look", "drifted", "other-profile")
	if s := m.status(); s.Standing.Since != before.Standing.Since {
		t.Errorf("drifted since %s, want %s", s.Standing.Since, before.Standing.Since)
	}
	if out, _, code := m.Exec(context.Background(), program, "status", "--check"); code != 1 {
		t.Errorf("status --check: exit %d: %s", code, out)
	}
	m.runUnit()
	expectStanding("after the unit", "drifted", "other-profile")
	if s := m.status(); s.Standing.Since != before.Standing.Since {
		t.Errorf("drifted since %s, want %s", s.Standing.Since, before.Standing.Since)
	}
	// Both are damaged.
	set("testhost")
	damage()
	m.Run("sh", "-euc", `echo >>`+stateDir+`/ledger/standing.json`)
	m.report(program, "--output", "json", "--unsafe-skip", "live")
	if out, _, code := m.Exec(context.Background(), program, "status", "--check"); code != 4 || !strings.Contains(out, "the findings of earlier runs are lost, with "+stateDir+"/ledger/standing.json") {
		t.Errorf("status --check: exit %d: %s", code, out)
	}
	begin := m.now()
	result, _ := m.runUnit()
	if said := m.log("ec-verify", begin); result != "success 0" || !strings.Contains(said, "the findings of earlier runs are lost") {
		t.Errorf("the unit ended with %s:\n%s", result, said)
	}
	expectStanding("that is lost, after a run without rebuilds", "inconclusive", "standing-lost")
	if a := m.report(program, "--output", "json"); a.Standing.Look != "" || a.Standing.Verdict != "verified" {
		t.Errorf("%+v, %+v", a.Standing, a.Findings)
	}
	expectStanding("after a run of everything", "verified")
}
