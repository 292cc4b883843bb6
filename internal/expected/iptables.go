package expected

import (
	"slices"
	"strconv"
	"strings"
)

// hooks are the chains of iptables that the kernel enters by itself, with their hooks.
var hooks = map[string]string{
	"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output", "POSTROUTING": "postrouting",
}

// readIptables reads the script that starts NixOS's firewall: its calls of iptables, which
// are simple commands, except for those that remove the former rules. It records in f
// whether there is anything else.
func readIptables(f *Firewall, script string) {
	script = strings.ReplaceAll(script, "\\\n", " ")
	both := []string{"ip"} // the families of ip46tables
	for line := range strings.Lines(script) {
		if strings.Contains(line, `ip6tables -w "$@"`) {
			both = append(both, "ip6")
		}
	}
	depth := 0
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		first, _, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case line == "ip46tables() {":
			depth++
			continue
		case slices.Contains([]string{"for", "if", "while", "until", "case"}, first) || strings.HasSuffix(line, "{"):
			depth++
			if !removesOnly(script, line) {
				f.Partly = true
			}
			continue
		case slices.Contains([]string{"done", "fi", "esac", "}"}, first):
			depth = max(depth-1, 0)
			continue
		case depth > 0:
			continue
		}
		var families []string
		switch first {
		case "ip46tables":
			families = both
		case "iptables":
			families = []string{"ip"}
		case "ip6tables":
			families = []string{"ip6"}
		}
		words, ok := shellWords(line)
		if families == nil || !ok || !f.iptables(families, words[1:]) {
			f.Partly = true
		}
	}
}

// removesOnly reports whether a loop is the one in which NixOS removes its own chains.
func removesOnly(script, line string) bool {
	return strings.HasPrefix(line, "for chain in nixos-fw ") && strings.Count(script, line) == 1
}

// shellWords splits a simple command of a shell, and reports whether it is one. It ignores
// redirections that drop messages, and a trailing "|| true".
func shellWords(line string) ([]string, bool) {
	for _, end := range []string{"|| true", "2> /dev/null", "2>/dev/null"} {
		line = strings.TrimSpace(strings.TrimSuffix(line, end))
	}
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if quote := line[0]; quote == '"' || quote == '\'' {
			text, rest, ok := strings.Cut(line[1:], string(quote))
			if !ok || quote == '"' && strings.ContainsAny(text, "$`\\") {
				return nil, false
			}
			out, line = append(out, text), rest
			continue
		}
		i := strings.IndexAny(line, " \t\"'")
		if i < 0 {
			i = len(line)
		}
		if strings.ContainsAny(line[:i], "$`\\;&|<>()*?[") {
			return nil, false
		}
		out, line = append(out, line[:i]), line[i:]
	}
	return out, len(out) > 0
}

// iptables carries out one call, and reports whether it could be read.
func (f *Firewall) iptables(families, args []string) bool {
	table := "filter"
	for len(args) > 0 {
		switch {
		case args[0] == "-w" || args[0] == "--wait":
			args = args[1:]
		case len(args) > 1 && (args[0] == "-t" || args[0] == "--table"):
			table, args = args[1], args[2:]
		default:
			return len(args) > 1 && f.command(families, table, args[0], args[1], args[2:])
		}
	}
	return false
}

// command adds a chain, a rule or a policy.
func (f *Firewall) command(families []string, table, command, chain string, args []string) bool {
	for _, family := range families {
		switch command {
		case "-D", "-F", "-X", "--delete", "--flush", "--delete-chain":
			continue // removes former rules
		}
		c := f.table(family, table).chain(chain)
		if hook := hooks[chain]; hook != "" && c.Hook == "" {
			c.Hook, c.Policy = hook, "accept"
		}
		switch command {
		case "-N", "--new-chain":
		case "-P", "--policy":
			if len(args) != 1 {
				return false
			}
			c.Policy = strings.ToLower(args[0])
		case "-A", "--append":
			c.insert(len(c.Rules), iptablesRules(args))
		case "-I", "--insert":
			at := 1
			if len(args) > 0 {
				if n, err := strconv.Atoi(args[0]); err == nil {
					at, args = n, args[1:]
				}
			}
			if at < 1 || at > len(c.Rules)+c.Unclear+1 {
				return false
			}
			c.insert(min(at-1, len(c.Rules)), iptablesRules(args))
		default:
			return false
		}
	}
	return true
}

// The options with the addresses of the source and of the destination.
var (
	fromOptions = []string{"-s", "--source", "--src"}
	toOptions   = []string{"-d", "--destination", "--dst"}
)

