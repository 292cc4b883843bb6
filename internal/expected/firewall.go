package expected

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/pkg/closure"
)

// Backends of a firewall.
const (
	NoFirewall     = "none"
	Nftables       = "nftables"
	Iptables       = "iptables"        // writes to the kernel's nf_tables
	IptablesLegacy = "iptables-legacy" // the kernel keeps these rules elsewhere
)

// FirewallForm is the form in which this program writes rules, see [Firewall.Form].
const FirewallForm = 1

// Firewall is the configuration's rules for packets.
type Firewall struct {
	Backend string `json:"backend"`
	// Form is the form of the rules. Those of another form than [FirewallForm] can't be
	// compared with the rules of this program, which have more words, or fewer.
	Form int `json:"form,omitzero"`
	// Partly says that the configuration also has commands whose rules are not included.
	Partly bool `json:"partly,omitzero"`
	// Tables are in the order of family and name.
	Tables []Table `json:"tables"`
}

// Table is a table of nf_tables.
type Table struct {
	Family string  `json:"family"` // "inet", "ip", "ip6", and so on
	Name   string  `json:"name"`
	Chains []Chain `json:"chains"` // by name
	// EmptySets are the named sets that the configuration leaves empty and to which no rule
	// adds an element.
	EmptySets []string `json:"emptySets"`
}

// Chain is a list of rules.
type Chain struct {
	Name string `json:"name"`
	// Hook is the place where the kernel enters the chain, and Policy the verdict at its
	// end. Both are empty for a chain that only rules jump to.
	Hook   string `json:"hook,omitzero"`
	Policy string `json:"policy,omitzero"`
	// Rules have the form of [Rule.String], in the order in which they apply.
	Rules []string `json:"rules"`
	// Unclear is the number of further rules, which this program can't read.
	Unclear int `json:"unclear,omitzero"`
}

// Rule has the compared parts of a rule.
type Rule struct {
	// Verdict is "accept", "drop", "jump NAME", "dnat to ADDRESS" and the like; empty for
	// a rule that leaves the packet to the next one.
	Verdict    string
	Protocol   string   // of the transport, such as "tcp"; empty for any
	Ports      []Range  // of the destination; none for any
	Sources    []Range  // ports of the source; none for any
	Interfaces []string // incoming interfaces; one may end in "*"
	Outgoing   []string // outgoing interfaces, likewise
	Sets       []string // named sets that the rule uses
	// From and To are the addresses of the source and of the destination; none for any.
	From, To []Addresses
	// Others says that there are further conditions, which are not compared.
	Others bool
}

// Range is a range of ports, including both ends.
type Range struct{ First, Last uint16 }

// String is the form in which rules are compared.
func (r *Rule) String() string {
	var words []string
	for _, side := range []struct {
		word  string
		names []string
	}{{"iifname ", r.Interfaces}, {"oifname ", r.Outgoing}} {
		if len(side.names) > 0 {
			slices.Sort(side.names)
			words = append(words, side.word+strings.Join(slices.Compact(side.names), ","))
		}
	}
	if len(r.From) > 0 {
		words = append(words, "saddr "+addresses(r.From))
	}
	if len(r.To) > 0 {
		words = append(words, "daddr "+addresses(r.To))
	}
	if r.Protocol != "" {
		words = append(words, r.Protocol)
	}
	if len(r.Sources) > 0 {
		words = append(words, "sport "+ports(r.Sources))
	}
	if len(r.Ports) > 0 {
		words = append(words, "dport "+ports(r.Ports))
	}
	slices.Sort(r.Sets)
	for _, name := range r.Sets {
		words = append(words, "@"+name)
	}
	if r.Others {
		words = append(words, "under conditions")
	}
	return strings.Join(append(words, cmp.Or(r.Verdict, "continue")), " ")
}

// Decided returns a function to be called when more of r was read. If r had a verdict
// before, and has other conditions now, the verdict says so: the kernel does not come to
// them, or they are only those of what follows.
func (r *Rule) Decided() func() {
	if r.Verdict == "" {
		return func() {}
	}
	conditions := func() string {
		c := *r
		c.Verdict = ""
		return c.String()
	}
	before, verdict := conditions(), r.Verdict
	return func() {
		if conditions() != before {
			r.Verdict = verdict + " before conditions" + strings.TrimPrefix(r.Verdict, verdict)
		}
	}
}

