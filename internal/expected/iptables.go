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
			c.Rules = append(c.Rules, iptablesRule(args).String())
		case "-I", "--insert":
			at := 1
			if len(args) > 0 {
				if n, err := strconv.Atoi(args[0]); err == nil {
					at, args = n, args[1:]
				}
			}
			if at < 1 || at > len(c.Rules)+1 {
				return false
			}
			c.Rules = slices.Insert(c.Rules, at-1, iptablesRule(args).String())
		default:
			return false
		}
	}
	return true
}

// iptablesRule reads the compared options of a rule.
func iptablesRule(args []string) *Rule {
	r := new(Rule)
	not, targeted := false, false
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
		case "-i", "--in-interface":
			if name, prefix := strings.CutSuffix(value, "+"); prefix {
				value = name + "*"
			}
			if !not {
				r.Interfaces = append(r.Interfaces, value)
			}
		case "--dport", "--destination-port":
			ports, ok := rangeOf(value, ":")
			if ok && !not {
				r.Ports = append(r.Ports, ports)
			}
			r.Others = r.Others || !ok
		case "-m", "--match":
			r.Others = r.Others || !slices.Contains([]string{"tcp", "udp", "comment"}, value)
		case "--comment":
		case "-j", "--jump":
			targeted, r.Verdict = true, TargetVerdict(value, "jump")
		case "-g", "--goto":
			targeted, r.Verdict = true, TargetVerdict(value, "goto")
		default:
			// Options of the target don't change the verdict. Their values, and those of
			// other conditions, are skipped in the same way.
			r.Others = r.Others || !targeted || slices.Contains([]string{"-s", "-d", "-o", "-f"}, option)
			continue
		}
		not = false
		args = args[min(1, len(args)):]
	}
	return r
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
