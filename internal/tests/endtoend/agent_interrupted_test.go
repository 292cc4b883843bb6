package endtoend

import (
	"context"
	"strings"
	"testing"
)

// TestAgentInterrupted: whatever ends a run in the middle, the unit says so, no
// half of it is left, and the next run is as if it had not been.
func TestAgentInterrupted(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	if got := a.run(); got != "success 0" {
		t.Fatalf("the unit ended with %s", got)
	}
	verdict := func(t *testing.T) string {
		t.Helper()
		s := a.status()
		if s.LastRun == nil {
			return "none"
		}
		return s.LastRun.Verdict
	}
	// next holds the run that follows to what a run is.
	next := func(t *testing.T) {
		t.Helper()
		if got := a.run(); got != "success 0" || verdict(t) != "verified" {
			t.Errorf("the next run ended with %s, and is remembered as %s", got, verdict(t))
		}
		if s := a.status(); s.OpenRun != nil || s.UnderWay != nil {
			t.Errorf("a run that was ended still counts: %+v", s)
		}
		a.tidy(t)
	}
	t.Run("the agent is killed", func(t *testing.T) {
		goOn := a.begin()
		if s := a.status(); s.UnderWay == nil || s.UnderWay.Unit != "ec-verify.service" {
			t.Errorf("the run under way: %+v", s.UnderWay)
		}
		a.Run("systemctl", "kill", "-s", "KILL", "ec-verify")
		if got := a.ended(); got != "signal 9" {
			t.Errorf("the unit ended with %s", got)
		}
		goOn()
		// Nothing is known of it but that it began.
		if s := a.status(); s.OpenRun == nil || s.UnderWay != nil || s.LastRun.Verdict != "verified" {
			t.Errorf("status: %+v", s)
		}
		next(t)
	})
	t.Run("the agent alone is killed", func(t *testing.T) {
		// Its nix goes with it, though nobody ends that.
		goOn := a.begin()
		a.Run("kill", "-KILL", a.show("ec-verify", "MainPID"))
		if got := a.ended(); got != "signal 9" {
			t.Errorf("the unit ended with %s", got)
		}
		a.until("nix is gone", "! pgrep -x nix-instantiate")
		goOn()
		// What the run before it found is not shown for it.
		page := a.Run("cat", stateDir+"/report.html")
		if !strings.Contains(page, "ended with signal (killed KILL) and left no report") || !strings.Contains(page, "ec-verify: inconclusive") || !strings.Contains(page, "verified, of the run that ended on ") {
			t.Errorf("the journal says\n%s\nthe page says\n%s", a.Run("journalctl", "-u", "ec-verify", "-n", "20", "-o", "short-precise"), page)
		}
		next(t)
		if page := a.Run("cat", stateDir+"/report.html"); !strings.Contains(page, "ec-verify: verified") {
			t.Errorf("the page says\n%s", page)
		}
	})
	t.Run("it is stopped", func(t *testing.T) {
		// As when the machine shuts down.
		goOn := a.begin()
		a.Run("systemctl", "stop", "ec-verify")
		if got := a.ended(); !strings.HasPrefix(got, "success ") {
			t.Errorf("the unit ended with %s", got)
		}
		goOn()
		if v := verdict(t); v != "verified" {
			t.Errorf("the machine is %s by it", v)
		}
		next(t)
	})
	t.Run("there is no nix daemon", func(t *testing.T) {
		a.Run("systemctl", "stop", "nix-daemon.socket", "nix-daemon.service")
		next(t)
		if state := a.show("nix-daemon", "ActiveState"); state != "inactive" {
			t.Errorf("the run has the nix daemon %s", state)
		}
		a.Run("systemctl", "start", "nix-daemon.socket")
	})
	t.Run("a hung run is ended", func(t *testing.T) {
		// One file whose reading takes longer than anybody waits.
		a.delay("60s", "[Service]\nTimeoutStartSec=3s\nTimeoutStopSec=3s", "--stall-after 3s")
		if got := a.run(); !strings.HasPrefix(got, "timeout ") {
			t.Errorf("the unit ended with %s", got)
		}
		status, _, _ := a.Exec(context.Background(), "systemctl", "status", "--no-pager", "-n", "50", "ec-verify")
		if !strings.Contains(status, "timeout") || !strings.Contains(status, "start operation timed out") {
			t.Errorf("systemctl status:\n%s", status)
		}
		a.removeDropIn("ec-verify.service", "delay")
		next(t)
	})
	t.Run("a slow run is not", func(t *testing.T) {
		// It takes longer than TimeoutStartSec=, and says that it goes on.
		a.delay("20s", "[Service]\nTimeoutStartSec=15s\nTimeoutStopSec=3s", "--stall-after 2m")
		if got := a.run(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
		a.removeDropIn("ec-verify.service", "delay")
		next(t)
	})
}

// delay has the unit's runs take time over the first reading of one file, by a
// drop-in with the text limits, and gives them arguments more. strace holds the
// reading up, and takes what the unit does not give: to trace.
func (a agent) delay(time, limits, arguments string) {
	a.t.Helper()
	file := a.path("program-03-1.3") + "/bin/program-03"
	a.dropIn("ec-verify.service", "delay", limits+`
NotifyAccess=all
SystemCallFilter=
ExecStart=
ExecStart=/usr/bin/strace -f -qq -o /dev/null -P `+file+` -e trace=read,pread64 -e inject=read,pread64:delay_enter=`+time+`:when=1 `+program+` --offline --rebuild none `+arguments)
}

// TestAgentReboot: a machine that is rebooted during a run, or loses power, catches up after
// the boot.
func TestAgentReboot(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	if got := a.run(); got != "success 0" {
		t.Fatalf("the unit ended with %s", got)
	}
	// The shipped timer, but without the hour over which a fleet is spread.
	a.dropIn("ec-verify.timer", "test", "[Timer]\n"+notToday()+"OnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms")
	// A test host gets its system only when it is up. A NixOS machine has it
	// before there is a systemd.
	a.write("/etc/systemd/system/has-system.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'until mountpoint -q /proc/cmdline; do sleep 0.1; done'\n")
	a.dropIn("ec-verify-fetch.service", "test", "[Unit]\nWants=has-system.service\nAfter=has-system.service")
	a.Run("systemctl", "enable", "ec-verify.timer", "ec-verify-rebuild.timer")
	caughtUp := func(t *testing.T, runs string) {
		t.Helper()
		a.until("the timer has caught up", `[ -n "$(systemctl show -P ExecMainExitTimestamp ec-verify)" ]`)
		// The forge is not up, so that what was fetched before has to do.
		if got := a.ended(); got != "success 0" {
			t.Errorf("after the reboot the unit ended with %s", got)
		}
		s := a.status()
		if s.LastRun.Verdict != "verified" || s.OpenRun != nil || s.UnderWay != nil {
			t.Errorf("status: %+v", s)
		}
		a.tidy(t)
		if booted, began := a.number("multi-user.target", "ActiveEnterTimestampMonotonic"), a.number("ec-verify-fetch", "InactiveExitTimestampMonotonic"); booted == 0 || began < booted {
			t.Errorf("the run began at %d µs, before the machine was up at %d µs", began, booted)
		}
		if left := a.Run("systemctl", "list-jobs", "--no-legend"); left != "" {
			t.Errorf("jobs that are left: %s", left)
		}
		if s.Timers[1].State != "waiting" || s.Timers[1].Next.IsZero() {
			t.Errorf("the weekly rebuild: %+v", s.Timers[1])
		}
		// One run for one boot, also where a run was missed.
		if n := a.Run("sqlite3", ledgerFile, "select group_concat(coalesce(verdict, '')) from runs"); n != runs {
			t.Errorf("the ledger has runs with the verdicts %s, want %s", n, runs)
		}
	}
	t.Run("systemctl reboot", func(t *testing.T) {
		a.begin()
		a.Reboot()
		caughtUp(t, "verified,inconclusive,verified")
		if out := a.Run("journalctl", "-b", "-1", "-u", "ec-verify", "-o", "cat", "--no-pager"); !strings.Contains(out, ", interrupted]") || strings.Contains(out, "Failed with result") {
			t.Errorf("the boot before says\n%s", out)
		}
	})
	t.Run("power cut", func(t *testing.T) {
		a.Run("mkdir", "-p", held)
		a.begin()
		// Ends all processes of the machine with SIGKILL, and boots it again.
		a.Checkpoint()
		caughtUp(t, "verified,inconclusive,verified,,verified")
	})
}

// TestAgentTwice: of two runs one is told of the other, or waits for it.
func TestAgentTwice(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	goOn := a.begin()
	pid := a.show("ec-verify", "MainPID")
	t.Run("the unit again", func(t *testing.T) {
		a.Run("systemctl", "start", "--no-block", "ec-verify")
		if now := a.show("ec-verify", "MainPID"); now != pid {
			t.Errorf("process %s was replaced by %s", pid, now)
		}
	})
	t.Run("by hand", func(t *testing.T) {
		stdout, stderr, code := a.Exec(context.Background(), program)
		if code != 4 || stdout != "" || !strings.Contains(stderr, "process "+pid+" (ec-verify.service) since 20") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit %d: %s%s", code, stdout, stderr)
		}
		_, stderr, code = a.Exec(context.Background(), program, "--wait", "200ms")
		if code != 4 || !strings.Contains(stderr, "waiting for process "+pid) {
			t.Errorf("--wait: exit %d: %s", code, stderr)
		}
		// Of another state directory it is none.
		if _, stderr, code := a.Exec(context.Background(), program, "--state-dir", "/root/state", "--unsafe-skip", "eval"); code != 0 {
			t.Errorf("--state-dir: exit %d: %s", code, stderr)
		}
	})
	t.Run("waiting", func(t *testing.T) {
		a.Run("systemd-run", "--quiet", "--unit=by-hand", "--property=Type=exec", "--property=RemainAfterExit=yes", program, "--wait", "10m")
		a.until("it waits", "journalctl -u by-hand | grep -q 'waiting for process "+pid+"'")
		goOn()
		if got := a.ended(); got != "success 0" {
			t.Errorf("the first ended with %s", got)
		}
		a.until("the second has ended", `[ "$(systemctl show -P SubState by-hand)" = exited ]`)
		if s := a.show("by-hand", "ExecMainStatus"); s != "0" {
			t.Errorf("the second ended with %s", s)
		}
		if n := a.Run("sqlite3", ledgerFile, "select count(*) from runs"); n != "2" {
			t.Errorf("the ledger has %s runs, want 2", n)
		}
		a.tidy(t)
	})
	t.Run("the unit waits for a run by hand", func(t *testing.T) {
		a.Run("sh", "-euc", `mkfifo `+held+`/wait; systemd-run --quiet --unit=by-hand-2 --property=Type=exec `+program+`
			timeout 600 sh -c 'exec 3>`+held+`/wait; rm `+held+`/wait; sleep 600 </dev/null >/dev/null 2>&1 & echo $! >`+held+`/keeper'`)
		a.Run("systemctl", "start", "--no-block", "ec-verify")
		a.until("it waits", `systemctl show -P StatusText ec-verify | grep -q 'waiting for process [0-9]* (by-hand-2.service) since'`)
		goOn()
		if got := a.ended(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
	})
}
