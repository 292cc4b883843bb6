//go:build qemu

package guest

import "strings"

// work is what a machine does all the time, in rounds, each of which leaves a line in a
// file of its name in /run/busy if nothing of it failed.
var work = map[string]string{
	"units": `systemctl restart ssh systemd-logind; systemctl start --no-block systemd-tmpfiles-clean
		flock /run/clock.lock systemctl daemon-reload; systemd-run --scope --quiet true; sleep 5`,
	"logs": `logger "a line in the log"; journalctl --rotate --vacuum-files=2
		echo a line >>/var/log/work.log; mv /var/log/work.log /var/log/work.log.1; gzip -f /var/log/work.log.1; sleep 4`,
	"logins": `su --login nobody --shell /bin/sh --command true; sleep 4`,
	// As a clock is set that has been wrong, by hand or by NTP; and as NTP makes it
	// faster and slower. Not while the service manager's generators run: what they write
	// is known by its time, and a clock that is set twice around that makes it unknown
	// until the next reload.
	"clock": `for by in 7200 -10800 172800 -259200 -3600 97200; do flock /run/clock.lock sh -c "date --set @\$((\$(date +%s) + $by))"; sleep 1; done
		for to in 32000000 -32000000 0; do busybox adjtimex -f $to; sleep 1; done`,
}

// Busy has the machine work until [Machine.Idle].
func (m *Machine) Busy() {
	m.t.Helper()
	script := "booted=$(($(date +%s) - $(cut -d. -f1 /proc/uptime))); echo $booted >/run/booted; mkdir -p /run/busy\n"
	for name, round := range work {
		// Not in a condition, where set -e has no effect.
		script += "until [ -e /run/idle ]; do ( set -e\n" + round + "\n) >>/run/busy/" + name + ".log 2>&1; if [ $? = 0 ]; then echo >>/run/busy/" + name + "; else sleep 1; fi; done &\n"
	}
	// No file of it, which would be a program of the machine's.
	m.Run("rm -f /run/idle; setsid bash -c '" + strings.ReplaceAll(script+"wait", "'", `'\''`) + "' </dev/null >/dev/null 2>&1 &")
}

// Idle ends the work, sets the clock right, and fails if some kind of work was never done.
func (m *Machine) Idle() {
	m.t.Helper()
	m.Run(`touch /run/idle; until [ -z "$(pgrep -f 'until \[ -e /run/idle')" ]; do sleep 0.2; done
		date --set @$(($(cat /run/booted) + $(cut -d. -f1 /proc/uptime)))`)
	m.t.Logf("rounds of work: %s", m.Run(`cd /run/busy; wc -l $(ls | grep -v '[.]log$') | xargs`))
	for name := range work {
		if _, code := m.Try("[ -s /run/busy/" + name + " ]"); code != 0 {
			m.t.Errorf("%s: no round was done:\n%s", name, m.Run("tail -n 20 /run/busy/"+name+".log"))
		}
	}
}
