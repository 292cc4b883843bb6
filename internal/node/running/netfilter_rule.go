package running

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
)

// The parts of a packet in a register that are compared.
const (
	holdsInterface = "interface"
	holdsOutgoing  = "outgoing interface"
	holdsProtocol  = "protocol"
	holdsPort      = "port"
	holdsSource    = "source port"
	holdsPorts     = "ports" // of source and destination, loaded together
	holdsState     = "state"
	holdsVersion   = "version" // of IP
	holdsAddress   = "address" // see [loaded]
	holdsOther     = "other"
)

// ruleReader reads the expressions of one rule, one after the other.
type ruleReader struct {
	n      *netfilter
	family uint8
	table  string
	rule   expected.Rule
	holds  map[uint32]string // by register, as [place] has it
	unread map[uint32]bool   // registers that were loaded, and are not compared yet
	loaded []uint32          // registers since the last comparison
	first  uint16            // the first port of a range whose last one follows
	mapped bool              // a value of a map was loaded, for what follows
	places []placed          // of that map, if all its fields are known
	inMap  uint32            // the register that has the value of that map

	ipv6      bool // the version of IP, if it is known
	versioned bool
	addresses map[uint32]loaded // of the registers that hold addresses
	low       netip.Addr        // the first address of a range whose last one follows
	constants map[uint32][]byte // of the registers that were given one
}

// loaded says which bytes of a packet's header of IP a register holds.
type loaded struct {
	at, size int
	bits     int // of these, the first ones; the others are zero
}

// newRuleReader returns a reader of a rule.
func newRuleReader(n *netfilter, family uint8, table string) *ruleReader {
	return &ruleReader{
		n: n, family: family, table: table, holds: map[uint32]string{}, unread: map[uint32]bool{},
		ipv6: family == unix.NFPROTO_IPV6, versioned: family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6,
		addresses: map[uint32]loaded{}, constants: map[uint32][]byte{},
	}
}

// place is where a register begins, in words of 32 bits: the kernel has two names for some.
func place(register uint32) uint32 {
	if register < unix.NFT_REG32_00 {
		return (register - unix.NFT_REG_1) * (unix.NFT_REG_SIZE / unix.NFT_REG32_SIZE)
	}
	return register - unix.NFT_REG32_00
}

// overwrite forgets what registers held: those from one on, since a value may be as long
// as several, and those before it with a value that reaches into it.
func (r *ruleReader) overwrite(from uint32) {
	for at := range r.unread {
		if at+r.registers(at) > from {
			r.rule.Others = true // to load it may have been a condition
			delete(r.unread, at)
		}
	}
	for at := range r.holds {
		if at+r.registers(at) > from {
			delete(r.holds, at)
		}
	}
	for at := range r.constants {
		if at+r.registers(at) > from {
			delete(r.constants, at)
		}
	}
	if r.inMap+longestPlace > from {
		r.places = nil
	}
}

// registers returns how many registers a value that begins in one takes, at least one.
func (r *ruleReader) registers(at uint32) uint32 {
	size := max(len(r.constants[at]), 1)
	switch r.holds[at] {
	case holdsInterface, holdsOutgoing:
		size = unix.IFNAMSIZ
	case holdsAddress:
		size = max(r.addresses[at].size, 1)
	}
	return registersOf(size)
}

// registersOf returns how many registers a value of that many bytes takes.
func registersOf(size int) uint32 {
	return uint32(size+unix.NFT_REG32_SIZE-1) / unix.NFT_REG32_SIZE //nolint:gosec // at most 16 bits
}

// decide adds a verdict.
func (r *ruleReader) decide(verdict string) {
	if r.rule.Verdict != "" && verdict != "" {
		verdict = r.rule.Verdict + " " + verdict
	}
	r.rule.Verdict = verdict
}

// end returns the rule. To load what a packet does not have ends a rule, so that it is a
// condition without being compared.
func (r *ruleReader) end() string {
	r.rule.Others = r.rule.Others || len(r.unread) > 0 || r.mapped
	return r.rule.String()
}

