package running

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
)

// Attributes that package unix does not have, of linux/netfilter/nf_tables.h.
const (
	nftaTproxyAddress    = 2
	nftaTproxyPort       = 3
	nftaBitwiseOperation = 6

	nftaSetElemExpressions = 11
)

// addressSize returns the size of an address of the version of IP that the rule is about.
func (r *ruleReader) addressSize() int {
	if r.ipv6 {
		return 16
	}
	return 4
}

// fields returns the lists of addresses of the rule, and where each is in the header.
func (r *ruleReader) fields() [2]struct {
	at int
	of *[]expected.Addresses
} {
	first := 12
	if r.ipv6 {
		first = 8
	}
	return [2]struct {
		at int
		of *[]expected.Addresses
	}{{first, &r.rule.From}, {first + r.addressSize(), &r.rule.To}}
}

// address adds the addresses of one condition, if they are valid and to is known.
func (r *ruleReader) address(to *[]expected.Addresses, valid bool, all ...expected.Addresses) {
	if to == nil || !valid || len(*to) > 0 {
		r.rule.Others = true
		return
	}
	*to = append(*to, all...)
}

// whole returns the list for a register that holds one whole address; nil for another.
func (r *ruleReader) whole(register uint32) *[]expected.Addresses {
	has := r.addresses[place(register)]
	for _, f := range r.fields() {
		if has.at == f.at && has.size == r.addressSize() && has.bits == 8*has.size {
			return f.of
		}
	}
	return nil
}

// isWhole is whole for the place of a register.
func (r *ruleReader) isWhole(at uint32) bool { return r.whole(at+unix.NFT_REG32_00) != nil }

// compareAddress reads a comparison of a part of the header. To compare the first bytes of
// an address is to compare with a block of addresses. Several fields that are next to each
// other may be compared at once.
func (r *ruleReader) compareAddress(has loaded, op uint32, v []byte) {
	read := 0 // bytes
	for _, f := range r.fields() {
		size := r.addressSize()
		switch {
		case len(v) != has.size:
		case op == unix.NFT_CMP_EQ && has.at == f.at && has.size <= size:
			at, _ := netip.AddrFromSlice(append(append([]byte(nil), v...), make([]byte, size-len(v))...))
			block, ok := expected.Block(at, has.bits)
			r.address(f.of, ok && block.First == at, block) // no packet has other bits
			return
		case op == unix.NFT_CMP_EQ && has.at <= f.at && has.at+has.size >= f.at+size && has.bits == 8*has.size:
			at, ok := netip.AddrFromSlice(v[f.at-has.at:][:size])
			r.address(f.of, ok, expected.Addresses{First: at, Last: at})
			read += size
		case has.at != f.at || has.size != size || has.bits != 8*size:
		case op == unix.NFT_CMP_GTE:
			r.low, _ = netip.AddrFromSlice(v)
			last, ok := expected.Block(r.low, 0)
			r.address(f.of, ok, expected.Addresses{First: r.low, Last: last.Last})
			return
		case op == unix.NFT_CMP_LTE && len(*f.of) == 1 && (*f.of)[0].First == r.low && !(*f.of)[0].Last.Next().IsValid():
			high, ok := netip.AddrFromSlice(v)
			r.rule.Others = r.rule.Others || !ok
			(*f.of)[0].Last = high
			return
		}
	}
	r.rule.Others = r.rule.Others || read != has.size
}

// mask reads an expression that keeps some bits of a register.
func (r *ruleReader) mask(data attributes) error {
	source := place(data.number(unix.NFTA_BITWISE_SREG))
	has, ok := r.addresses[source]
	ok = ok && r.holds[source] == holdsAddress && data.number(nftaBitwiseOperation) == 0
	mask, err := data.inner(unix.NFTA_BITWISE_MASK)
	if err != nil {
		return err
	}
	xor, err := data.inner(unix.NFTA_BITWISE_XOR)
	if err != nil {
		return err
	}
	for _, b := range xor[unix.NFTA_DATA_VALUE] {
		ok = ok && b == 0
	}
	bits, prefix := expected.PrefixLength(mask[unix.NFTA_DATA_VALUE])
	ok = ok && prefix && len(mask[unix.NFTA_DATA_VALUE]) == has.size && has.bits == 8*has.size
	delete(r.unread, source)
	if !ok {
		r.load(data, unix.NFTA_BITWISE_DREG, holdsOther)
		return nil
	}
	r.load(data, unix.NFTA_BITWISE_DREG, holdsAddress)
	has.bits = bits
	r.addresses[place(data.number(unix.NFTA_BITWISE_DREG))] = has
	return nil
}

// addressesOf returns the addresses of a set, whose elements are sorted, as [portsOf] does
// ports.
func addressesOf(elements []element, ranges bool) []expected.Addresses {
	var out []expected.Addresses
	open := false
	for _, e := range elements {
		at, _ := netip.AddrFromSlice(e.key)
		if open {
			out[len(out)-1].Last = at.Prev()
		}
		if open = ranges && !e.end; e.end {
			continue
		}
		out = append(out, expected.Addresses{First: at, Last: at})
	}
	if open {
		all, _ := expected.Block(out[len(out)-1].First, 0)
		out[len(out)-1].Last = all.Last
	}
	return out
}