// insert adds rules at a place; nil is one that can't be read.
func (c *Chain) insert(at int, rules []Rule) {
	if rules == nil {
		c.Unclear++
	}
	for i := range rules {
		c.Rules = slices.Insert(c.Rules, at+i, rules[i].String())
	}
}

// iptablesRules reads a rule of which the options may name several addresses: it is
// then a rule for each. It returns nil if it can't read it.
func iptablesRules(args []string) []Rule {
	for i, option := range args[:max(len(args)-1, 0)] {
		if !slices.Contains(fromOptions, option) && !slices.Contains(toOptions, option) {
			continue
		}
		if one, rest, several := strings.Cut(args[i+1], ","); several {
			with := func(address string) []Rule {
				args := slices.Clone(args)
				args[i+1] = address
				return iptablesRules(args)
			}
			first, others := with(one), with(rest)
			if first == nil || others == nil {
				return nil
			}
			return append(first, others...)
		}
	}
	r, ok := iptablesRule(args)
	if !ok {
		return nil
	}
	return []Rule{r}
}

// iptablesRule reads the compared options of a rule. It reports whether it could: the
// values of names of ports and of hosts are unknown.
func iptablesRule(args []string) (Rule, bool) {
	var r Rule
	not, targeted, readable := false, false, true
	for len(args) > 0 {
		option, value := args[0], ""
		args = args[1:]
		if len(args) > 0 {
			value = args[0]
		}
		if option == "!" {
			not, r.Others = true, true
			continue
		}
		switch option {
		case "-p", "--protocol":
			if value != "all" && !not {
				r.Protocol = protocolOf(value)
			}
		case "-i", "--in-interface", "-o", "--out-interface":
			to := &r.Interfaces
			if option == "-o" || option == "--out-interface" {
				to = &r.Outgoing
			}
			if name, prefix := strings.CutSuffix(value, "+"); prefix {
				value = name + "*"
			}
			if !not {
				*to = append(*to, value)
			}
		case "-s", "--source", "--src", "-d", "--destination", "--dst":
			to := &r.From
			if slices.Contains(toOptions, option) {
				to = &r.To
			}
			at, ok := addressesOf(value)
			readable = readable && ok
			if any := ok && strings.HasSuffix(value, "/0"); !not && !any {
				*to = append(*to, at)
			}
		case "--dport", "--destination-port", "--sport", "--source-port":
			to := &r.Ports
			if option == "--sport" || option == "--source-port" {
				to = &r.Sources
			}
			ports, ok := rangeOf(value, ":")
			readable = readable && ok
			if !not {
				*to = append(*to, ports)
			}
		case "-m", "--match":
			r.Others = r.Others || !slices.Contains([]string{"tcp", "udp", "comment"}, value)
		case "--comment":
		case "-j", "--jump":
			targeted, r.Verdict = true, TargetVerdict(value, "jump")
		case "-g", "--goto":
			targeted, r.Verdict = true, TargetVerdict(value, "goto")
		case "--to", "--to-destination", "--to-dest", "--to-source", "--to-ports", "--to-port":
			switch r.Verdict {
			case "redirect", "masquerade":
				value = ":" + value
			case "dnat", "snat":
			default: // of a target that is not compared
				continue
			}
			target, ok := targetOf(value)
			readable = readable && ok
			r.Verdict += target
		default:
			// Other options of the target are not compared. Their values, and those of
			// other conditions, are skipped in the same way.
			r.Others = r.Others || !targeted || option == "-f"
			not = not && !strings.HasPrefix(option, "-")
			continue
		}
		not = false
		args = args[min(1, len(args)):]
	}
	return r, readable
}

// targets are the targets of iptables that are not chains, except LOG and NFLOG, after which
// the kernel continues with the next rule.
var targets = strings.Fields(`ACCEPT DROP RETURN REJECT QUEUE NFQUEUE MASQUERADE REDIRECT DNAT SNAT NETMAP MARK CONNMARK
	CT NOTRACK TCPMSS TPROXY CLASSIFY DSCP TOS SET TRACE AUDIT CHECKSUM TEE TTL HL`)

// TargetVerdict returns the verdict of a target of iptables; "" if the packet continues to
// the next rule. An unknown target is a chain.
func TargetVerdict(target, toChain string) string {
	switch {
	case target == "LOG" || target == "NFLOG":
		return ""
	case slices.Contains(targets, target):
		return strings.ToLower(target)
	}
	return toChain + " " + target
}