// sources are expressions that load something that is not compared, and the attribute
// that has the register.
var sources = map[string]uint16{
	"fib": unix.NFTA_FIB_DREG, "exthdr": unix.NFTA_EXTHDR_DREG, "rt": unix.NFTA_RT_DREG, "numgen": unix.NFTA_NG_DREG,
	"osf": 1, "xfrm": 1, "socket": 2, "tunnel": 2,
}

// transportPorts is the offset of the destination port in the headers of TCP and similar
// protocols.
const transportPorts = 2

// read reads an expression. A verdict does not depend on a condition after it.
func (r *ruleReader) read(name string, data attributes) error {
	conditions := r.rule.Decided()
	err := r.expression(name, data)
	conditions()
	return err
}

// expression reads an expression. One that is not compared counts as a further condition.
func (r *ruleReader) expression(name string, data attributes) error {
	switch name {
	case "meta":
		r.load(data, unix.NFTA_META_DREG, map[uint32]string{
			unix.NFT_META_IIFNAME: holdsInterface, unix.NFT_META_L4PROTO: holdsProtocol,
			unix.NFT_META_OIFNAME: holdsOutgoing, unix.NFT_META_NFPROTO: holdsVersion,
		}[data.number(unix.NFTA_META_KEY)])
	case "payload":
		holds := ""
		at, size := data.number(unix.NFTA_PAYLOAD_OFFSET), data.number(unix.NFTA_PAYLOAD_LEN)
		switch data.number(unix.NFTA_PAYLOAD_BASE) {
		case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
			switch {
			case at == transportPorts && size == 2:
				holds = holdsPort
			case at == 0 && size == 2:
				holds = holdsSource
			case at == 0 && size == 4:
				holds = holdsPorts
			}
		case unix.NFT_PAYLOAD_NETWORK_HEADER:
			switch both := r.family == unix.NFPROTO_INET; {
			case size == 1 && (at == 9 && (both || r.family == unix.NFPROTO_IPV4) || at == 6 && (both || r.family == unix.NFPROTO_IPV6)):
				holds = holdsProtocol
				r.rule.Others = r.rule.Others || at == 6 || both // the first of several, or of one version
			case r.versioned:
				holds = holdsAddress
			}
		}
		r.load(data, unix.NFTA_PAYLOAD_DREG, holds)
		if holds == holdsAddress {
			r.addresses[place(data.number(unix.NFTA_PAYLOAD_DREG))] = loaded{int(at), int(size), 8 * int(size)}
		}
	case "ct":
		holds := ""
		if data.number(unix.NFTA_CT_KEY) == unix.NFT_CT_STATE {
			holds = holdsState
		}
		r.load(data, unix.NFTA_CT_DREG, holds)
	case "bitwise":
		return r.mask(data)
	case "hash", "byteorder": // their registers have the same attributes as those of bitwise
		delete(r.unread, place(data.number(unix.NFTA_BITWISE_SREG)))
		r.load(data, unix.NFTA_BITWISE_DREG, holdsOther)
	case "cmp":
		return r.compare(data)
	case "range":
		return r.within(data)
	case "lookup":
		return r.lookup(data)
	case "immediate":
		if register := data.number(unix.NFTA_IMMEDIATE_DREG); register != unix.NFT_REG_VERDICT {
			r.overwrite(place(register)) // a value for the next expression
			value, err := data.inner(unix.NFTA_IMMEDIATE_DATA)
			r.constants[place(register)] = value[unix.NFTA_DATA_VALUE]
			return err
		}
		verdict, err := readVerdict(data, unix.NFTA_IMMEDIATE_DATA)
		r.decide(verdict)
		return err
	case "reject", "notrack":
		r.decide(name)
	case "queue", "fwd", "dup", "synproxy":
		r.use(name)
	case "tproxy":
		r.use(name + r.target(data, nftaTproxyAddress, nftaTproxyAddress, nftaTproxyPort, nftaTproxyPort))
	case "masq":
		r.use("masquerade" + r.target(data, 0, 0, unix.NFTA_MASQ_REG_PROTO_MIN, unix.NFTA_MASQ_REG_PROTO_MAX))
	case "redir":
		r.use("redirect" + r.target(data, 0, 0, unix.NFTA_REDIR_REG_PROTO_MIN, unix.NFTA_REDIR_REG_PROTO_MAX))
	case "nat":
		verdict := "snat"
		if data.number(unix.NFTA_NAT_TYPE) == unix.NFT_NAT_DNAT {
			verdict = "dnat"
		}
		r.use(verdict + r.target(data, unix.NFTA_NAT_REG_ADDR_MIN, unix.NFTA_NAT_REG_ADDR_MAX, unix.NFTA_NAT_REG_PROTO_MIN, unix.NFTA_NAT_REG_PROTO_MAX))
	case "log", "counter", "last":
	case "match":
		r.match(data)
	case "target":
		if target := data.text(unix.NFTA_TARGET_NAME); target != "LOG" {
			r.decide(expected.TargetVerdict(target, "target") + r.xtTarget(target, data))
		}
	default:
		if register := sources[name]; register != 0 {
			r.load(data, register, holdsOther)
			return nil
		}
		r.overwrite(0) // it may have a register as well
		r.rule.Others = true
	}
	return nil
}

