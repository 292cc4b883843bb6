package endtoend

import (
	"context"
	"strings"
	"testing"
)

// TestAgentDisk: a state directory that can't be written to keeps no run from
// finding what there is to find, and nothing in it is damaged.
func TestAgentDisk(t *testing.T) {
	t.Parallel()
	a := startAgent(t, "")
	// A file system of its own for the state, small enough to be filled.
	a.Run("sh", "-euc", `mkdir -p `+stateDir+`; mount -t tmpfs -o size=2m,mode=755 tmpfs `+stateDir)
	if got := a.run(); got != "success 0" {
		t.Fatalf("the unit ended with %s", got)
	}
	a.tidy(t)
	altered := a.path("program-01-1.1") + "/bin/program-01"
	before := a.Run("sh", "-c", "cd "+stateDir+" && find . -type f ! -name run.json -exec sha256sum {} + | sort")
	unchanged := func(t *testing.T) {
		t.Helper()
		if after := a.Run("sh", "-c", "cd "+stateDir+" && find . -type f ! -name run.json ! -name filler -exec sha256sum {} + | sort"); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
	// both holds a run that finds nothing, and one that does, to their verdicts.
	both := func(t *testing.T) {
		t.Helper()
		since := a.now()
		if got := a.run(); got != "success 0" {
			t.Errorf("the unit ended with %s", got)
		}
		if log := a.log("ec-verify", since); !strings.Contains(log, "not-remembered") {
			t.Errorf("nothing is said of what could not be remembered:\n%s", log)
		}
		a.FlipByte(altered, 3)
		defer a.FlipByte(altered, 3)
		if got := a.run(); got != "exit-code 1" {
			t.Errorf("with an altered file the unit ended with %s", got)
		}
		status, _, _ := a.Exec(context.Background(), "systemctl", "status", "--no-pager", "ec-verify")
		if !strings.Contains(status, "disk-altered") {
			t.Errorf("systemctl status:\n%s", status)
		}
		// What is remembered is the run before, and must not pass for the last.
		if told := a.Run(program, "status"); !strings.Contains(strings.Join(strings.Fields(told), " "), "and ended with exit-code 1, which is not remembered") {
			t.Errorf("ec-verify status:\n%s", told)
		}
	}
	t.Run("full", func(t *testing.T) {
		// Not a byte is left, and not a name.
		a.Exec(context.Background(), "sh", "-c", `cat /dev/zero >`+stateDir+`/filler; for i in $(seq 100000); do : >`+stateDir+`/filler-$i || break; done`)
		both(t)
		a.Run("sh", "-c", "cd "+stateDir+" && find . -name 'filler*' -delete")
		unchanged(t)
		a.tidy(t)
		if got := a.run(); got != "success 0" || a.status().LastRun.Verdict != "verified" {
			t.Errorf("with room again the unit ended with %s", got)
		}
		before = a.Run("sh", "-c", "cd "+stateDir+" && find . -type f -exec sha256sum {} + | sort")
	})
	t.Run("read-only", func(t *testing.T) {
		a.Run("mount", "-o", "remount,ro", stateDir)
		both(t)
		unchanged(t)
		t.Run("a second run", func(t *testing.T) {
			goOn := a.begin()
			_, stderr, code := a.Exec(context.Background(), program)
			if code != 4 || !strings.Contains(stderr, "is under way") {
				t.Errorf("exit %d: %s", code, stderr)
			}
			goOn()
			a.ended()
		})
		a.Run("mount", "-o", "remount,rw", stateDir)
		a.tidy(t)
		if got := a.run(); got != "success 0" {
			t.Errorf("writable again, the unit ended with %s", got)
		}
	})
	t.Run("full from the first", func(t *testing.T) {
		// Nothing is in the cache, and what is fetched can't be kept, nor what was
		// accepted remembered: that must not pass for verified.
		a.Run("sh", "-c", "rm -r "+stateDir+"/releases "+stateDir+"/accepted.json; cat /dev/zero >"+stateDir+"/filler; true")
		if got := a.run(); got != "exit-code 4" {
			t.Errorf("the unit ended with %s", got)
		}
		a.Run("rm", stateDir+"/filler")
		if got := a.run(); got != "success 0" {
			t.Errorf("with room again the unit ended with %s", got)
		}
		a.tidy(t)
	})
}
