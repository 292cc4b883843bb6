package expected

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/pkg/closure"
)

// maxIncludes limits the depth of nested includes.
const maxIncludes = 8

// stateOfNft is the file in which NixOS keeps the commands that remove its tables.
const stateOfNft = "/var/lib/nftables/"

// readNft reads a file for nft(8). It records in f what it can't read.
func (r *reader) readNft(f *Firewall, text string, paths []closure.PathInfo, depth int) error {
	t := &nft{words: nftWords(text)}
	for !t.over() {
		switch word := t.next(); word {
		case "\n", ";":
		case "table":
			t.table(f)
		case "include":
			name := unquoted(t.next())
			t.statement()
			switch {
			case strings.HasPrefix(name, stateOfNft):
			case depth == maxIncludes || !r.inClosure(name, paths):
				f.Partly = true
			default:
				more, err := r.text(name)
				if err == nil {
					err = r.readNft(f, more, paths, depth+1)
				}
				if err != nil {
					return err
				}
			}
		case "flush", "delete", "destroy", "define", "undefine", "redefine":
			t.statement()
		default:
			f.Partly = true
			t.statement()
		}
	}
	return nil
}

// nft is the text of a file for nft(8), word by word.
type nft struct {
	words []string
	at    int
}

// nftWords splits text into words and signs. A string keeps the quote at its start.
func nftWords(text string) []string {
	var out []string
	text = strings.ReplaceAll(text, "\\\n", " ")
	for text != "" {
		switch text[0] {
		case ' ', '\t', '\r':
			text = text[1:]
		case '#':
			i := strings.IndexByte(text, '\n')
			if i < 0 {
				return out
			}
			text = text[i:]
		case '\n', ';', '{', '}', ',':
			out, text = append(out, text[:1]), text[1:]
		case '"':
			i := strings.IndexByte(text[1:], '"')
			if i < 0 {
				return append(out, text)
			}
			out, text = append(out, text[:i+1]), text[i+2:]
		default:
			i := strings.IndexAny(text, " \t\r\n;{},\"")
			if i < 0 {
				i = len(text)
			}
			out, text = append(out, text[:i]), text[i:]
		}
	}
	return out
}

func unquoted(word string) string { return strings.TrimPrefix(word, `"`) }

func (t *nft) over() bool { return t.at >= len(t.words) }

// next returns the next word; "" at the end.
func (t *nft) next() string {
	if t.over() {
		return ""
	}
	t.at++
	return t.words[t.at-1]
}

// statement returns the words up to the end of the statement, including blocks in braces.
func (t *nft) statement() []string {
	begin, depth := t.at, 0
	for !t.over() {
		switch t.words[t.at] {
		case "{":
			depth++
		case "}":
			if depth == 0 { // the end of the enclosing block
				return t.words[begin:t.at]
			}
			depth--
		case "\n", ";":
			if depth == 0 {
				return t.words[begin:t.at]
			}
		}
		t.at++
	}
	return t.words[begin:t.at]
}

// table reads the words after "table".
func (t *nft) table(f *Firewall) {
	family, name := "ip", unquoted(t.next())
	if slices.Contains([]string{"ip", "ip6", "inet", "arp", "bridge", "netdev"}, name) {
		family, name = name, unquoted(t.next())
	}
	if word := t.next(); word != "{" {
		return
	}
	table := f.table(family, name)
	for !t.over() {
		switch word := t.next(); word {
		case "}":
			return
		case "\n", ";":
		case "chain":
			t.chain(f.table(family, name).chain(unquoted(t.next())), family)
		case "set":
			name := unquoted(t.next())
			block := t.statement()
			if !slices.ContainsFunc(block, func(w string) bool {
				return slices.Contains([]string{"elements", "dynamic", "timeout"}, w)
			}) {
				table.EmptySets = append(table.EmptySets, name)
			}
		default:
			t.statement()
		}
	}
}

