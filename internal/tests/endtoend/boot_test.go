package endtoend

import (
	"strings"
	"testing"
)

const (
	bootUnit = "ec-verify-boot.service"
	// blessing stands in for systemd-bless-boot.service, with that one's dependencies
	// without the generator: a test host has no loader that counts. blessed is what it
	// makes in place of renaming the entry.
	blessing = "[Unit]\nDefaultDependencies=no\nRequires=boot-complete.target\nAfter=local-fs.target boot-complete.target\nConflicts=shutdown.target\nBefore=shutdown.target\n" +
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch " + blessed + "\n"
	blessed = "/run/blessed"
)

// TestBootUnit: a boot that is counted is complete when the system is verified, and
// otherwise is not.
func TestBootUnit(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	a.Run(program, "release", "refresh")
	a.write("/etc/systemd/system/bless.service", blessing)
	// A test host gets its system only when it is up, where a NixOS machine has it before
	// there is a systemd: what asks for boot-complete.target waits for that, and is
	// no part of the first transaction.
	a.write("/etc/systemd/system/asks.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'until mountpoint -q /proc/cmdline; do sleep 0.1; done; systemctl start bless.service; touch /run/asked'\n[Install]\nWantedBy=multi-user.target\n")
	a.Run("systemctl", "enable", "asks.service")
	// booted boots the machine and returns how the unit ended, "" where it did not run,
	// and whether the boot was found to be good.
	booted := func() (ended string, good bool) {
		t.Helper()
		a.Reboot()
		a.until("the boot is judged", "test -e /run/asked")
		if a.show(bootUnit, "ExecMainStartTimestampMonotonic") != "0" {
			ended = a.show(bootUnit, "ActiveState") + " " + a.show(bootUnit, "ExecMainStatus")
		}
		_, _, code := a.Exec(t.Context(), "test", "-e", blessed)
		complete := a.show("boot-complete.target", "ActiveState") == "active"
		if complete != (code == 0) {
			t.Errorf("boot-complete.target is active: %v, and blessed: %v", complete, code == 0)
		}
		return ended, complete
	}
	expect := func(t *testing.T, wantEnded string, wantGood bool, says ...string) {
		t.Helper()
		ended, good := booted()
		log := a.log(bootUnit, "-b")
		if ended != wantEnded || good != wantGood {
			t.Errorf("the unit ended with %q and the boot is good: %v; want %q, %v\n%s", ended, good, wantEnded, wantGood, log)
		}
		for _, want := range says {
			if !strings.Contains(log, want) {
				t.Errorf("the journal does not say %q:\n%s", want, log)
			}
		}
	}
	altered := a.path("program-01-1.1")
	t.Run("off", func(t *testing.T) {
		a.FlipByte(altered+"/bin/program-01", 3)
		expect(t, "", true)
		a.FlipByte(altered+"/bin/program-01", 3)
	})
	a.Run("systemctl", "enable", bootUnit)
	t.Run("first boot", func(t *testing.T) {
		// There is no ledger yet: what is new is hashed, which here is everything.
		a.Run("rm", "-rf", stateDir+"/ledger")
		expect(t, "active 0", true, "the policy does not request --contents-budget, --unsafe-skip")
		if got := a.Run("sqlite3", ledgerFile, "select group_concat(coalesce(verdict, '')) from runs"); got != "verified" {
			t.Errorf("the ledger has %s", got)
		}
		// The standing is not its business.
		if out, _, code := a.Exec(t.Context(), program, "status", "--check"); code != 4 {
			t.Errorf("status --check: exit %d %s", code, out)
		}
	})
	t.Run("altered", func(t *testing.T) {
		if got := a.run(); got != "success 0" {
			t.Fatalf("the unit ended with %s", got)
		}
		a.FlipByte(altered+"/bin/program-01", 3)
		expect(t, "failed 1", false, altered, "disk-altered")
		// What a look found is found by the next run of the policy.
		if got := a.run(); got != "exit-code 1" {
			t.Errorf("the run of the policy ended with %s", got)
		}
		a.FlipByte(altered+"/bin/program-01", 3)
	})
	t.Run("mended, and once a boot", func(t *testing.T) {
		expect(t, "active 0", true)
		before := a.show(bootUnit, "InvocationID")
		a.Run("systemctl", "start", "boot-complete.target")
		a.Run("systemctl", "restart", "boot-complete.target")
		if a.show(bootUnit, "InvocationID") != before {
			t.Error("it ran twice")
		}
	})
	t.Run("what nobody can judge is not good", func(t *testing.T) {
		a.Run("mv", stateDir+"/releases", "/root/releases-away")
		expect(t, "failed 4", false, "ec-verify release refresh")
		a.Run("sh", "-euc", "rm -r "+stateDir+"/releases; mv /root/releases-away "+stateDir+"/releases")
	})
	t.Run("time is up", func(t *testing.T) {
		// Nothing that the program says keeps it alive.
		a.dropIn(bootUnit, "slow", "[Service]\nTimeoutStartSec=1s\nExecStart=\nExecStart=/bin/sh -c 'systemd-notify EXTEND_TIMEOUT_USEC=600000000; exec sleep 600'")
		if ended, good := booted(); good || a.show(bootUnit, "Result") != "timeout" {
			t.Errorf("the unit ended with %q (%s), and the boot is good: %v", ended, a.show(bootUnit, "Result"), good)
		}
	})
}