// ports returns ranges in a canonical form: sorted, and joined where they touch.
func ports(ranges []Range) string {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last)) })
	var merged []Range
	for _, r := range ranges {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	var out []string
	for _, r := range merged {
		s := strconv.Itoa(int(r.First))
		if r.Last != r.First {
			s += "-" + strconv.Itoa(int(r.Last))
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// protocols are the names of IP protocols, by number.
var protocols = map[uint8]string{
	1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 132: "sctp", 136: "udplite",
}

// ProtocolName returns the name of a protocol of IP, or its number.
func ProtocolName(number uint8) string {
	return cmp.Or(protocols[number], strconv.Itoa(int(number)))
}

// protocolOf is ProtocolName for a protocol's name in a configuration.
func protocolOf(word string) string {
	switch word = strings.ToLower(word); word {
	case "ipv6-icmp", "icmp6":
		return "icmpv6"
	}
	if number, err := strconv.ParseUint(word, 10, 8); err == nil {
		return ProtocolName(uint8(number))
	}
	return word
}

// rangeOf reads "22", "80-90" or, with another separator, "80:90".
func rangeOf(word, separator string) (Range, bool) {
	first, last, isRange := strings.Cut(word, separator)
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	return Range{uint16(a), uint16(b)}, err == nil && err2 == nil && a <= b
}

// table returns a table of f, and adds it if it is missing.
func (f *Firewall) table(family, name string) *Table {
	for i := range f.Tables {
		if t := &f.Tables[i]; t.Family == family && t.Name == name {
			return t
		}
	}
	f.Tables = append(f.Tables, Table{Family: family, Name: name, Chains: []Chain{}, EmptySets: []string{}})
	return &f.Tables[len(f.Tables)-1]
}

// Chain returns a chain of t; nil for none.
func (t *Table) Chain(name string) *Chain {
	for i := range t.Chains {
		if t.Chains[i].Name == name {
			return &t.Chains[i]
		}
	}
	return nil
}

// chain returns a chain of t, and adds it if it is missing.
func (t *Table) chain(name string) *Chain {
	if c := t.Chain(name); c != nil {
		return c
	}
	t.Chains = append(t.Chains, Chain{Name: name, Rules: []string{}})
	return &t.Chains[len(t.Chains)-1]
}

// sort brings f into its canonical order.
func (f *Firewall) sort() {
	slices.SortFunc(f.Tables, func(a, b Table) int { return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Name, b.Name)) })
	for i := range f.Tables {
		slices.SortFunc(f.Tables[i].Chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
		slices.Sort(f.Tables[i].EmptySets)
	}
}

func (f *Firewall) check() error {
	if !slices.Contains([]string{NoFirewall, Nftables, Iptables, IptablesLegacy}, f.Backend) {
		return fmt.Errorf("firewall: unknown backend %.40q", f.Backend)
	}
	last := ""
	for _, t := range f.Tables {
		name := t.Family + " " + t.Name
		if t.Family == "" || t.Name == "" || name <= last {
			return fmt.Errorf("firewall: table %.200q is not in order", name)
		}
		last = name
	}
	return nil
}

// FirewallUnits are NixOS's units that protect listening services.
var FirewallUnits = []string{"firewall.service", "nftables.service"}

// readFirewall reads the rules that the firewall's units make, from the files that they
// start.
func (r *reader) readFirewall(paths []closure.PathInfo) (*Firewall, error) {
	f := &Firewall{Backend: NoFirewall, Form: FirewallForm, Tables: []Table{}}
	for _, unit := range FirewallUnits {
		target := r.m.enabled(unit)
		if target == "" {
			continue
		}
		text, err := r.text(target)
		if err != nil {
			return nil, err
		}
		search := searchPath(text)
		for _, command := range settings(text, "ExecStart") {
			program, _, _ := strings.Cut(strings.TrimLeft(command, "@-:+!|"), " ")
			if !r.inClosure(program, paths) {
				f.Partly = true
				continue
			}
			script, err := r.text(program)
			if err != nil {
				return nil, err
			}
			first, _, _ := strings.Cut(script, "\n")
			switch {
			case strings.HasPrefix(first, "#!") && strings.HasSuffix(first, "/nft -f"):
				f.Backend = Nftables
				if err := r.readNft(f, script, paths, 0); err != nil {
					return nil, err
				}
			case path.Base(program) == "firewall-start":
				f.Backend = Iptables
				if r.isLegacy(search) {
					f.Backend = IptablesLegacy
				}
				readIptables(f, script)
			}
		}
		if f.Backend == NoFirewall {
			f.Partly = true
		}
	}
	f.sort()
	return f, nil
}

// enabled returns the file of a unit that other units start; "" for none.
func (m *Machine) enabled(unit string) string {
	i := slices.IndexFunc(m.Units, func(u Unit) bool { return u.Path == unit })
	if i < 0 || !m.Enables(unit) {
		return ""
	}
	return m.Units[i].Target
}

// Enables reports whether another unit of the configuration starts this one.
func (m *Machine) Enables(unit string) bool {
	return slices.ContainsFunc(m.Units, func(u Unit) bool {
		return strings.HasSuffix(u.Path, ".wants/"+unit) || strings.HasSuffix(u.Path, ".requires/"+unit)
	})
}

// inClosure reports whether a file belongs to the system.
func (r *reader) inClosure(file string, paths []closure.PathInfo) bool {
	p, _, err := r.store.Dir().Within(file)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(paths, func(info closure.PathInfo) bool { return info.Path == p })
}

// isLegacy reports whether the iptables in a search path keeps its rules outside nf_tables.
func (r *reader) isLegacy(search []string) bool {
	for _, dir := range search {
		at, err := r.store.Target(path.Join(dir, "iptables"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return err == nil && strings.Contains(path.Base(at), "legacy")
	}
	return false
}

// settings returns the values of a key in the text of a unit. NixOS writes each one on its
// own line.
func settings(text, key string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok && value != "" {
			out = append(out, value)
		}
	}
	return out
}

// searchPath returns the directories that a unit searches for programs.
func searchPath(text string) []string {
	for _, value := range settings(text, "Environment") {
		if dirs, ok := strings.CutPrefix(strings.Trim(value, `"`), "PATH="); ok {
			return strings.Split(dirs, ":")
		}
	}
	return nil
}
