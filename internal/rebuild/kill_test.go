package rebuild

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/repeat"
)

// killScript starts a rebuild as a process group and ends it, $1 times, a little
// after it was seen to begin, to have its directory, a mount or a builder, by turns,
// with SIGKILL and SIGTERM, the first ones at once. After each it says what is left
// five minutes later: processes, mounts and a lock. No process that looks has in its
// command line what is looked for.
const killScript = `
times=$1 dir=$2; shift 2
echo "$dir/run/" >/root/pattern
remains() {
	{
		grep -laf /root/pattern /proc/[0-9]*/cmdline
		readlink /proc/[0-9]*/exe | grep -Fx "${@: -1}"
		stat -c '%U %n' /proc/[0-9]* | grep ^nixbld
		grep -h "$dir" /proc/[0-9]*/mountinfo
	} 2>/dev/null
	[ ! -d "$dir" ] || flock --nonblock "$dir" true || echo locked
}
seen() {
	case $1 in
	0) true ;;
	1) [ -d "$dir/run" ] ;;
	2) grep -qs "$dir" /proc/[0-9]*/mountinfo ;;
	3) stat -c %U /proc/[0-9]* 2>/dev/null | grep -q ^nixbld ;;
	esac
}
for ((i = 0; i < times; i++)); do
	setsid "$@" >/dev/null 2>&1 &
	pid=$!
	until seen $((i % 4)) || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
	((i < 8)) || sleep 0.$((RANDOM % 5))$((RANDOM % 10))
	signal=KILL; ((i / 4 % 2)) && signal=TERM
	kill -$signal -- -$pid 2>/dev/null
	wait $pid
	end=$((SECONDS + 300))
	until left=$(remains "$@"); [ -z "$left" ] || ((SECONDS >= end)); do sleep 0.1; done
	[ -z "$left" ] || echo "$i: $signal: $left"
	[ $signal = KILL ] && [ -d "$dir/run" ] && ((leftovers++))
	# Nothing but the one directory, which the next run removes.
	ls -A "$dir" 2>/dev/null | grep -vx run
done
echo "leftovers: ${leftovers:-0}" >&2
true`

func TestKilled(t *testing.T) {
	t.Parallel()
	m := startMachine(t, "parts")
	r := m.request()
	before := m.NixState()
	times := fmt.Sprint(repeat.Times(t, 8)) // of each moment with each signal
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	argv := append([]string{"bash", "-c", killScript, "bash", times, stateDir}, m.command(r)...)
	stdout, stderr, code := m.Exec(ctx, argv...)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	t.Logf("%s runs killed; %s", times, lines[len(lines)-1])
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
