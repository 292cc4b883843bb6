package running

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/report"
)

// protect gives the accepted system a firewall.
func (h *host) protect(rules string) {
	h.t.Helper()
	unit := string(shell) + "/lib/nftables.service"
	h.write(string(shell)+"/lib/rules", "#! /bin/nft -f\n"+rules, 0o555)
	h.write(unit, "[Service]\nExecStart="+string(shell)+"/lib/rules\n", 0o444)
	h.link(string(shell)+"/nftables.service", unit)
	h.link(string(shell)+"/multi-user.target.wants/nftables.service", unit)
}

// kernelRules are rules as the kernel would give them.
func kernelRules(tables ...RuleTable) func(context.Context, bool) (*Ruleset, error) {
	return func(context.Context, bool) (*Ruleset, error) { return &Ruleset{Tables: tables}, nil }
}

func tableOf(name string, chains ...expected.Chain) RuleTable {
	return RuleTable{Table: expected.Table{Family: "inet", Name: name, Chains: chains}, Filled: map[string]string{}}
}

func TestFirewall(t *testing.T) {
	const rules = "table inet fw {\n set s { type inet_service; }\n chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; jump more }\n chain more { udp dport 53 accept; } }\n"
	input := expected.Chain{Name: "input", Hook: "input", Policy: "drop", Rules: []string{"tcp dport 22 accept", "jump more"}}
	more := expected.Chain{Name: "more", Rules: []string{"udp dport 53 accept"}}
	with := func(c expected.Chain, rules ...string) expected.Chain {
		c.Rules = rules
		return c
	}
	fine := tableOf("fw", input, more)
	long := strings.Repeat("x", 2*maxRule)
	open := input
	open.Policy = "accept"
	asleep, filled := fine, fine
	asleep.Dormant = true
	filled.Filled = map[string]string{"s": "1 elements", "other": "1 elements"}
	for _, test := range []struct {
		name   string
		rules  string
		tables []RuleTable
		want   []string
	}{
		{"as it should be", rules, []RuleTable{fine}, nil},
		{"none", "", nil, nil},
		{"flushed", rules, nil, []string{"firewall-altered table inet fw"}},
		{"asleep", rules, []RuleTable{asleep}, []string{"firewall-altered table inet fw:flags"}},
		{"a set filled", rules, []RuleTable{filled}, []string{"firewall-altered table inet fw:set s"}},
		{"a policy", rules, []RuleTable{tableOf("fw", open, more)}, []string{"firewall-altered table inet fw:chain input"}},
		{"a chain less", rules, []RuleTable{tableOf("fw", input)}, []string{"firewall-altered table inet fw:chain more"}},
		{"an additional rule", rules, []RuleTable{tableOf("fw", with(input, "accept", "tcp dport 22 accept", "jump more"), more)}, []string{"firewall-altered table inet fw:chain input: accept"}},
		{"one more of the same", rules, []RuleTable{tableOf("fw", input, with(more, "udp dport 53 accept", "udp dport 53 accept"))}, []string{"firewall-altered table inet fw:chain more: udp dport 53 accept"}},
		{"a rule less", rules, []RuleTable{tableOf("fw", with(input, "jump more"), more)}, []string{"firewall-altered table inet fw:chain input: tcp dport 22 accept"}},
		{"another order", rules, []RuleTable{tableOf("fw", with(input, "jump more", "tcp dport 22 accept"), more)}, []string{"firewall-altered table inet fw:chain input"}},
		{"a long rule", rules, []RuleTable{tableOf("fw", input, with(more, "udp dport 53 accept", long))}, []string{"firewall-altered table inet fw:chain more: " + long[:maxRule] + "…"}},
		{"a chain more", rules, []RuleTable{tableOf("fw", input, more, expected.Chain{Name: "x", Hook: "output", Policy: "drop", Rules: []string{"accept"}})}, []string{
			"firewall-altered table inet fw:chain x", "firewall-altered table inet fw:chain x: accept",
		}},
		{"a chain more without a rule", rules, []RuleTable{tableOf("fw", input, more, expected.Chain{Name: "x", Hook: "output", Policy: "accept"})}, nil},
		{"a table more", rules, []RuleTable{fine, tableOf("x", more)}, []string{"firewall-altered table inet x"}},
		{"a table more that drops", "", []RuleTable{tableOf("x", expected.Chain{Name: "i", Hook: "input", Policy: "drop"})}, []string{"firewall-altered table inet x"}},
		{"a table more without a rule", rules, []RuleTable{fine, tableOf("x", expected.Chain{Name: "i", Hook: "input", Policy: "accept"})}, nil},
		{"commands beside it", rules + "add table inet x\n", []RuleTable{tableOf("fw", with(input, "accept", "tcp dport 22 accept"), more), tableOf("x", more)}, []string{"firewall-altered table inet fw:chain input: jump more"}},
		{"a rule that is not clear", "table inet fw { chain more { udp dport 53 accept; tcp dport ssh accept } }", []RuleTable{tableOf("fw", with(more, "udp dport 53 accept", "tcp dport 22 accept"))}, nil},
		{"two in the place of one that is not clear", "table inet fw { chain more { tcp dport ssh accept } }", []RuleTable{tableOf("fw", with(more, "accept", "tcp dport 22 accept"))}, []string{
			"firewall-altered table inet fw:chain more: accept", "firewall-altered table inet fw:chain more: tcp dport 22 accept",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			if test.rules != "" {
				h.protect(test.rules)
			}
			h.m.Rules = kernelRules(test.tables...)
			h.expect("firewall", test.want...)
		})
	}
}

