package expected

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Addresses is a range of addresses of IP, including both ends.
type Addresses struct{ First, Last netip.Addr }

func (a Addresses) String() string {
	if a.First == a.Last {
		return a.First.String()
	}
	return a.First.String() + "-" + a.Last.String()
}

// Block returns the addresses that begin with the first bits of an address. It reports
// whether there are that many bits.
func Block(at netip.Addr, bits int) (Addresses, bool) {
	p, err := at.Prefix(bits)
	if err != nil {
		return Addresses{}, false
	}
	last := p.Addr().AsSlice()
	for i := range last {
		last[i] |= byte(0xff >> min(max(bits-8*i, 0), 8))
	}
	end, ok := netip.AddrFromSlice(last)
	return Addresses{p.Addr(), end}, ok
}

// addressesOf reads "192.0.2.1", "192.0.2.0/24", "192.0.2.0/255.255.255.0", or
// "192.0.2.1-192.0.2.9".
func addressesOf(word string) (Addresses, bool) {
	if first, last, isRange := strings.Cut(word, "-"); isRange {
		a, err := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		return Addresses{a, b}, err == nil && err2 == nil && a.BitLen() == b.BitLen() && !b.Less(a)
	}
	host, length, isBlock := strings.Cut(word, "/")
	at, err := netip.ParseAddr(host)
	if err != nil || at.Zone() != "" {
		return Addresses{}, false
	}
	bits := at.BitLen()
	if mask, err := netip.ParseAddr(length); err == nil {
		ones, ok := PrefixLength(mask.AsSlice())
		if !ok || mask.BitLen() != bits {
			return Addresses{}, false
		}
		bits = ones
	} else if isBlock {
		if bits, err = strconv.Atoi(length); err != nil {
			return Addresses{}, false
		}
	}
	return Block(at, bits)
}

// PrefixLength returns the number of ones at the start of a mask, and reports whether
// only zeros follow.
func PrefixLength(mask []byte) (int, bool) {
	ones := 0
	for _, b := range mask {
		for bit := byte(0x80); bit != 0 && b&bit != 0; bit >>= 1 {
			ones++
		}
		if b != 0xff {
			break
		}
	}
	for i, b := range mask {
		if b != ^byte(0xff>>min(max(ones-8*i, 0), 8)) {
			return 0, false
		}
	}
	return ones, true
}

// addresses returns ranges in a canonical form: sorted, and joined where they touch.
func addresses(ranges []Addresses) string {
	slices.SortFunc(ranges, func(a, b Addresses) int { return a.First.Compare(b.First) })
	var merged []Addresses
	for _, r := range ranges {
		if n := len(merged); n > 0 && merged[n-1].Last.BitLen() == r.First.BitLen() {
			last := &merged[n-1].Last
			if next := last.Next(); !next.IsValid() || !next.Less(r.First) {
				if last.Less(r.Last) {
					*last = r.Last
				}
				continue
			}
		}
		merged = append(merged, r)
	}
	var out []string
	for _, r := range merged {
		out = append(out, r.String())
	}
	return strings.Join(out, ",")
}

// Target returns the words after a verdict that say where it leads a packet; "" for
// neither an address nor a port. The zero values of to and ports mean none.
func Target(to Addresses, through Range) string {
	if !to.First.IsValid() && through == (Range{}) {
		return ""
	}
	text := ""
	if to.First.IsValid() {
		text = to.String()
		if to.First.Is6() && through != (Range{}) {
			text = "[" + text + "]"
		}
	}
	if through != (Range{}) {
		text += ":" + ports([]Range{through})
	}
	return " to " + text
}

// ByMap is [Target] of a verdict whose places are in a map that is not compared.
const ByMap = " by a map"

// TargetMap is [Target] of a verdict with a place for each of several packets, given as
// "FIELD . FIELD: ADDRESS . PORT".
func TargetMap(elements []string) string {
	slices.Sort(elements)
	return " by {" + strings.Join(elements, ", ") + "}"
}

// targetOf is Target of what a configuration writes: ADDRESSES:PORTS or one of them.
func targetOf(word string) (string, bool) {
	host, port := word, ""
	switch end := strings.LastIndexByte(word, ']'); {
	case end >= 0: // [2001:db8::1]:80
		host, port = strings.NewReplacer("[", "", "]", "").Replace(word[:end]), word[end+1:]
		if port != "" && port[0] != ':' {
			return "", false
		}
		port = strings.TrimPrefix(port, ":")
	case strings.HasPrefix(word, ":") || strings.Count(word, ":") == 1:
		host, port, _ = strings.Cut(word, ":")
	}
	var to Addresses
	var through Range
	ok := host != "" || port != ""
	if host != "" {
		to, ok = addressesOf(host)
	}
	if ok && port != "" {
		port, _, _ = strings.Cut(port, "/") // from where iptables counts
		through, ok = rangeOf(port, "-")
	}
	return Target(to, through), ok
}
