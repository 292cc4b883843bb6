package endtoend

import (
	"os"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// startFirewall returns a runner whose release has a firewall, which a command of shell
// has put into effect, and what a test of it may run to do that again.
func startFirewall(t *testing.T, file, unit, command string) (m *machine, again string) {
	t.Helper()
	text, err := os.ReadFile("../../expected/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	m = startConfigured(t, testhost.Configured{Firewall: string(text), FirewallUnit: unit}, "nftables", "iptables")
	again = "mkdir -p /var/lib/nftables; touch /var/lib/nftables/deletions.nft; nft flush ruleset; " +
		command + " $(sed -n 's/^ExecStart=//p' /etc/static/systemd/system/" + unit + ")"
	m.askMachine("firewall")
	a := m.changed()
	if a.Verdict != "drifted" || !strings.HasPrefix(strings.Join(a.causes(), " "), "firewall-altered table i") {
		t.Errorf("before it is there: %s, %v", a.Verdict, a.causes())
	}
	m.Run("sh", "-euc", again)
	m.changed().expect(t, "verified", 0)
	return m, again
}

// plant makes changes of a firewall, one after the other.
func (m *machine) plant(t *testing.T, again string, changes []planted) {
	t.Helper()
	for _, p := range changes {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", p.do)
			for i, cause := range p.causes {
				p.causes[i] = "firewall-altered table " + cause
			}
			m.changed().expect(t, "drifted", 1, p.causes...)
			m.Run("sh", "-euc", again)
		})
	}
	m.changed().expect(t, "verified", 0)
}

// TestMachineNftables: the rules of NixOS's firewall, as nftables has them, and what an
// intruder makes of them.
func TestMachineNftables(t *testing.T) {
	t.Parallel()
	m, again := startFirewall(t, "nftables-rules", "nftables.service", "nft -f")
	m.plant(t, again, []planted{
		{"no rule", "nft flush ruleset", "", []string{"inet nixos-fw", "ip nixos-nat"}},
		{"a port", "nft add rule inet nixos-fw input-allow tcp dport 4444 accept", "", []string{"inet nixos-fw chain input-allow: tcp dport 4444 accept"}},
		{"a port of an interface", "nft add rule inet nixos-fw input-allow iifname eth0 udp dport 4444-4445 accept", "", []string{"inet nixos-fw chain input-allow: iifname eth0 udp dport 4444-4445 accept"}},
		{"another port", "nft replace rule inet nixos-fw input-allow handle $(nft -a list chain inet nixos-fw input-allow | sed -n 's/.*tcp dport 22 .*handle //p') tcp dport 4444 accept", "", []string{"inet nixos-fw chain input-allow: tcp dport 22 accept", "inet nixos-fw chain input-allow: tcp dport 4444 accept"}},
		{"all packets", "nft insert rule inet nixos-fw input accept", "", []string{"inet nixos-fw chain input: accept"}},
		{"all packets by another name", "nft insert rule inet nixos-fw input meta length 0-65535 accept", "", []string{"inet nixos-fw chain input: under conditions accept"}},
		{"the policy", "nft chain inet nixos-fw input '{ policy accept; }'", "", []string{"inet nixos-fw chain input"}},
		{"a rule less", "nft delete rule inet nixos-fw input handle $(nft -a list chain inet nixos-fw input | sed -n 's/^[[:space:]]*reject.*handle //p')", "", []string{"inet nixos-fw chain input: reject"}},
		{"a chain emptied", "nft flush chain inet nixos-fw rpfilter", "", []string{"inet nixos-fw chain rpfilter: udp under conditions accept", "inet nixos-fw chain rpfilter: under conditions accept", "inet nixos-fw chain rpfilter: jump rpfilter-allow"}},
		{"a new connection taken for an old one", "nft replace rule inet nixos-fw input handle $(nft -a list chain inet nixos-fw input | sed -n 's/.*ct state vmap.*handle //p') ct state vmap '{ invalid : drop, established : accept, related : accept, new : accept, untracked : jump input-allow }'", "", []string{
			"inet nixos-fw chain input: by state {established: accept, invalid: drop, new: accept, related: accept, untracked: jump input-allow}",
			"inet nixos-fw chain input: by state {established: accept, invalid: drop, new: jump input-allow, related: accept, untracked: jump input-allow}",
		}},
		{"a port for a while", "nft add element inet nixos-fw temp-ports '{ tcp . 4444 }'", "", []string{"inet nixos-fw set temp-ports"}},
		{"any port in a set of ports", "nft replace rule inet nixos-fw input-allow handle $(nft -a list chain inet nixos-fw input-allow | sed -n 's/.*tcp dport 22 .*handle //p') tcp dport '{ 22, * }' accept", "", []string{
			"inet nixos-fw chain input-allow: tcp dport 22 accept", "inet nixos-fw chain input-allow: tcp under conditions accept",
		}},
		{"a port led to another machine", "nft replace rule ip nixos-nat pre handle $(nft -a list chain ip nixos-nat pre | sed -n 's/.*dport 2222 .*handle //p') iifname eth9 tcp dport 2222 dnat to 192.0.2.66:22", "", []string{
			"ip nixos-nat chain pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.66:22", "ip nixos-nat chain pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.9:22",
		}},
		{"another port of it", "nft replace rule ip nixos-nat pre handle $(nft -a list chain ip nixos-nat pre | sed -n 's/.*dport 2222 .*handle //p') iifname eth9 tcp dport 2222 dnat to 192.0.2.9:23", "", []string{
			"ip nixos-nat chain pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.9:22", "ip nixos-nat chain pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.9:23",
		}},
		{"one of a map", "nft replace rule ip nixos-nat pre handle $(nft -a list chain ip nixos-nat pre | sed -n 's/.*tcp . 2223 .*handle //p') iifname eth9 dnat meta l4proto . th dport map '{ tcp . 2223 : 192.0.2.66 . 22, udp . 53 : 192.0.2.10 . 5353 }'", "", []string{
			"ip nixos-nat chain pre: iifname eth9 dnat by {tcp . 2223: 192.0.2.66 . 22, udp . 53: 192.0.2.10 . 5353}", "ip nixos-nat chain pre: iifname eth9 dnat by {tcp . 2223: 192.0.2.9 . 22, udp . 53: 192.0.2.10 . 5353}",
		}},
		{"another network", "nft replace rule inet nixos-fw input-allow handle $(nft -a list chain inet nixos-fw input-allow | sed -n 's/.*dport 9100 .*handle //p') ip saddr 0.0.0.0/1 tcp dport 9100 accept", "", []string{
			"inet nixos-fw chain input-allow: saddr 0.0.0.0-127.255.255.255 tcp dport 9100 under conditions accept", "inet nixos-fw chain input-allow: saddr 192.0.2.0-192.0.2.255 tcp dport 9100 under conditions accept",
		}},
		{"asleep", "nft add table inet nixos-fw '{ flags dormant; }'", "", []string{"inet nixos-fw flags"}},
		{"another order", "h=$(nft -a list chain inet nixos-fw input | sed -n 's/^[[:space:]]*reject.*handle //p'); nft delete rule inet nixos-fw input handle $h; nft insert rule inet nixos-fw input reject", "", []string{"inet nixos-fw chain input"}},
		{"a chain more", "nft add chain inet nixos-fw more '{ type nat hook prerouting priority dstnat; }'; nft add rule inet nixos-fw more tcp dport 4444 redirect to :22", "", []string{"inet nixos-fw chain more: tcp dport 4444 redirect to :22"}},
		{"a table more", "nft add table ip6 more; nft add chain ip6 more raw '{ type filter hook prerouting priority raw; }'; nft add rule ip6 more raw notrack", "", []string{"ip6 more"}},
	})
	// An empty table does nothing; so iptables makes some where it lists rules.
	m.Run("nft", "add", "table", "inet", "empty")
	m.changed().expect(t, "verified", 0)

	// Who can't see the rules says so.
	for _, without := range [][]string{{"setpriv", "--bounding-set=-net_admin"}, {"unshare", "--net"}} {
		a := m.report(append(without, program, "--against", tag, "--release", releases, "--unsafe-unsigned", "--output", "json",
			"--config", machineConfig, "--unsafe-skip", "source,eval,live,contents")...)
		a.expect(t, "inconclusive", 4, "machine-unseen part firewall")
	}
}

