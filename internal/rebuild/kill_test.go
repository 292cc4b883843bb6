package rebuild

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// killScript starts a rebuild as a process group and ends it at a random moment
// of its first seconds, $1 times, with SIGKILL and SIGTERM by turns. After each
// it says what is left a second later: processes, mounts and a lock. The shell
// itself mentions no path that is looked for.
const killScript = `
times=$1 dir=$2; shift 2
remains() {
	for p in /proc/[0-9]*; do
		line=$(tr '\0' ' ' <$p/cmdline)
		case $line in *"$dir"/run/*) echo "process $line";; esac
		case $(readlink $p/exe) in "${@: -1}") echo "process $line";; esac
		case $(stat -c %U $p) in nixbld*) echo "builder $line";; esac
		grep -h "$dir" $p/mountinfo
	done 2>/dev/null
	[ ! -d "$dir" ] || flock --nonblock "$dir" true || echo locked
}
for ((i = 0; i < times; i++)); do
	setsid "$@" >/dev/null 2>&1 &
	pid=$!
	sleep $((RANDOM % 3)).$((RANDOM % 900 + 100))
	signal=KILL; ((i % 2)) && signal=TERM
	kill -$signal -- -$pid 2>/dev/null
	wait $pid
	for try in 1 2 3 4 5 6 7 8 9 10; do
		left=$(remains "$@"); [ -n "$left" ] || break
		sleep 0.1
	done
	[ -z "$left" ] || echo "$i: $signal: $left"
	[ $signal = KILL ] && [ -d "$dir/run" ] && ((leftovers++))
	# Nothing but the one directory, which the next run removes.
	ls -A "$dir" 2>/dev/null | grep -vx run
done
echo "leftovers: ${leftovers:-0}" >&2
true`

func TestKilled(t *testing.T) {
	m := startMachine(t, "parts")
	r := m.request()
	before := m.NixState()
	times := 100
	if os.Getenv("EC_VERIFY_TEST_SUITE") != "" {
		times = 20 // once more, with another Nix
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	begin := time.Now()
	argv := append([]string{"bash", "-c", killScript, "bash", strconv.Itoa(times), stateDir}, m.command(r)...)
	stdout, stderr, code := m.Exec(ctx, argv...)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	t.Logf("%d runs killed in %v; %s", times, time.Since(begin), lines[len(lines)-1])
	if code != 0 || stdout != "" {
		t.Errorf("exit %d, left behind:\n%s\n%s", code, stdout, stderr)
	}
	if !strings.Contains(stderr, "leftovers: ") || strings.Contains(stderr, "leftovers: 0") {
		t.Error("no run was killed while it had something to leave behind")
	}
	if m.NixState() != before {
		t.Error("something was written to the machine's store or database")
	}
	m.leavesNothing(func() {
		a := m.rebuild(r)
		a.expect(t)
	})
}