// chain reads the words after the name of a chain.
func (t *nft) chain(c *Chain, family string) {
	if t.next() != "{" {
		return
	}
	for !t.over() {
		switch t.words[t.at] {
		case "}":
			t.at++
			return
		case "\n", ";":
			t.at++
			continue
		}
		s := t.statement()
		switch s[0] {
		case "type":
			if i := slices.Index(s, "hook"); i >= 0 && i+1 < len(s) {
				c.Hook = s[i+1]
				if c.Policy == "" {
					c.Policy = "accept"
				}
			}
		case "policy":
			c.Policy = s[len(s)-1]
		case "comment", "flags", "device", "devices":
		default:
			rule, ok := ruleOf(s, family)
			if !ok {
				c.Unclear++
				continue
			}
			c.Rules = append(c.Rules, rule.String())
		}
	}
}

// transports are the words for protocols with ports.
var transports = []string{"tcp", "udp", "udplite", "sctp", "dccp", "th"}

// fields are the first words of a field of a packet, which has two words.
var fields = append([]string{"meta", "ip", "ip6", "ether", "ct"}, transports...)

// verdicts are the words that end a rule.
var verdicts = []string{"accept", "drop", "reject", "continue", "return", "queue", "masquerade", "redirect", "notrack", "dnat", "snat", "tproxy"}

// ruleOf reads the compared words of a rule. It reports whether that was possible: the
// values of names of ports and of variables are unknown.
func ruleOf(words []string, family string) (Rule, bool) {
	var r Rule
	t := &nft{words: words}
	decided := r.Decided()
	for !t.over() {
		decided()
		decided = r.Decided()
		switch word := t.next(); {
		case strings.Contains(word, "$"):
			return r, false
		case t.concatenates(1) && slices.Contains(fields, word):
			t.at--
			t.concatenated(&r, family)
		case word == "iifname" || word == "meta" && t.has("iifname"):
			t.skip("iifname")
			if !t.names(&r, &r.Interfaces) {
				r.Others = true
			}
		case word == "oifname" || word == "meta" && t.has("oifname"):
			t.skip("oifname")
			if !t.names(&r, &r.Outgoing) {
				r.Others = true
			}
		case word == "meta" && t.has("l4proto"):
			t.next()
			if value := t.value(); len(value) == 1 {
				r.Protocol = protocolOf(value[0])
			} else {
				r.Others = true
			}
		case word == "ip" && t.has("protocol"), word == "ip6" && t.has("nexthdr"):
			t.next()
			r.Others = r.Others || family != "ip" || word != "ip" // of one version, or the first of several
			if value := t.value(); len(value) == 1 {
				r.Protocol = protocolOf(value[0])
			} else {
				r.Others = true
			}
		case (word == "ip" || word == "ip6") && t.has("saddr", "daddr"):
			r.Others = r.Others || family != word
			to := &r.From
			if t.next() == "daddr" {
				to = &r.To
			}
			if !t.addresses(&r, to) {
				return r, false
			}
		case slices.Contains(transports, word):
			if word != "th" {
				r.Protocol = word
			}
			switch {
			case t.has("dport", "sport"):
				to := &r.Ports
				if t.next() == "sport" {
					to = &r.Sources
				}
				if t.has("vmap") {
					return r, false
				}
				if !t.ports(&r, to) {
					return r, false
				}
			default:
				r.Others = true
			}
		case word == "icmp" || word == "icmpv6":
			r.Protocol, r.Others = word, true
		case word == "log" || word == "counter":
			for t.has("prefix", "level", "group", "flags", "snaplen", "queue-threshold", "packets", "bytes") {
				t.next()
				t.next()
			}
		case word == "comment":
			t.next()
		case word == "ct" && t.has("state") && t.at+1 < len(t.words) && t.words[t.at+1] == "vmap":
			t.next()
			t.next()
			r.Verdict = verdictMap(t.value())
		case word == "vmap":
			return r, false
		case word == "ct":
			t.next()
			t.value() // it may have the name of a verdict
			r.Others = true
		case word == "jump" || word == "goto":
			r.Verdict = strings.TrimSpace(r.Verdict + " " + word + " " + unquoted(t.next()))
		case word == "notrack":
			r.Verdict = word // and the rule goes on
		case slices.Contains(verdicts, word):
			r.Verdict = strings.TrimSpace(r.Verdict + " " + word)
			target, ok := t.target(&r)
			if !ok {
				return r, false
			}
			r.Verdict += target
			if last := words[len(words)-1]; word == "tproxy" && slices.Contains([]string{"accept", "drop", "return", "continue"}, last) {
				r.Verdict += " " + last
			}
			return r, true // the words after it are its options
		case t.concatenates(0):
			t.concatenated(&r, family)
		case strings.HasPrefix(word, "@"):
			r.Sets = append(r.Sets, word[1:])
		default:
			r.Others = true
		}
	}
	decided()
	return r, true
}