// target describes where registers lead a packet that the expressions before it loaded
// with constants or from a map. The numbers are those of the attributes with the
// registers, 0 for none.
func (r *ruleReader) target(data attributes, first, last, firstPort, lastPort uint16) string {
	if r.mapped {
		return r.targetMap(data, first, last, firstPort, lastPort)
	}
	known := true
	// constant returns the value of a register, of one of these sizes.
	constant := func(kind uint16, sizes ...int) []byte {
		if kind == 0 || !data.has(kind) {
			return nil
		}
		v := r.constants[place(data.number(kind))]
		known = known && slices.Contains(sizes, len(v))
		return v
	}
	low, high := constant(first, 4, 16), constant(last, 4, 16)
	port, lastOfPorts := constant(firstPort, 2), constant(lastPort, 2)
	if !known || high != nil && len(low) != len(high) || lastOfPorts != nil && port == nil {
		return " by what a packet has"
	}
	var to expected.Addresses
	if at, ok := netip.AddrFromSlice(low); ok {
		to = expected.Addresses{First: at, Last: at}
	}
	if at, ok := netip.AddrFromSlice(high); ok {
		to.Last = at
	}
	var through expected.Range
	if port != nil {
		through = one(port)
	}
	if lastOfPorts != nil {
		through.Last = one(lastOfPorts).First
	}
	return expected.Target(to, through)
}

// longestPlace is how many registers the longest address and a port take.
const longestPlace = 5

// placed is where a map leads the packets with one value of its fields.
type placed struct {
	fields string
	to     []byte // an address, and possibly a port
}

// targetMap is [ruleReader.target] of a map.
func (r *ruleReader) targetMap(data attributes, first, last, firstPort, lastPort uint16) string {
	size := 4
	if data.number(unix.NFTA_NAT_FAMILY) == unix.NFPROTO_IPV6 {
		size = 16
	}
	// in reports whether a register is that one. Without a range, the kernel names it twice.
	in := func(kind uint16, at uint32) bool { return !data.has(kind) || place(data.number(kind)) == at }
	portAt := r.inMap + registersOf(size)
	if len(r.places) == 0 || first != unix.NFTA_NAT_REG_ADDR_MIN || !data.has(first) || !in(first, r.inMap) || !in(last, r.inMap) || !in(firstPort, portAt) || !in(lastPort, portAt) {
		return expected.ByMap
	}
	var out []string
	for _, p := range r.places {
		port := data.has(firstPort)
		if len(p.to) < size || port && len(p.to) < size+2 {
			return expected.ByMap
		}
		at, _ := netip.AddrFromSlice(p.to[:size])
		text := p.fields + ": " + at.String()
		if port {
			text += " . " + portText(p.to[size:])
		}
		out = append(out, text)
	}
	return expected.TargetMap(out)
}

func portText(v []byte) string { return strconv.Itoa(int(one(v).First)) }

// byFields returns the places of a map, whose keys are in registers from one on that were
// loaded for it; nil if these do not all hold fields that are compared.
func (r *ruleReader) byFields(from uint32, loads []uint32, elements []element) []placed {
	var out []placed
	for _, e := range elements {
		var words []string
		key, next := e.key, from
		for _, at := range loads {
			var size int
			var text func([]byte) string
			switch {
			case r.holds[at] == holdsProtocol:
				size, text = 1, func(v []byte) string { return expected.ProtocolName(v[0]) }
			case r.holds[at] == holdsPort:
				size, text = 2, portText
			case r.holds[at] == holdsAddress && r.isWhole(at):
				side := "daddr "
				if r.whole(at+unix.NFT_REG32_00) == &r.rule.From {
					side = "saddr "
				}
				size, text = r.addressSize(), func(v []byte) string { at, _ := netip.AddrFromSlice(v); return side + at.String() }
			}
			if text == nil || len(key) < size || at != next {
				return nil
			}
			words = append(words, text(key[:size]))
			// Each field but a single one fills whole registers, the rest of which is zero in
			// a packet.
			next += registersOf(size)
			whole := min(int(registersOf(size))*unix.NFT_REG32_SIZE, len(key))
			if strings.Trim(string(key[size:whole]), "\x00") != "" {
				return nil
			}
			key = key[whole:]
		}
		if len(key) > 0 || len(e.value) == 0 {
			return nil
		}
		out = append(out, placed{strings.Join(words, " . "), e.value})
	}
	return out
}

// Flags of a range of linux/netfilter/nf_nat.h.
const (
	natAddresses = 1
	natPorts     = 2
)

// xtTarget is [ruleReader.target] of a target that iptables passes to the kernel in its own
// form: struct nf_nat_range, or for the older targets for IPv4 struct
// nf_nat_ipv4_multi_range_compat.
func (r *ruleReader) xtTarget(name string, data attributes) string {
	info := data[unix.NFTA_TARGET_INFO]
	switch name {
	case "DNAT", "SNAT", "REDIRECT", "MASQUERADE":
	default:
		return ""
	}
	flagsAt, size, firstAt, lastAt, portsAt := 0, 40, 4, 20, 36
	if r.family == unix.NFPROTO_IPV4 && data.number(unix.NFTA_TARGET_REV) == 0 {
		flagsAt, size, firstAt, lastAt, portsAt = 4, 20, 8, 12, 16
	}
	if len(info) < size {
		return ""
	}
	var to expected.Addresses
	flags := binary.NativeEndian.Uint32(info[flagsAt:])
	if flags&natAddresses != 0 {
		to.First, _ = netip.AddrFromSlice(info[firstAt:][:r.addressSize()])
		to.Last, _ = netip.AddrFromSlice(info[lastAt:][:r.addressSize()])
	}
	var through expected.Range
	if flags&natPorts != 0 {
		through = expected.Range{First: one(info[portsAt:]).First, Last: one(info[portsAt+2:]).First}
	}
	return expected.Target(to, through)
}
