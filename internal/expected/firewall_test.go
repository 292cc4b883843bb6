package expected

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines is f as a text, in which what differs is seen.
func (f *Firewall) lines() string {
	var b strings.Builder
	b.WriteString(f.Backend + "\n")
	if f.Partly {
		b.WriteString("and more\n")
	}
	for _, t := range f.Tables {
		b.WriteString(t.Family + " " + t.Name + "\n")
		for _, c := range t.Chains {
			b.WriteString(strings.TrimRight("  "+c.Name+" "+c.Hook+" "+c.Policy, " ") + "\n")
			for _, rule := range c.Rules {
				b.WriteString("    " + rule + "\n")
			}
			if c.Unclear > 0 {
				b.WriteString("    " + strings.Repeat("?", c.Unclear) + "\n")
			}
		}
		for _, name := range t.EmptySets {
			b.WriteString("  set " + name + "\n")
		}
	}
	return b.String()
}

// firewall returns what is read of a system with the units and files of a firewall.
func (d disk) firewall(unit, program, script string) *Firewall {
	d.t.Helper()
	top, tree, units, made := object("a", "nixos-system"), string(object("b", "etc"))+"/etc", string(object("c", "system-units")), object("d", "unit")
	rules := object("h", "rules")
	d.link(string(top)+"/etc", tree)
	d.link(tree+"/systemd/system", units)
	program = string(rules) + program
	d.write(string(made)+"/"+unit, "[Service]\nEnvironment=\"PATH="+string(rules)+"/bin:"+string(rules)+"/sbin\"\nExecStart=@"+program+" x\n")
	d.link(units+"/"+unit, string(made)+"/"+unit)
	d.link(units+"/multi-user.target.wants/"+unit, "../"+unit)
	d.write(program, script)
	m, err := d.read(top, rules)
	if err != nil {
		d.t.Fatal(err)
	}
	return m.Firewall
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestNftables(t *testing.T) {
	const both = `by state {established: accept, invalid: drop, new: jump input-allow, related: accept, untracked: jump input-allow}`
	want := `nftables
inet nixos-fw
  forward forward drop
    ` + strings.ReplaceAll(both, "input", "forward") + `
  forward-allow
    under conditions accept
    iifname ve-* accept
    iifname lan0,vb-* accept
    icmpv6 under conditions accept
  input input drop
    iifname lo accept
    ` + both + `
    tcp under conditions continue
    under conditions continue
    under conditions continue
    tcp reject
    reject
  input-allow
    tcp dport 22 accept
    udp dport 5353,60000-61000 accept
    iifname eth9 tcp dport 80,443,8000-8010 accept
    @temp-ports accept
    icmp under conditions accept
    icmpv6 under conditions accept
    daddr fe80::-fe80::ffff:ffff:ffff:ffff udp dport 546 under conditions accept
    saddr 192.0.2.0-192.0.2.255 tcp dport 9100 under conditions accept
  rpfilter prerouting drop
    udp under conditions accept
    under conditions accept
    jump rpfilter-allow
  rpfilter-allow
  set temp-ports
ip nixos-nat
  post postrouting accept
    iifname eth8 oifname eth9 masquerade
    oifname eth9 saddr 10.0.0.0-10.255.255.255 snat to 192.0.2.2
    under conditions masquerade
  pre prerouting accept
    iifname eth9 tcp dport 2222 dnat to 192.0.2.9:22
    iifname eth9 dnat by {tcp . 2223: 192.0.2.9 . 22, udp . 53: 192.0.2.10 . 5353}
    iifname eth9 dnat by a map
    dnat by {daddr 198.51.100.7 . tcp . 80: 192.0.2.9 . 8080}
    iifname eth9 dnat to 192.0.2.99
    daddr 192.0.2.1-192.0.2.3,198.51.100.0-198.51.100.127 udp sport 1024-65535 redirect to :5353
`
	got := disk{t, t.TempDir()}.firewall("nftables.service", "", testdata(t, "nftables-rules"))
	if diff := cmp.Diff(want, got.lines()); diff != "" {
		t.Error(diff)
	}
}

// What is not understood is counted, and no rule is made up.
func TestNftablesUnclear(t *testing.T) {
	const head = "#! /nix/store/x/bin/nft -f\n"
	for _, test := range []struct{ text, want string }{
		{"table t { chain c { tcp dport ssh accept; accept } }", "nftables\nip t\n  c\n    accept\n    ?\n"},
		{"define p = 22\ntable t { chain c { tcp dport $p accept\n } }", "nftables\nip t\n  c\n    ?\n"},
		{"table t { chain c { tcp dport vmap { 22 : accept }\n } }", "nftables\nip t\n  c\n    ?\n"},
		{"add rule t c accept", "nftables\nand more\n"},
		{"include \"/etc/rules.nft\"", "nftables\nand more\n"},
		{"flush ruleset\n\ntable inet t {\n set s { type inet_service; elements = { 22 } }\n set e { type inet_service; }\n chain c { tcp dport @s accept } }", "nftables\ninet t\n  c\n    tcp @s accept\n  set e\n"},
		{"table t { chain c { type filter hook input priority 0; iifname != \"lo\" drop; tcp dport != 22 accept; ip protocol udp accept } }", "nftables\nip t\n  c input accept\n    under conditions drop\n    tcp under conditions accept\n    udp accept\n"},
		{"table t { chain c { tcp dport {22,23,80-90,85-95} goto d # why\n counter packets 1 bytes 2 log prefix \"a b\" drop } }", "nftables\nip t\n  c\n    tcp dport 22-23,80-95 goto d\n    drop\n"},
		{"table t { chain c { udp dport 53 notrack accept; tcp dport 80 tproxy to :8080 accept; notrack\n } }", "nftables\nip t\n  c\n    udp dport 53 notrack accept\n    tcp dport 80 tproxy to :8080 accept\n    notrack\n"},
		{"table inet t { chain c { ip6 nexthdr icmpv6 icmpv6 type echo-request accept; ip protocol tcp accept\n } }", "nftables\ninet t\n  c\n    icmpv6 under conditions accept\n    tcp under conditions accept\n"},
		{"table t { chain c { ip saddr != 10.0.0.0/8 accept; ip saddr @s drop; ip daddr { 10.0.0.1-10.0.0.9, 10.0.0.10 } oifname @w accept; oifname != \"lo\" drop } }", "nftables\nip t\n  c\n    under conditions accept\n    @s drop\n    daddr 10.0.0.1-10.0.0.10 @w accept\n    under conditions drop\n"},
		{"table t { chain c { ip saddr host accept; ip saddr & 255.0.0.0 == 10.0.0.0 accept; dnat to $x; dnat to 10.0.0.1 : 22; dnat to tcp dport map { 22 : 10.0.0.1 }; dnat to tcp dport map @m; dnat to tcp dport map { ssh : 10.0.0.1 } } }", "nftables\nip t\n  c\n    tcp dnat by {22: 10.0.0.1}\n    tcp dnat by a map\n    ?????\n"},
		{"table inet t { chain c { dnat ip6 to [2001:db8::1]:80-90 random,persistent; snat ip to 10.0.0.1-10.0.0.9; masquerade to :1024-2000 fully-random; redirect } }", "nftables\ninet t\n  c\n    dnat to [2001:db8::1]:80-90\n    snat to 10.0.0.1-10.0.0.9\n    masquerade to :1024-2000\n    redirect\n"},
		{"table", "nftables\n"}, {"table t {", "nftables\nip t\n"}, {"table t { chain c {", "nftables\nip t\n  c\n"}, {"\"", "nftables\nand more\n"},
	} {
		got := disk{t, t.TempDir()}.firewall("nftables.service", "", head+test.text)
		if diff := cmp.Diff(test.want, got.lines()); diff != "" {
			t.Errorf("%s\n%s", test.text, diff)
		}
	}
}

func TestIptables(t *testing.T) {
	chains := func(pings string) string {
		return `  INPUT input accept
    jump nixos-fw
  nixos-fw
    iifname lo jump nixos-fw-accept
    iifname ve-* udp dport 67 jump nixos-fw-accept
    under conditions jump nixos-fw-accept
    tcp dport 22 jump nixos-fw-accept
    iifname eth9 tcp dport 80 jump nixos-fw-accept
    tcp dport 8000-8010 jump nixos-fw-accept
    udp dport 5353 jump nixos-fw-accept
    udp dport 60000-61000 jump nixos-fw-accept
` + pings + `    jump nixos-fw-log-refuse
  nixos-fw-accept
    accept
  nixos-fw-log-refuse
    tcp under conditions continue
    under conditions continue
    under conditions jump nixos-fw-refuse
    continue
    jump nixos-fw-refuse
  nixos-fw-refuse
    tcp under conditions reject
    reject
`
	}
	mangle := func(dhcp string) string {
		return "  PREROUTING prerouting accept\n    jump nixos-fw-rpfilter\n  nixos-fw-rpfilter\n    under conditions return\n" + dhcp + "    drop\n"
	}
	want := "iptables\nip filter\n" + chains("    icmp under conditions jump nixos-fw-accept\n") +
		"ip mangle\n" + mangle("    udp sport 67 dport 68 return\n    saddr 0.0.0.0 daddr 255.255.255.255 udp sport 68 dport 67 return\n") +
		"ip nat\n  POSTROUTING postrouting accept\n    jump nixos-nat-post\n  PREROUTING prerouting accept\n    jump nixos-nat-pre\n" +
		"  nixos-nat-post\n    oifname eth9 under conditions masquerade\n    oifname eth9 saddr 10.0.0.0-10.255.255.255 snat to 192.0.2.2\n    oifname eth9 saddr 192.0.2.128-192.0.2.255 snat to 192.0.2.2\n" +
		"  nixos-nat-pre\n    iifname eth9 tcp dport 2222 dnat to 192.0.2.9:22\n    udp dport 53 redirect to :5353\n" +
		"ip6 filter\n" + chains("    icmpv6 under conditions drop\n    icmpv6 under conditions drop\n    icmpv6 jump nixos-fw-accept\n    daddr fe80::-fe80::ffff:ffff:ffff:ffff udp dport 546 jump nixos-fw-accept\n") +
		"ip6 mangle\n" + mangle("")
	d := disk{t, t.TempDir()}
	got := d.firewall("firewall.service", "/bin/firewall-start", testdata(t, "firewall-start"))
	if diff := cmp.Diff(want, got.lines()); diff != "" {
		t.Error(diff)
	}
	d = disk{t, t.TempDir()}
	d.link(string(object("h", "rules"))+"/sbin/iptables", "xtables-legacy-multi")
	if got := d.firewall("firewall.service", "/bin/firewall-start", testdata(t, "firewall-start")); got.Backend != IptablesLegacy {
		t.Errorf("of the older iptables: %s", got.Backend)
	}
}

func TestIptablesUnclear(t *testing.T) {
	const rest = "iptables -A INPUT -j ACCEPT\n"
	for _, test := range []struct{ text, want string }{
		{"for i in a b; do\n  iptables -A INPUT -i $i -j ACCEPT\ndone\n" + rest, "and more\nip filter\n  INPUT input accept\n    accept\n"},
		{"if true; then iptables -F INPUT; fi\n" + rest, "and more\n"},
		{"iptables -A INPUT -s $(cat /run/x) -j ACCEPT\n", "and more\n"},
		{"ipset create x hash:ip\n", "and more\n"},
		{"iptables -A INPUT -j ACCEPT; iptables -F\n", "and more\n"},
		{"iptables -P INPUT DROP\niptables -I INPUT -p tcp -m multiport --dports 1,2 -j ACCEPT\niptables -I INPUT 2 ! -i lo -j drop-it\n", "ip filter\n  INPUT input drop\n    tcp under conditions accept\n    under conditions jump drop-it\n"},
		{"iptables -A INPUT -s host -j ACCEPT\niptables -A INPUT -p tcp --dport ssh -j ACCEPT\niptables -A INPUT -s 0.0.0.0/0 -d 10.0.0.0/255.0.0.0 -j ACCEPT\niptables -A INPUT ! -s 10.0.0.1 -j DROP\n", "ip filter\n  INPUT input accept\n    daddr 10.0.0.0-10.255.255.255 accept\n    under conditions drop\n    ??\n"},
		{"iptables -t nat -A PREROUTING -j DNAT --to 10.0.0.1-10.0.0.3:80-90/8000\nip6tables -t nat -A PREROUTING -p tcp -j DNAT --to-destination '[2001:db8::1]:80'\nip6tables -t nat -A PREROUTING -j DNAT --to-destination 2001:db8::1\niptables -t nat -A OUTPUT -j REDIRECT --to-ports 22\n",
			"ip nat\n  OUTPUT output accept\n    redirect to :22\n  PREROUTING prerouting accept\n    dnat to 10.0.0.1-10.0.0.3:80-90\nip6 nat\n  PREROUTING prerouting accept\n    tcp dnat to [2001:db8::1]:80\n    dnat to 2001:db8::1\n"},
		{"iptables -I INPUT 3 -j ACCEPT\n", "and more\nip filter\n  INPUT input accept\n"},
	} {
		got := disk{t, t.TempDir()}.firewall("firewall.service", "/bin/firewall-start", "#!/bin/sh\n"+test.text)
		if diff := cmp.Diff("iptables\n"+test.want, got.lines()); diff != "" {
			t.Errorf("%s\n%s", test.text, diff)
		}
	}
}

// A unit of the firewall that starts something else has rules that nobody here reads.
func TestFirewallUnknown(t *testing.T) {
	if got := (disk{t, t.TempDir()}).firewall("firewall.service", "/bin/other", "#!/bin/sh\n"); got.lines() != "none\nand more\n" {
		t.Error(got.lines())
	}
}

func FuzzNftables(f *testing.F) {
	f.Add("table inet t { chain c { type filter hook input priority 0; policy drop; tcp dport { 22, 80-90 } accept; } }")
	f.Add(`table t { set s { elements = { "a" } } chain c { meta l4proto . th dport @s accept; ct state vmap { new : drop } } }`)
	f.Fuzz(func(t *testing.T, text string) {
		fw := &Firewall{Backend: Nftables}
		if err := new(reader).readNft(fw, text, nil, maxIncludes); err != nil {
			t.Error(err)
		}
		readIptables(fw, text)
	})
}