// has reports whether the next word is one of these.
func (t *nft) has(words ...string) bool { return !t.over() && slices.Contains(words, t.words[t.at]) }

func (t *nft) skip(word string) {
	if t.has(word) {
		t.at++
	}
}

// concatenates reports whether a "." follows after a few words.
func (t *nft) concatenates(after int) bool {
	return t.at+after < len(t.words) && t.words[t.at+after] == "."
}

// concatenated reads several fields up to their common value.
func (t *nft) concatenated(r *Rule, family string) {
	for !t.over() {
		switch word := t.next(); {
		case strings.HasPrefix(word, "@"):
			r.Sets = append(r.Sets, word[1:])
			return
		case word == "{":
			t.at--
			t.value()
			r.Others = true
			return
		case word != "th" && slices.Contains(transports, word):
			r.Protocol = word
		case (word == "ip" || word == "ip6") && word != family:
			r.Others = true // a condition on the family
		case slices.Contains([]string{"exists", "missing"}, word):
			r.Others = true
			return
		}
	}
	r.Others = true
}

// value returns the next value: a word, or the elements of a set, each as written.
func (t *nft) value() []string {
	t.skip("==")
	word := t.next()
	if word != "{" {
		return []string{unquoted(word)}
	}
	var out []string
	var element []string
	add := func() {
		if len(element) > 0 {
			out = append(out, strings.Join(element, " "))
		}
		element = nil
	}
	for !t.over() {
		switch word := t.next(); word {
		case "}":
			add()
			return out
		case ",":
			add()
		case "\n":
		default:
			element = append(element, unquoted(word))
		}
	}
	add()
	return out
}

// leads are the verdicts that lead a packet to another place.
var leads = []string{"masquerade", "redirect", "dnat", "snat", "tproxy"}

// target reads where the last verdict leads a packet, and reports whether that could be
// read.
func (t *nft) target(r *Rule) (string, bool) {
	verdict := t.words[t.at-1]
	if !slices.Contains(leads, verdict) {
		return "", true
	}
	if t.at+1 < len(t.words) && t.words[t.at+1] == "to" {
		t.at++ // the version of IP
	}
	t.skip("to")
	to := t.words[t.at:]
	if i := slices.IndexFunc(to, func(w string) bool {
		return slices.Contains([]string{"random", "fully-random", "persistent", "comment", "accept", "drop", "return", "continue"}, w)
	}); i >= 0 {
		to = to[:i]
	}
	switch at := slices.Index(to, "map"); {
	case len(to) == 0:
		return "", true
	case at >= 0:
		return mapOf(r, verdict, to[:at], to[at+1:])
	case len(to) != 1:
		return "", false
	}
	return targetOf(to[0])
}

