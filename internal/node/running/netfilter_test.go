package running

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"
)

// attr is an attribute: its value is bytes, a text, a number, or attributes within it.
func attr(kind uint16, value any) netlink.Attribute {
	switch v := value.(type) {
	case string:
		return netlink.Attribute{Type: kind, Data: []byte(v + "\x00")}
	case int:
		return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, uint32(v))}
	case []netlink.Attribute:
		return netlink.Attribute{Type: kind | netlink.Nested, Data: nltest.MustMarshalAttributes(v)}
	}
	return netlink.Attribute{Type: kind, Data: value.([]byte)}
}

type attrs = []netlink.Attribute

// expression is one of a rule.
func expression(name string, has ...netlink.Attribute) netlink.Attribute {
	return attr(1, attrs{attr(unix.NFTA_EXPR_NAME, name), attr(unix.NFTA_EXPR_DATA, has)})
}

func value(v ...byte) attrs { return attrs{attr(unix.NFTA_DATA_VALUE, v)} }

// Expressions of rules.
func metaExpression(key, register int) netlink.Attribute {
	return expression("meta", attr(unix.NFTA_META_KEY, key), attr(unix.NFTA_META_DREG, register))
}

func portExpression(register int) netlink.Attribute {
	return expression("payload", attr(unix.NFTA_PAYLOAD_DREG, register), attr(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER),
		attr(unix.NFTA_PAYLOAD_OFFSET, 2), attr(unix.NFTA_PAYLOAD_LEN, 2))
}

// ofIPv4 are the expressions of a rule about packets of IPv4.
func ofIPv4(more ...netlink.Attribute) attrs {
	return append(attrs{metaExpression(unix.NFT_META_NFPROTO, 1), compareExpression(1, unix.NFPROTO_IPV4)}, more...)
}

func addressExpression(at, size int) netlink.Attribute {
	return expression("payload", attr(unix.NFTA_PAYLOAD_DREG, 1), attr(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER),
		attr(unix.NFTA_PAYLOAD_OFFSET, at), attr(unix.NFTA_PAYLOAD_LEN, size))
}

func maskExpression(mask ...byte) netlink.Attribute {
	return expression("bitwise", attr(unix.NFTA_BITWISE_SREG, 1), attr(unix.NFTA_BITWISE_DREG, 1),
		attr(unix.NFTA_BITWISE_MASK, value(mask...)), attr(unix.NFTA_BITWISE_XOR, value(make([]byte, len(mask))...)))
}

func compareExpression(register int, v ...byte) netlink.Attribute {
	return expression("cmp", attr(unix.NFTA_CMP_SREG, register), attr(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ), attr(unix.NFTA_CMP_DATA, value(v...)))
}

func constantExpression(register int, v ...byte) netlink.Attribute {
	return expression("immediate", attr(unix.NFTA_IMMEDIATE_DREG, register), attr(unix.NFTA_IMMEDIATE_DATA, value(v...)))
}

func verdictExpression(code int) netlink.Attribute {
	return expression("immediate", attr(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT), attr(unix.NFTA_IMMEDIATE_DATA,
		attrs{attr(unix.NFTA_DATA_VERDICT, attrs{attr(unix.NFTA_VERDICT_CODE, code)})}))
}

func lookupExpression(set string, register int, more ...netlink.Attribute) netlink.Attribute {
	return expression("lookup", append(attrs{attr(unix.NFTA_LOOKUP_SET, set), attr(unix.NFTA_LOOKUP_SREG, register)}, more...)...)
}

// kernel answers for a kernel with one chain.
type kernel struct {
	rules      []attrs
	flags      map[string]int   // of sets
	elements   map[string]attrs // of sets
	generation func() int       // of the rules
}

const kernelTable, kernelChain = "fw", "input"

