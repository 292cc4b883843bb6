package endtoend

import (
	"strconv"
	"strings"
	"testing"
	"time"

	parts "every.channel/ec-verify/internal/node/running"
)

// cleanEnv asks for how often a busy machine is verified: more often than a test run
// of every day can take.
const cleanEnv = "EC_VERIFY_MACHINE_CLEAN"

// work is what a machine that is the release does all the time, in rounds, the n-th of
// which is counted if nothing of it failed. The clock is no part of it: that of a test
// host is that of the machine that the tests run on.
var work = []struct{ name, begin, round string }{
	{name: "units", round: `
		systemctl restart systemd-logind systemd-hostnamed; systemctl start --no-block systemd-tmpfiles-clean
		systemd-run --scope --quiet true; systemctl daemon-reload; sleep 2`},
	// An encoder: it writes short segments, publishes each, and drops old ones.
	{name: "encoder", begin: `
		mkdir -p /var/lib/encoder/published; cd /var/lib/encoder; printf '
			user root; error_log /dev/null; pid /run/publish.pid;
			events { }
			http { access_log off; client_max_body_size 0; server { listen 127.0.0.1:8080; location / { dav_methods PUT; root /var/lib/encoder/published; } } }
		' >nginx.conf; nginx -c /var/lib/encoder/nginx.conf`, round: `
		head -c 2000000 /dev/urandom | gzip -1 >segment.new; mv segment.new segment-$n
		curl --silent --show-error --fail --upload-file segment-$n http://127.0.0.1:8080/; rm -f segment-$((n - 5)) published/segment-$((n - 5)); sleep 1`},
	// What sandboxes and containers do.
	{name: "sandboxes", round: `
		unshare --mount sh -ec 'mount -t tmpfs t /tmp; mkdir /tmp/r; mount --rbind / /tmp/r; cd /tmp/r; pivot_root . mnt; sleep 1'
		unshare --mount sh -ec 'mount -t tmpfs t /mnt; mkdir /mnt/old; cp /bin/busybox /mnt/sh; cd /mnt; pivot_root . old; exec /sh -c :'
		unshare --user --map-root-user --mount sh -ec 'mount -t tmpfs t /etc; sleep 1'`},
	{name: "logins", round: `
		su --login visitor --command true; systemctl start "user@$(id -u visitor)"; systemctl --user --machine=visitor@ daemon-reload || true
		usermod --comment "$n" visitor; sleep 3; systemctl stop "user@$(id -u visitor)"`},
	{name: "builds", round: `
		nix-build --no-out-link -E "derivation { name = \"busy-$(date +%s%N)\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"for i in 1 2 3 4 5 6 7 8 9; do echo \\$i; done >\$out\" ]; }"
		sleep 1`},
	{name: "logs", round: `
		logger "a line in the log"; journalctl --rotate --vacuum-files=2; echo a line >>/var/log/encoder.log
		mv /var/log/encoder.log /var/log/encoder.log.1; gzip -f /var/log/encoder.log.1; sleep 2`},
	// A network card with a cable to a server of addresses, which is another machine.
	{name: "leases", begin: `
		mkdir -p /run/systemd/network; printf '[Match]\nName=lan0\n[Network]\nDHCP=ipv4\n' >/run/systemd/network/lan.network
		unshare --net sleep infinity & server=$!; while [ /proc/$server/ns/net -ef /proc/self/ns/net ]; do sleep 0.1; done
		ip link add lan0 type veth peer name lan1 netns $server
		nsenter --net=/proc/$server/ns/net sh -c 'ip address add 10.9.0.1/24 dev lan1; ip link set lan1 up; exec dnsmasq --no-daemon --port=0 --interface=lan1 --dhcp-range=10.9.0.10,10.9.0.20,2m --dhcp-leasefile=/run/leases' &
		rm -f /etc/systemd/system/systemd-networkd.service; systemctl daemon-reload; systemctl start systemd-networkd`, round: `
		networkctl renew lan0; ip -4 address show dev lan0 | grep -q 10.9.0.; sleep 2`},
}

// keepBusy has the machine work until there is /run/idle.
func (m *machine) keepBusy() {
	m.t.Helper()
	var b strings.Builder
	b.WriteString("mkdir -p /run/busy\n")
	for _, w := range work {
		b.WriteString("( n=0\n" + w.begin + "\nuntil [ -e /run/idle ]; do n=$((n + 1)); ( set -e\n" + w.round +
			"\n); if [ $? = 0 ]; then echo >>/run/busy/" + w.name + "; else sleep 1; fi; done ) >/run/busy." + w.name + " 2>&1 &\n")
	}
	m.write("/run/work", b.String())
	m.Run("systemd-run", "--scope", "--quiet", "sh", "-c", "setsid sh /run/work </dev/null >/dev/null 2>&1 &")
}

// rounds returns how many rounds each kind of work has done, and those that have done
// no more than least.
func (m *machine) rounds(least int) (done []string, behind []string) {
	m.t.Helper()
	for _, w := range work {
		n, err := strconv.Atoi(m.Run("sh", "-c", "touch /run/busy/"+w.name+"; wc -l </run/busy/"+w.name))
		if err != nil {
			m.t.Fatal(err)
		}
		done = append(done, w.name+" "+strconv.Itoa(n))
		if n <= least {
			behind = append(behind, w.name)
		}
	}
	return done, behind
}

// TestMachineBusy: a machine that works, and is the release, is verified again and
// again, until each kind of work was done beside it: a fast machine verifies five times
// before a login has ended.
func TestMachineBusy(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	m.ShowUpper()
	// The network and the publisher are services of Debian here, and none of the release.
	m.askMachineBut([]string{
		machineConfig, releases + "/", "/home/visitor/", "/usr/lib/systemd/systemd-networkd:udp *", "/usr/lib/systemd/systemd-networkd:packet *", "/usr/lib/systemd/systemd-networkd:raw *", "/usr/sbin/nginx:tcp 127.0.0.1:8080",
	}, parts.Parts()...)
	m.Run("useradd", "--create-home", "visitor")
	m.keepBusy()
	least, wrong, begun := numberOf(t, cleanEnv, 5), 0, time.Now()
	times, done, behind := 0, []string(nil), []string{"all"}
	for ; times < least || len(behind) > 0 && time.Since(begun) < runTimeout; times++ {
		if a := m.changed(); a.Verdict != "verified" {
			wrong++
			t.Errorf("run %d: %s, %v", times, a.Verdict, a.causes())
		}
		done, behind = m.rounds(least / 20)
	}
	for _, name := range behind {
		t.Errorf("%s: no more than %d rounds\n%s", name, least/20, m.Run("tail", "-n", "20", "/run/busy."+name))
	}
	m.Run("touch", "/run/idle")
	t.Logf("verified %d times in %s, %d times with something found, beside rounds of %s", times, time.Since(begun).Round(time.Second), wrong, strings.Join(done, ", "))
}