// mapOf reads a map that says where each packet is led to, by fields of the packet. It is
// not compared if it has a name, or ranges, or other fields than protocols, ports and
// addresses.
func mapOf(r *Rule, verdict string, by, words []string) (string, bool) {
	for _, word := range by {
		word = word[strings.LastIndexByte(word, ':')+1:] // ":tcp" and "ADDRESS:tcp" lead to a port
		if word != "th" && slices.Contains(transports, word) {
			r.Protocol = word
		}
	}
	if len(words) == 0 || words[0] != "{" || verdict != "dnat" && verdict != "snat" {
		return ByMap, true
	}
	var fields []func(string) (string, bool)
	for _, field := range strings.Split(strings.Join(by, " "), " . ") {
		first, last, _ := strings.Cut(field, " ")
		switch {
		case field == "meta l4proto":
			fields = append(fields, func(word string) (string, bool) { return protocolOf(word), true })
		case slices.Contains(transports, first) && last == "dport":
			fields = append(fields, portOf)
		case (first == "ip" || first == "ip6") && (last == "saddr" || last == "daddr"):
			fields = append(fields, func(word string) (string, bool) { at, ok := addressOf(word); return last + " " + at, ok })
		default:
			return ByMap, true
		}
	}
	var out []string
	for _, element := range (&nft{words: words}).value() {
		key, value, ok := strings.Cut(element, " : ")
		to, ok2 := canonical(value, []func(string) (string, bool){addressOf, portOf})
		from, ok3 := canonical(key, fields)
		switch {
		case ok && strings.ContainsAny(element, "-/*"):
			return ByMap, true
		case !ok || !ok2 || !ok3 || strings.Count(from, " . ") != len(fields)-1:
			return "", false
		}
		out = append(out, from+": "+to)
	}
	return TargetMap(out), true
}

// canonical brings each field of a value into its canonical form.
func canonical(value string, fields []func(string) (string, bool)) (string, bool) {
	words := strings.Split(value, " . ")
	if len(words) > len(fields) {
		return "", false
	}
	for i, word := range words {
		var ok bool
		if words[i], ok = fields[i](word); !ok {
			return "", false
		}
	}
	return strings.Join(words, " . "), true
}

func portOf(word string) (string, bool) {
	_, err := strconv.ParseUint(word, 10, 16)
	return word, err == nil
}

func addressOf(word string) (string, bool) {
	at, err := netip.ParseAddr(word)
	return at.String(), err == nil
}

// addresses reads addresses, and reports whether all could be read.
func (t *nft) addresses(r *Rule, to *[]Addresses) bool {
	return read(t, r, to, addressesOf)
}

// ports reads ports, and reports whether all could be read.
func (t *nft) ports(r *Rule, to *[]Range) bool {
	return read(t, r, to, func(word string) (Range, bool) { return rangeOf(word, "-") })
}

// read reads values of a field and names of sets, and reports whether all could be read.
func read[V any](t *nft, r *Rule, to *[]V, valueOf func(word string) (V, bool)) bool {
	if t.has("!=") {
		t.next()
		t.value()
		r.Others = true
		return true
	}
	for _, word := range t.value() {
		if name, isSet := strings.CutPrefix(word, "@"); isSet {
			r.Sets = append(r.Sets, name)
			continue
		}
		value, ok := valueOf(word)
		if !ok {
			return false
		}
		*to = append(*to, value)
	}
	return true
}

// names reads names of interfaces, and reports whether all could be read.
func (t *nft) names(r *Rule, to *[]string) bool {
	if t.has("!=") {
		t.next()
		t.value()
		return false
	}
	value := t.value()
	if len(value) == 1 && strings.HasPrefix(value[0], "@") {
		r.Sets = append(r.Sets, value[0][1:])
		return true
	}
	*to = append(*to, value...)
	return true
}

// verdictMap returns the canonical form of a map from connection states to verdicts.
func verdictMap(elements []string) string {
	var out []string
	for _, e := range elements {
		key, verdict, _ := strings.Cut(e, ":")
		out = append(out, strings.TrimSpace(key)+": "+strings.Join(strings.Fields(verdict), " "))
	}
	return VerdictMap(out)
}

// VerdictMap returns the verdict of a rule with a verdict for each of several keys, given
// as "KEY: VERDICT".
func VerdictMap(elements []string) string {
	slices.Sort(elements)
	return "by state {" + strings.Join(elements, ", ") + "}"
}