func (k *kernel) answer(requests []netlink.Message) ([]netlink.Message, error) {
	r := requests[0]
	var all []attrs
	name := attr(1, kernelTable) // the table, in each kind of message
	switch r.Header.Type & 0xff {
	case unix.NFT_MSG_GETGEN:
		generation := 1
		if k.generation != nil {
			generation = k.generation()
		}
		return []netlink.Message{answer(r, attrs{attr(unix.NFTA_GEN_ID, generation)})}, nil
	case unix.NFT_MSG_GETTABLE:
		all = append(all, attrs{name})
	case unix.NFT_MSG_GETCHAIN:
		all = append(all, attrs{name, attr(unix.NFTA_CHAIN_NAME, kernelChain)})
	case unix.NFT_MSG_GETSET:
		for set, flags := range k.flags {
			all = append(all, attrs{name, attr(unix.NFTA_SET_NAME, set), attr(unix.NFTA_SET_FLAGS, flags)})
		}
	case unix.NFT_MSG_GETSETELEM:
		has, err := readAttributes(r.Data[4:])
		if err != nil {
			return nil, err
		}
		all = append(all, attrs{attr(unix.NFTA_SET_ELEM_LIST_ELEMENTS, k.elements[has.text(unix.NFTA_SET_ELEM_LIST_SET)])})
	case unix.NFT_MSG_GETRULE:
		for _, rule := range k.rules {
			all = append(all, attrs{name, attr(unix.NFTA_RULE_CHAIN, kernelChain), attr(unix.NFTA_RULE_EXPRESSIONS, rule)})
		}
	}
	out := []netlink.Message{}
	for _, a := range all {
		out = append(out, answer(r, a))
	}
	done := netlink.Message{Header: netlink.Header{Type: netlink.Done, Flags: netlink.Multi, Sequence: r.Header.Sequence, PID: r.Header.PID}, Data: make([]byte, 4)}
	return nltest.Multipart(append(out, done))
}

func answer(to netlink.Message, has attrs) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Sequence: to.Header.Sequence, PID: to.Header.PID},
		Data:   append([]byte{unix.NFPROTO_INET, 0, 0, 0}, nltest.MustMarshalAttributes(has)...),
	}
}

func (k *kernel) read(t *testing.T) (*Ruleset, error) {
	t.Helper()
	conn, beside := nltest.Dial(k.answer), nltest.Dial(k.answer)
	defer conn.Close()
	defer beside.Close()
	return newNetfilter(t.Context(), conn, beside).ruleset()
}

// element is an element of a set.
func setElement(key ...byte) netlink.Attribute {
	return attr(1, attrs{attr(unix.NFTA_SET_ELEM_KEY, value(key...))})
}

// placeElement is an element of a map to addresses and ports.
func placeElement(key []byte, to ...byte) netlink.Attribute {
	return attr(1, attrs{attr(unix.NFTA_SET_ELEM_KEY, value(key...)), attr(unix.NFTA_SET_ELEM_DATA, value(to...))})
}