// use is decide for a verdict that takes what registers hold, such as where a packet is
// led to.
func (r *ruleReader) use(verdict string) {
	clear(r.unread)
	r.mapped = false
	r.decide(verdict)
}

// load records the new contents of a register. An expression without a register writes to
// the packet.
func (r *ruleReader) load(data attributes, register uint16, holds string) {
	if !data.has(register) {
		r.rule.Others = true
		return
	}
	if holds == "" {
		holds = holdsOther
	}
	at := place(data.number(register))
	r.overwrite(at)
	r.loaded = append(r.loaded, at)
	r.holds[at], r.unread[at] = holds, true
}

// source returns the contents of a register for a comparison. If several registers were
// loaded for it, the result is holdsOther.
func (r *ruleReader) source(register uint32) string {
	holds := r.holds[place(register)]
	clear(r.unread)
	if len(r.loaded) > 1 {
		holds = holdsOther
	}
	r.loaded = nil
	return holds
}

func (r *ruleReader) compare(data attributes) error {
	value, err := data.inner(unix.NFTA_CMP_DATA)
	if err != nil {
		return err
	}
	v, op := value[unix.NFTA_DATA_VALUE], data.number(unix.NFTA_CMP_OP)
	r.loaded = nil // each register is compared separately
	at := place(data.number(unix.NFTA_CMP_SREG))
	delete(r.unread, at)
	switch holds := r.holds[at]; {
	case holds == holdsInterface && op == unix.NFT_CMP_EQ:
		r.from(&r.rule.Interfaces, interfaceName(v))
	case holds == holdsOutgoing && op == unix.NFT_CMP_EQ:
		r.from(&r.rule.Outgoing, interfaceName(v))
	case holds == holdsVersion && op == unix.NFT_CMP_EQ && len(v) == 1:
		r.versioned, r.ipv6 = v[0] == unix.NFPROTO_IPV4 || v[0] == unix.NFPROTO_IPV6, v[0] == unix.NFPROTO_IPV6
		r.rule.Others = true
	case holds == holdsAddress:
		r.compareAddress(r.addresses[at], op, v)
	case holds == holdsProtocol && op == unix.NFT_CMP_EQ && len(v) == 1:
		protocol := expected.ProtocolName(v[0])
		r.rule.Others = r.rule.Others || r.rule.Protocol != "" && r.rule.Protocol != protocol // none is both
		r.rule.Protocol = protocol
	case r.ports(holds) != nil && op == unix.NFT_CMP_EQ && len(v) == 2:
		r.to(r.ports(holds), one(v))
	case holds == holdsPorts && op == unix.NFT_CMP_EQ && len(v) == 4:
		r.to(&r.rule.Sources, one(v))
		r.to(&r.rule.Ports, one(v[transportPorts:]))
	case r.ports(holds) != nil && op == unix.NFT_CMP_GTE && len(v) == 2:
		r.first = binary.BigEndian.Uint16(v)
		r.to(r.ports(holds), expected.Range{First: r.first, Last: 0xffff})
	case r.ports(holds) != nil && op == unix.NFT_CMP_LTE && len(v) == 2:
		last, ports := binary.BigEndian.Uint16(v), *r.ports(holds)
		if n := len(ports); n > 0 && ports[n-1].First == r.first && ports[n-1].Last == 0xffff {
			ports[n-1].Last = last
			return nil
		}
		r.to(r.ports(holds), expected.Range{Last: last})
	default:
		r.rule.Others = true
	}
	return nil
}

