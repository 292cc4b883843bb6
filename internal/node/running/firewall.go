package running

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// checkRules compares the kernel's rules for packets with those of the configuration.
func (m *Machine) checkRules(ctx context.Context, l *look) error {
	whole, err := m.expectedWhole(ctx)
	if err != nil {
		return err
	}
	want := *whole.Firewall
	got, err := m.Rules(ctx, !m.lacksNetfilter())
	if err != nil {
		return err
	}
	if want.Backend == expected.IptablesLegacy {
		l.notSeen = append(l.notSeen, "the rules of the firewall, which uses iptables-legacy")
		want.Tables = nil // what others add to nf_tables is none of them
	}
	l.compareRules(&want, got)
	if len(got.Legacy) > 0 && want.Backend != expected.IptablesLegacy {
		l.notSeen = append(l.notSeen, "the rules of iptables-legacy in "+strings.Join(got.Legacy, ", "))
	}
	return nil
}

// netfilterModule is the part of the kernel that has the rules.
const netfilterModule = "nf_tables"

// lacksNetfilter reports whether the kernel has no rules because the module for them is not
// loaded. Asking the kernel for its rules would load it.
func (m *Machine) lacksNetfilter() bool {
	loaded, err := hostfile.ReadSmall(proc+"/modules", maxModules)
	if err != nil || strings.Contains("\n"+string(loaded), "\n"+netfilterModule+" ") {
		return false
	}
	release, err := hostfile.ReadSmall(proc+"/sys/kernel/osrelease", 100)
	if err != nil {
		return false
	}
	has, err := m.modulesOf(moduleTree(string(release)))
	return err == nil && has[netfilterModule] // and is not built into the kernel
}

// ruleOf returns a finding about a table.
func ruleOf(t *expected.Table, field, want, got string) report.Finding {
	return report.Finding{Cause: report.FirewallAltered, Path: "table " + t.Family + " " + t.Name, Field: field, Want: want, Got: got}
}

// maxRule limits the part of a rule in the field of a finding, in bytes.
const maxRule = 300

// named returns the field of a finding about a rule of a chain.
func named(chain, rule string) string {
	return "chain " + chain + ": " + excerpt.Of(rule, maxRule)
}

func (l *look) compareRules(want *expected.Firewall, got *Ruleset) {
	unread, filled := 0, 0 // rules and sets that may be those of commands that nobody here reads
	for i := range want.Tables {
		t := &want.Tables[i]
		at := slices.IndexFunc(got.Tables, func(g RuleTable) bool { return g.Family == t.Family && g.Name == t.Name })
		if at < 0 {
			l.find(ruleOf(t, "", "a table of the configuration", "nothing"))
			continue
		}
		unread += l.compareTable(t, &got.Tables[at], want.Partly)
		for name := range got.Tables[at].Filled {
			if !slices.Contains(t.EmptySets, name) {
				filled++
			}
		}
	}
	for i := range got.Tables {
		t := &got.Tables[i]
		if slices.ContainsFunc(want.Tables, func(w expected.Table) bool { return w.Family == t.Family && w.Name == t.Name }) {
			continue
		}
		l.checked++
		rules, drops := 0, 0
		for _, c := range t.Chains {
			if rules += len(c.Rules); c.Policy == "drop" {
				drops++
			}
		}
		switch {
		case rules+drops == 0 || t.Dormant:
		case want.Partly:
			unread += rules
		default:
			l.find(ruleOf(&t.Table, "", "the tables of the configuration", fmt.Sprintf("%s in %s", report.Quantity(rules, "rule"), report.Quantity(len(t.Chains), "chain"))))
		}
	}
	if unread > 0 {
		l.notSeen = append(l.notSeen, fmt.Sprintf("%d rules of the firewall that commands of the configuration may have made", unread))
	}
	if filled > 0 {
		l.notSeen = append(l.notSeen, fmt.Sprintf("the elements of %d sets of the firewall", filled))
	}
}

// compareTable compares a table with the kernel's. It returns the number of the kernel's
// rules that are not among the readable ones of the configuration.
func (l *look) compareTable(want *expected.Table, got *RuleTable, partly bool) (unread int) {
	if got.Dormant {
		l.find(ruleOf(want, "flags", "a table that is in effect", "dormant"))
	}
	for i := range want.Chains {
		w := &want.Chains[i]
		g := got.Chain(w.Name)
		l.checked += 1 + len(w.Rules)
		if g == nil {
			l.find(ruleOf(want, "chain "+w.Name, "a chain of the configuration", "nothing"))
			continue
		}
		if g.Hook != w.Hook || g.Policy != w.Policy {
			l.find(ruleOf(want, "chain "+w.Name, hooked(w), hooked(g)))
		}
		unread += l.compareChain(want, w, g, partly)
	}
	for i := range got.Chains {
		g := &got.Chains[i]
		if want.Chain(g.Name) != nil {
			continue
		}
		if partly {
			unread += len(g.Rules)
			continue
		}
		if g.Policy == "drop" {
			l.find(ruleOf(want, "chain "+g.Name, "the chains of the configuration", hooked(g)))
		}
		l.compareChain(want, &expected.Chain{Name: g.Name}, g, false)
	}
	for _, name := range want.EmptySets {
		if first := got.Filled[name]; first != "" {
			l.find(ruleOf(want, "set "+name, "no element", first))
		}
	}
	return unread
}

// hooked describes where the kernel enters a chain.
func hooked(c *expected.Chain) string {
	if c.Hook == "" {
		return "entered only by rules"
	}
	return "hook " + c.Hook + ", policy " + c.Policy
}

// compareChain compares the rules of a chain with the kernel's. It returns the number of the
// kernel's rules that are not among the readable ones of the configuration.
func (l *look) compareChain(t *expected.Table, want, got *expected.Chain, partly bool) (unread int) {
	missing := map[string]int{} // how many of each rule
	for _, rule := range want.Rules {
		missing[rule]++
	}
	var more, fewer []string
	for _, rule := range got.Rules {
		if missing[rule] == 0 {
			more = append(more, rule)
		} else {
			missing[rule]--
		}
	}
	for _, rule := range want.Rules {
		if missing[rule] > 0 {
			missing[rule]--
			fewer = append(fewer, rule)
		}
	}
	for _, rule := range fewer {
		l.find(ruleOf(t, named(want.Name, rule), "a rule of the configuration", "nothing"))
	}
	switch {
	case partly:
		return len(more)
	case want.Unclear > 0 && len(more) <= want.Unclear:
		return len(more)
	}
	for _, rule := range more {
		l.find(ruleOf(t, named(want.Name, rule), "the rules of the configuration", "an additional rule"))
	}
	if len(more)+len(fewer) == 0 && !slices.Equal(want.Rules, got.Rules) {
		l.find(ruleOf(t, "chain "+want.Name, "the rules in their order", "in another order"))
	}
	return 0
}