// TestFirewallAllowed: an exception for chains by the beginning of their names.
func TestFirewallAllowed(t *testing.T) {
	h := newHost(t)
	h.protect("table inet fw { chain input { accept\n } }")
	input := expected.Chain{Name: "input", Rules: []string{"accept", "jump OTHERS"}}
	h.m.Rules = kernelRules(tableOf("fw", input, expected.Chain{Name: "OTHERS-1", Rules: []string{"saddr 10.0.0.0-10.0.0.255 return", "drop"}}))
	h.m.Allow = []Exception{{Match: "table inet fw:chain OTHERS*", Cause: report.FirewallAltered, Reason: "others"}}
	l, err := h.m.Check(t.Context(), []string{"firewall"})
	h.must(err)
	if l.Excused != 2 {
		t.Errorf("%d rules are allowed", l.Excused)
	}
	h.m.Now = time.Now()
	h.expect("firewall", "firewall-altered table inet fw:chain input: jump OTHERS")
}

// What is not compared is said.
func TestFirewallNotSeen(t *testing.T) {
	notSeen := func(h *host) []string {
		t.Helper()
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == "firewall" })
		l, err := h.m.look(t.Context(), parts()[i])
		h.must(err)
		return l.notSeen
	}
	h := newHost(t)
	h.protect("add table inet x\n")
	h.m.Rules = func(context.Context, bool) (*Ruleset, error) {
		return &Ruleset{Tables: []RuleTable{tableOf("x", expected.Chain{Name: "c", Rules: []string{"accept"}})}, Legacy: []string{"ip filter"}}, nil
	}
	if got := notSeen(h); len(got) != 2 || !strings.HasPrefix(got[0], "1 rules of") || !strings.HasSuffix(got[1], "in ip filter") {
		t.Errorf("%q", got)
	}
	// The elements of a set that the configuration fills.
	h = newHost(t)
	h.protect("table inet fw { set s { type inet_service; elements = { 22 }\n } chain c { tcp dport @s accept\n } }")
	table := tableOf("fw", expected.Chain{Name: "c", Rules: []string{"tcp @s accept"}})
	table.Filled["s"] = "2 elements"
	h.m.Rules = kernelRules(table)
	if got := notSeen(h); !slices.Equal(got, []string{"the elements of 1 sets of the firewall"}) {
		t.Errorf("%q", got)
	}
	h.m.Rules = func(context.Context, bool) (*Ruleset, error) { return nil, errors.New("no") }
	h.expect("firewall", "machine-unseen part firewall")
	// A release that does not state it: it is read from the system's files.
	h = newHost(t)
	h.protect("table inet fw { chain c { accept\n } }")
	h.m.Expected = &expected.Machine{}
	h.m.Rules = kernelRules()
	h.expect("firewall", "firewall-altered table inet fw")
}