// TestRules: a rule does not read as another one that has more conditions, or fewer, or
// another verdict. A program may give the kernel rules that nft(8) would not write.
func TestRules(t *testing.T) {
	const accept, drop = 1, 0
	port := []netlink.Attribute{portExpression(1), compareExpression(1, 0, 22)}
	rule := func(all ...netlink.Attribute) attrs { return all }
	nat := func(address, port int) netlink.Attribute {
		return expression("nat", attr(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT), attr(unix.NFTA_NAT_FAMILY, unix.NFPROTO_IPV4),
			attr(unix.NFTA_NAT_REG_ADDR_MIN, address), attr(unix.NFTA_NAT_REG_PROTO_MIN, port))
	}
	// byPort looks up the protocol and the port in a map.
	byPort := func(set string, more ...netlink.Attribute) attrs {
		return append(rule(metaExpression(unix.NFT_META_L4PROTO, 8), portExpression(9), lookupExpression(set, 8, attr(unix.NFTA_LOOKUP_DREG, 8))), more...)
	}
	interfaces := func(name string) []byte { return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...) }
	for _, test := range []struct {
		name string
		rule attrs
		want string
	}{
		{"a port", append(slices.Clone(port), verdictExpression(accept)), "dport 22 accept"},
		{"a port by a set", rule(portExpression(1), lookupExpression("ports", 1), verdictExpression(accept)), "dport 22,80 accept"},
		{"two fields", rule(metaExpression(unix.NFT_META_IIFNAME, 1), portExpression(12), compareExpression(1, interfaces("lo")...), compareExpression(2, 0, 22), verdictExpression(accept)), "iifname lo dport 22 accept"},
		{"where a port leads", rule(portExpression(1), lookupExpression("data", 1, attr(unix.NFTA_LOOKUP_DREG, 1)), expression("nat", attr(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT))), "dnat by a map"},
		{"what a packet has to have", rule(expression("exthdr", attr(unix.NFTA_EXTHDR_DREG, 1)), verdictExpression(drop)), "under conditions drop"},
		{"a port that it has to have", rule(portExpression(1), verdictExpression(drop)), "under conditions drop"},
		{"one that is overwritten", rule(append(rule(expression("exthdr", attr(unix.NFTA_EXTHDR_DREG, 1))), append(slices.Clone(port), verdictExpression(drop))...)...), "dport 22 under conditions drop"},
		{"a constant for the port", rule(portExpression(1), constantExpression(1, 0, 22), compareExpression(1, 0, 22), verdictExpression(accept)), "under conditions accept"},
		{"one under the other name of the register", rule(portExpression(9), constantExpression(1, 0, 0, 0, 0, 0, 22), compareExpression(9, 0, 22), verdictExpression(accept)), "under conditions accept"},
		{"a set for any packet", rule(portExpression(1), lookupExpression("any", 1), verdictExpression(accept)), "under conditions accept"},
		{"a set of two fields", rule(portExpression(1), lookupExpression("wide", 1), verdictExpression(accept)), "under conditions accept"},
		{"a set without an element", rule(portExpression(1), lookupExpression("none", 1), verdictExpression(drop)), "under conditions drop"},
		{"a map before a verdict", rule(portExpression(1), lookupExpression("data", 1, attr(unix.NFTA_LOOKUP_DREG, 1)), verdictExpression(drop)), "under conditions drop"},
		{"two ports at once", rule(append(slices.Clone(port), portExpression(1), compareExpression(1, 0, 80), verdictExpression(drop))...), "dport 22,80 under conditions drop"},
		{"two interfaces at once", rule(
			metaExpression(unix.NFT_META_IIFNAME, 1), compareExpression(1, interfaces("a")...),
			metaExpression(unix.NFT_META_IIFNAME, 1), compareExpression(1, interfaces("b")...), verdictExpression(drop),
		), "iifname a,b under conditions drop"},
		{"two protocols at once", rule(
			metaExpression(unix.NFT_META_L4PROTO, 1), compareExpression(1, 17), metaExpression(unix.NFT_META_L4PROTO, 1), compareExpression(1, 6), verdictExpression(drop),
		), "tcp under conditions drop"},
		{"where packets are led to", rule(constantExpression(1, 192, 0, 2, 9), constantExpression(2, 0, 22), expression("nat", attr(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT), attr(unix.NFTA_NAT_REG_ADDR_MIN, 1), attr(unix.NFTA_NAT_REG_PROTO_MIN, 2))), "dnat to 192.0.2.9:22"},
		{"a port that a map overwrote", rule(constantExpression(2, 0, 22), portExpression(1), lookupExpression("data", 1, attr(unix.NFTA_LOOKUP_DREG, 2)), expression("redir", attr(unix.NFTA_REDIR_REG_PROTO_MIN, 2))), "redirect by a map"},
		{"an address", ofIPv4(addressExpression(12, 4), compareExpression(1, 192, 0, 2, 1), verdictExpression(accept)), "saddr 192.0.2.1 under conditions accept"},
		{"a network", ofIPv4(addressExpression(16, 3), compareExpression(1, 192, 0, 2), verdictExpression(accept)), "daddr 192.0.2.0-192.0.2.255 under conditions accept"},
		{"one whose end is within a byte", ofIPv4(addressExpression(12, 4), maskExpression(0xff, 0xff, 0xff, 0x80), compareExpression(1, 192, 0, 2, 128), verdictExpression(accept)), "saddr 192.0.2.128-192.0.2.255 under conditions accept"},
		{"a mask with a hole", ofIPv4(addressExpression(12, 4), maskExpression(0xff, 0, 0xff, 0), compareExpression(1, 192, 0, 2, 0), verdictExpression(accept)), "under conditions accept"},
		{"both addresses", ofIPv4(addressExpression(12, 8), compareExpression(1, 192, 0, 2, 1, 192, 0, 2, 2), verdictExpression(accept)), "saddr 192.0.2.1 daddr 192.0.2.2 under conditions accept"},
		{"bytes of either version", rule(addressExpression(12, 4), compareExpression(1, 192, 0, 2, 1), verdictExpression(accept)), "under conditions accept"},
		{"bytes before an address", ofIPv4(addressExpression(8, 8), compareExpression(1, 64, 6, 0, 0, 192, 0, 2, 2), verdictExpression(accept)), "saddr 192.0.2.2 under conditions accept"},
		{"two addresses at once", ofIPv4(addressExpression(12, 4), compareExpression(1, 192, 0, 2, 1), addressExpression(12, 4), compareExpression(1, 192, 0, 2, 2), verdictExpression(accept)), "saddr 192.0.2.1 under conditions accept"},
		{"a condition after the verdict", rule(verdictExpression(accept), metaExpression(unix.NFT_META_IIFNAME, 1), compareExpression(1, interfaces("lo")...)), "iifname lo accept before conditions"},
		{"one between two verdicts", append(rule(expression("notrack")), append(slices.Clone(port), verdictExpression(accept))...), "dport 22 notrack before conditions accept"},
		{"bits that a mask removes", ofIPv4(addressExpression(12, 4), maskExpression(0xff, 0xff, 0xff, 0), compareExpression(1, 192, 0, 2, 1), verdictExpression(drop)), "under conditions drop"},
		{"an interface that a protocol overwrote in part", rule(metaExpression(unix.NFT_META_IIFNAME, 1), metaExpression(unix.NFT_META_L4PROTO, 9), compareExpression(1, interfaces("lo")...), compareExpression(9, 6), verdictExpression(drop)), "tcp under conditions drop"},
		{"an address that a constant overwrote in part", rule(constantExpression(1, make([]byte, 16)...), constantExpression(11, 1, 2, 3, 4), constantExpression(12, 0, 22), nat(1, 12)), "dnat by what a packet has"},
		{"a port in four bytes", rule(constantExpression(1, 192, 0, 2, 9), constantExpression(2, 0, 22, 0, 0), nat(1, 2)), "dnat by what a packet has"},
		{"a port of the packet", rule(portExpression(1), expression("redir", attr(unix.NFTA_REDIR_REG_PROTO_MIN, 1))), "redirect by what a packet has"},
		{"an unknown expression that has a register", rule(constantExpression(1, 192, 0, 2, 9), constantExpression(2, 0, 22), expression("inner"), nat(1, 2)), "under conditions dnat by what a packet has"},
		{"places", byPort("places", nat(8, 9)), "dnat by {tcp . 22: 192.0.2.9 . 80}"},
		{"another place than those", byPort("places", constantExpression(3, 192, 0, 2, 66), constantExpression(4, 0, 80), nat(3, 4)), "dnat by a map"},
		{"a place that was overwritten", byPort("places", constantExpression(8, 192, 0, 2, 66), nat(8, 9)), "dnat by a map"},
		{"fields in another order", rule(metaExpression(unix.NFT_META_L4PROTO, 9), portExpression(8), lookupExpression("places", 8, attr(unix.NFTA_LOOKUP_DREG, 8)), nat(8, 9)), "under conditions dnat by a map"},
		{"fields of another register", rule(metaExpression(unix.NFT_META_L4PROTO, 8), portExpression(9), lookupExpression("places", 12, attr(unix.NFTA_LOOKUP_DREG, 8)), nat(8, 9)), "dnat by a map"},
		{"a place that no packet has", byPort("padded", nat(8, 9)), "dnat by a map"},
		{"places of sources", ofIPv4(addressExpression(12, 4), lookupExpression("hosts", 1, attr(unix.NFTA_LOOKUP_DREG, 1)), expression("nat", attr(unix.NFTA_NAT_FAMILY, unix.NFPROTO_IPV4), attr(unix.NFTA_NAT_REG_ADDR_MIN, 1))), "under conditions snat by {saddr 192.0.2.1: 192.0.2.9}"},
		{"a port at a limited rate", rule(portExpression(1), lookupExpression("limited", 1), verdictExpression(drop)), "under conditions drop"},
		{"two verdicts", rule(verdictExpression(accept), expression("reject")), "accept reject"},
		{"an option written", rule(expression("exthdr", attr(7, 1))), "under conditions continue"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &kernel{
				rules: []attrs{test.rule},
				flags: map[string]int{
					"ports": unix.NFT_SET_ANONYMOUS, "any": unix.NFT_SET_ANONYMOUS, "wide": unix.NFT_SET_ANONYMOUS, "none": unix.NFT_SET_ANONYMOUS,
					"data": unix.NFT_SET_ANONYMOUS | unix.NFT_SET_MAP, "places": unix.NFT_SET_ANONYMOUS | unix.NFT_SET_MAP, "padded": unix.NFT_SET_ANONYMOUS | unix.NFT_SET_MAP,
					"hosts": unix.NFT_SET_ANONYMOUS | unix.NFT_SET_MAP, "limited": unix.NFT_SET_ANONYMOUS,
				},
				elements: map[string]attrs{
					"ports": {setElement(0, 22), setElement(0, 80)}, "any": {setElement(0, 22), attr(1, attrs{})}, "wide": {setElement(0, 22, 0, 0, 0, 0)},
					"data": {setElement(0, 22)}, "places": {placeElement([]byte{6, 0, 0, 0, 0, 22, 0, 0}, 192, 0, 2, 9, 0, 80, 0, 0)},
					"padded": {
						placeElement([]byte{6, 0, 0, 0, 0, 22, 0, 0}, 192, 0, 2, 66, 0, 80, 0, 0), placeElement([]byte{6, 0, 0, 1, 0, 22, 0, 0}, 192, 0, 2, 9, 0, 80, 0, 0),
					},
					"hosts":   {placeElement([]byte{192, 0, 2, 1}, 192, 0, 2, 9)},
					"limited": {attr(1, attrs{attr(unix.NFTA_SET_ELEM_KEY, value(0, 22)), attr(unix.NFTA_SET_ELEM_EXPR, attrs{attr(unix.NFTA_EXPR_NAME, "limit")})})},
				},
			}
			got, err := k.read(t)
			if err != nil {
				t.Fatal(err)
			}
			if rules := got.Tables[0].Chains[0].Rules; !slices.Equal(rules, []string{test.want}) {
				t.Errorf("got %q, want %q", rules, test.want)
			}
		})
	}
}