// TestMachineIptables: the same of NixOS's firewall by iptables, whose rules the kernel
// keeps in the same tables.
func TestMachineIptables(t *testing.T) {
	t.Parallel()
	m, again := startFirewall(t, "firewall-start", "firewall.service", "bash -e")
	m.plant(t, again, []planted{
		{"not entered", "iptables -D INPUT -j nixos-fw", "", []string{"ip filter chain INPUT: jump nixos-fw"}},
		{"all packets", "ip6tables -I INPUT -j ACCEPT", "", []string{"ip6 filter chain INPUT: accept"}},
		{"a port", "iptables -I nixos-fw -p tcp --dport 4444 -j nixos-fw-accept", "", []string{"ip filter chain nixos-fw: tcp dport 4444 jump nixos-fw-accept"}},
		{"ports", "iptables -I nixos-fw -p udp --dport 4444:4445 -i eth0 -j ACCEPT", "", []string{"ip filter chain nixos-fw: iifname eth0 udp dport 4444-4445 accept"}},
		{"a port led to another", "iptables -t nat -A PREROUTING -p tcp --dport 4444 -j REDIRECT --to-ports 22", "", []string{"ip nat chain PREROUTING: tcp dport 4444 redirect to :22"}},
		{"a port led to another machine", "iptables -t nat -R nixos-nat-pre 1 -i eth9 -p tcp --dport 2222 -j DNAT --to-destination 192.0.2.66:22", "", []string{
			"ip nat chain nixos-nat-pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.66:22", "ip nat chain nixos-nat-pre: iifname eth9 tcp dport 2222 dnat to 192.0.2.9:22",
		}},
		{"another network", "iptables -t nat -R nixos-nat-post 2 -s 10.0.0.0/9 -o eth9 -j SNAT --to-source 192.0.2.2", "", []string{
			"ip nat chain nixos-nat-post: oifname eth9 saddr 10.0.0.0-10.127.255.255 snat to 192.0.2.2", "ip nat chain nixos-nat-post: oifname eth9 saddr 10.0.0.0-10.255.255.255 snat to 192.0.2.2",
		}},
		{"nothing refused", "iptables -R nixos-fw-refuse 2 -j ACCEPT", "", []string{"ip filter chain nixos-fw-refuse: accept", "ip filter chain nixos-fw-refuse: reject"}},
		{"connections not known", "iptables -t raw -A PREROUTING -p tcp -j NOTRACK", "", []string{"ip raw"}},
		{"no rule", "nft flush ruleset", "", []string{"ip filter", "ip mangle", "ip nat", "ip6 filter", "ip6 mangle"}},
	})
	m.Run("iptables", "-L")
	m.changed().expect(t, "verified", 0)
}