// TestFirewallLegacy: beside a firewall of the older iptables, what others add to nf_tables
// is found.
func TestFirewallLegacy(t *testing.T) {
	h := newHost(t)
	h.m.Expected = &expected.Machine{Firewall: &expected.Firewall{Backend: expected.IptablesLegacy, Tables: []expected.Table{{Family: "ip", Name: "filter"}}}}
	h.m.Rules = kernelRules(tableOf("x", expected.Chain{Name: "c", Rules: []string{"accept"}}))
	h.expect("firewall", "firewall-altered table inet x")
}

func TestPortsOf(t *testing.T) {
	key := func(port uint16, end bool) element {
		return element{key: []byte{byte(port >> 8), byte(port)}, end: end}
	}
	for _, test := range []struct {
		elements []element
		ranges   bool
		want     string
	}{
		{[]element{key(22, false), key(80, false)}, false, "dport 22,80 continue"},
		{[]element{key(0, true), key(22, false), key(23, true), key(80, false), key(91, true)}, true, "dport 22,80-90 continue"},
		{[]element{key(80, false), key(81, false), key(90, true)}, true, "dport 80-89 continue"},
		{[]element{key(60000, false)}, true, "dport 60000-65535 continue"},
		{nil, true, "continue"},
	} {
		r := expected.Rule{Ports: portsOf(test.elements, test.ranges)}
		if got := r.String(); got != test.want {
			t.Errorf("%v: got %s, want %s", test.elements, got, test.want)
		}
	}
}

func TestInterfacesOf(t *testing.T) {
	key := func(name string, last byte, end bool) element {
		k := append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
		k[unix.IFNAMSIZ-1] = last
		return element{key: k, end: end}
	}
	for _, test := range []struct {
		elements []element
		ranges   bool
		want     []string
	}{
		{[]element{key("lan0", 0, false), key("lo", 0, false)}, false, []string{"lan0", "lo"}},
		{[]element{key("", 0, true), key("lan0", 0, false), key("lan0", 1, true), key("wg", 0, false), key("wh", 0, true)}, true, []string{"lan0", "wg*"}},
		{[]element{key("lan0", 0, false), key("wg", 0, true)}, true, nil},
		{[]element{key("", 0, false), key("wg", 0, true)}, true, nil},
		{[]element{key("wg", 0, false)}, true, nil},
	} {
		if got := interfacesOf(test.elements, test.ranges); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.elements, got, test.want)
		}
	}
}

// A program may give the kernel anything that has the form of a rule.
func FuzzRule(f *testing.F) {
	f.Add("match", []byte{8, 0, 1, 0, 't', 'c', 'p', 0, 20, 0, 3, 0, 0, 0, 0xff, 0xff, 22, 0, 22, 0, 0, 0, 0, 0})
	f.Add("cmp", []byte{8, 0, 1, 0, 0, 0, 0, 1})
	f.Add("cmp", []byte{8, 0, 1, 0, 0, 0, 0, 11, 8, 0, 2, 0, 0, 0, 0, 0, 12, 0, 3, 0, 8, 0, 1, 0, 192, 0, 2, 1})
	f.Add("nat", []byte{8, 0, 1, 0, 0, 0, 0, 1, 8, 0, 3, 0, 0, 0, 0, 13, 8, 0, 5, 0, 0, 0, 0, 14})
	f.Add("target", append([]byte{9, 0, 1, 0, 'D', 'N', 'A', 'T', 0, 0, 0, 0, 28, 0, 3, 0, 1, 0, 0, 0, 3}, make([]byte, 19)...))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		has, err := readAttributes(data)
		if err != nil {
			return
		}
		r := newRuleReader(&netfilter{sets: map[string]*kernelSet{}}, unix.NFPROTO_IPV4, "t")
		r.holds = map[uint32]string{0: holdsPort, 1: holdsProtocol, 2: holdsInterface, 3: holdsAddress, 4: holdsAddress}
		r.addresses = map[uint32]loaded{3: {12, 4, 32}, 4: {8, 16, 128}}
		r.constants = map[uint32][]byte{5: {192, 0, 2, 1}, 6: {0, 22}}
		_ = r.read(name, has) // it may be wrong
		_ = r.end()
		_, _ = readElement(data)
	})
}