// TestRulesFilled: a set has an element if nobody can say that it has none.
func TestRulesFilled(t *testing.T) {
	k := &kernel{
		flags:    map[string]int{"empty": 0, "filled": 0, "timed": unix.NFT_SET_TIMEOUT, "of rules": unix.NFT_SET_EVAL, "map": unix.NFT_SET_MAP},
		elements: map[string]attrs{"filled": {setElement(0, 22)}},
	}
	got, err := k.read(t)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range got.Tables[0].Filled {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"filled", "of rules", "timed"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// TestRulesChanging: rules that change while they are read are not those of any moment.
func TestRulesChanging(t *testing.T) {
	generation := 0
	k := &kernel{generation: func() int { generation++; return generation }}
	if _, err := k.read(t); !errors.Is(err, errChanging) {
		t.Errorf("got %v", err)
	}
}

// TestRulesLimit: there is an end to what is read.
func TestRulesLimit(t *testing.T) {
	k := &kernel{rules: slices.Repeat([]attrs{{}}, maxDumped)}
	if _, err := k.read(t); err != nil {
		t.Error(err)
	}
	k.flags = map[string]int{}
	for i := range maxRules / 100 {
		k.flags[fmt.Sprintf("%0100d", i)] = unix.NFT_SET_ANONYMOUS
	}
	if _, err := k.read(t); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("many names: got %v", err)
	}
	k.flags, k.rules = nil, append(k.rules, attrs{})
	if _, err := k.read(t); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}