// ports returns the ports of the rule that a register with them is compared for; nil for
// another register.
func (r *ruleReader) ports(holds string) *[]expected.Range {
	switch holds {
	case holdsPort:
		return &r.rule.Ports
	case holdsSource:
		return &r.rule.Sources
	}
	return nil
}

// one is a port at the start of v.
func one(v []byte) expected.Range {
	port := binary.BigEndian.Uint16(v)
	return expected.Range{First: port, Last: port}
}

// to adds the ports of one condition, and from its interfaces. A second condition is none
// that has either, and a condition on nothing none that is empty.
func (r *ruleReader) to(all *[]expected.Range, ports ...expected.Range) {
	r.rule.Others = r.rule.Others || len(*all) > 0 || len(ports) == 0
	*all = append(*all, ports...)
}

func (r *ruleReader) from(all *[]string, interfaces ...string) {
	r.rule.Others = r.rule.Others || len(*all) > 0 || len(interfaces) == 0
	*all = append(*all, interfaces...)
}

// interfaceName returns the interface name in a comparison. It ends with a zero byte;
// without one it is a prefix of names.
func interfaceName(v []byte) string {
	name := string(bytes.TrimRight(v, "\x00"))
	if len(v) < unix.IFNAMSIZ && len(name) == len(v) {
		name += "*"
	}
	return name
}

func (r *ruleReader) within(data attributes) error {
	from, err := data.inner(unix.NFTA_RANGE_FROM_DATA)
	if err != nil {
		return err
	}
	to, err := data.inner(unix.NFTA_RANGE_TO_DATA)
	if err != nil {
		return err
	}
	first, last := from[unix.NFTA_DATA_VALUE], to[unix.NFTA_DATA_VALUE]
	register := data.number(unix.NFTA_RANGE_SREG)
	holds, equal := r.source(register), data.number(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_EQ
	switch ports := r.ports(holds); {
	case equal && ports != nil && len(first) == 2 && len(last) == 2:
		r.to(ports, expected.Range{First: one(first).First, Last: one(last).First})
	case equal && holds == holdsAddress:
		low, ok := netip.AddrFromSlice(first)
		high, ok2 := netip.AddrFromSlice(last)
		r.address(r.whole(register), ok && ok2, expected.Addresses{First: low, Last: high})
	default:
		r.rule.Others = true
	}
	return nil
}

// stateNames are the names of connection states, by bit.
var stateNames = map[uint32]string{1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}

func (r *ruleReader) lookup(data attributes) error {
	name := data.text(unix.NFTA_LOOKUP_SET)
	set := r.n.sets[keyOf(r.family, r.table, name)]
	if set == nil {
		return errChanging
	}
	loads, from := r.loaded, data.number(unix.NFTA_LOOKUP_SREG)
	holds := r.source(from)
	isMap := data.has(unix.NFTA_LOOKUP_DREG)
	if data.number(unix.NFTA_LOOKUP_FLAGS) != 0 {
		r.rule.Others = true
		return nil
	}
	if !set.anonymous && !isMap {
		r.rule.Sets = append(r.rule.Sets, name)
		return nil
	}
	elements, err := r.n.elements(r.family, r.table, name)
	if err != nil {
		return err
	}
	// A set of the kernel's may have elements of several fields, and one for all packets.
	sized := func(size int) bool {
		return !slices.ContainsFunc(elements, func(e element) bool { return len(e.key) != size })
	}
	if set.anonymous && (set.changing || slices.ContainsFunc(elements, func(e element) bool { return e.limited })) {
		holds, loads = holdsOther, nil
		r.rule.Others = true
	}
	switch {
	case isMap && data.number(unix.NFTA_LOOKUP_DREG) != unix.NFT_REG_VERDICT:
		var places []placed
		if set.anonymous && !set.interval {
			places = r.byFields(place(from), loads, elements)
		}
		to := place(data.number(unix.NFTA_LOOKUP_DREG))
		r.overwrite(to)
		r.mapped, r.places, r.inMap = true, places, to
	case isMap:
		var verdicts []string
		for _, e := range elements {
			key := ""
			if holds == holdsState && len(e.key) == 4 {
				key = stateNames[binary.NativeEndian.Uint32(e.key)]
			}
			verdicts = append(verdicts, key+": "+e.verdict)
		}
		r.decide(expected.VerdictMap(verdicts))
	case holds == holdsInterface && sized(unix.IFNAMSIZ):
		r.from(&r.rule.Interfaces, interfacesOf(elements, set.interval)...)
	case holds == holdsOutgoing && sized(unix.IFNAMSIZ):
		r.from(&r.rule.Outgoing, interfacesOf(elements, set.interval)...)
	case r.ports(holds) != nil && sized(2):
		r.to(r.ports(holds), portsOf(elements, set.interval)...)
	case holds == holdsAddress && len(elements) > 0 && sized(r.addressSize()):
		r.address(r.whole(data.number(unix.NFTA_LOOKUP_SREG)), true, addressesOf(elements, set.interval)...)
	default:
		r.rule.Others = true
	}
	return nil
}

// interfacesOf returns the interfaces of a set, whose elements are sorted. It returns none
// if a range is neither a single name nor all names with a common beginning.
func interfacesOf(elements []element, ranges bool) []string {
	var out []string
	for i, e := range elements {
		name := string(bytes.TrimRight(e.key, "\x00"))
		switch {
		case ranges && e.end:
			continue
		case ranges && (i+1 == len(elements) || !elements[i+1].end || name == ""):
			return nil
		case ranges:
			next := elements[i+1].key
			after := func(at int) bool { // whether the range ends where a name with another byte there begins
				want := append([]byte(nil), e.key...)
				want[at]++
				return bytes.Equal(next, want)
			}
			if after(len(name) - 1) {
				name += "*"
			} else if !after(len(e.key) - 1) {
				return nil
			}
		}
		out = append(out, name)
	}
	return out
}

// portsOf returns the ports of a set, whose elements are sorted. A set of ranges has an
// element for the first port of each range, and one for the first port after it.
func portsOf(elements []element, ranges bool) []expected.Range {
	var out []expected.Range
	open := false
	for _, e := range elements {
		port := binary.BigEndian.Uint16(e.key)
		if open {
			out[len(out)-1].Last = port - 1
		}
		if open = ranges && !e.end; e.end {
			continue
		}
		out = append(out, expected.Range{First: port, Last: port})
	}
	if open {
		out[len(out)-1].Last = 0xffff
	}
	return out
}

// xtPorts is the size of the port ranges at the start of iptables' data for the kernel's
// TCP and UDP matches: the first and the last port of the source, and of the destination.
const xtPorts = 8

// match reads a condition that iptables passes to the kernel in its own form.
func (r *ruleReader) match(data attributes) {
	info := data[unix.NFTA_MATCH_INFO]
	switch name := data.text(unix.NFTA_MATCH_NAME); {
	case name == "comment":
	case (name == "tcp" || name == "udp") && len(info) > xtPorts:
		port := func(at int) uint16 { return binary.NativeEndian.Uint16(info[at:]) }
		if first, last := port(0), port(2); first != 0 || last != 0xffff {
			r.to(&r.rule.Sources, expected.Range{First: first, Last: last})
		}
		if first, last := port(4), port(6); first != 0 || last != 0xffff {
			r.to(&r.rule.Ports, expected.Range{First: first, Last: last})
		}
		r.rule.Others = r.rule.Others || strings.Trim(string(info[xtPorts:]), "\x00") != ""
	default:
		r.rule.Others = true
	}
}
