package running

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/hostfile"
)

// Ruleset is the kernel's rules for packets in the network of the machine's first process.
type Ruleset struct {
	Tables []RuleTable
	// Legacy are the tables that the kernel has for the older iptables.
	Legacy []string
}

// RuleTable is a table in the kernel.
type RuleTable struct {
	expected.Table
	Dormant bool // the table is not in effect
	// Filled has the named sets with an element, and a description of the first one.
	Filled map[string]string
}

// Limits for reading the kernel's rules.
const (
	maxElements = 100_000
	maxRules    = 8 << 20 // bytes of all rules, in the form in which they are compared, and of names
	maxLegacy   = 4096    // bytes of the list of tables
)

// KernelRules returns the rules of the kernel. Reading them requires CAP_NET_ADMIN and the
// network of the first process. Without nft, only the tables of the older
// iptables are listed: to ask for the others would load the module that has them.
func KernelRules(ctx context.Context, nft bool) (*Ruleset, error) {
	if !nft {
		return legacyRules(&Ruleset{})
	}
	if first, err := namespaceOf(firstProcess, "net"); err != nil {
		return nil, err
	} else if !inNamespace(proc+"/self", "net", first) {
		return nil, errors.New("this is not the network of the first process; in a unit, set PrivateNetwork=no")
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return legacyRules(&Ruleset{}) // a kernel without such rules
	}
	if err != nil {
		return nil, fmt.Errorf("%w; in a unit, add AF_NETLINK to RestrictAddressFamilies", err)
	}
	defer conn.Close()
	// The elements of sets are asked for while rules are still being received.
	beside, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer beside.Close()
	n := newNetfilter(ctx, conn, beside)
	rules, err := n.ruleset()
	switch {
	case errors.Is(err, unix.EINVAL) && len(n.out.Tables) == 0:
		return legacyRules(&Ruleset{}) // a kernel without nf_tables
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w; this requires root, and in a unit CAP_NET_ADMIN", err)
	case err != nil:
		return nil, err
	}
	return legacyRules(rules)
}

// legacyRules adds the tables of the older iptables.
func legacyRules(rules *Ruleset) (*Ruleset, error) {
	for _, family := range []string{"ip", "ip6", "arp"} {
		text, err := hostfile.ReadSmall(proc+"/1/net/"+family+"_tables_names", maxLegacy)
		if err != nil && !isAbsent(err) {
			return nil, err
		}
		for _, name := range strings.Fields(string(text)) {
			rules.Legacy = append(rules.Legacy, family+" "+name)
		}
	}
	return rules, nil
}

// netfilter asks the kernel for its rules.
type netfilter struct {
	ctx          context.Context
	conn, beside *netlink.Conn         // beside is for the elements of sets
	sets         map[string]*kernelSet // by family, table and name
	out          Ruleset
	size         int // bytes of the rules in out, and of names
	// Where tables and chains are in out, by their keys.
	tables, chains map[string]int
}

func newNetfilter(ctx context.Context, conn, beside *netlink.Conn) *netfilter {
	return &netfilter{ctx: ctx, conn: conn, beside: beside, sets: map[string]*kernelSet{}, tables: map[string]int{}, chains: map[string]int{}}
}

// kernelSet is a set in the kernel.
type kernelSet struct {
	anonymous bool
	interval  bool
	changing  bool // by rules, or with time
}

// families are the names of the families of tables.
var families = map[uint8]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_ARP: "arp", unix.NFPROTO_NETDEV: "netdev",
	unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV6: "ip6",
}

func familyName(number uint8) string { return cmp.Or(families[number], strconv.Itoa(int(number))) }

func (n *netfilter) ruleset() (*Ruleset, error) {
	before, err := n.generation()
	if err != nil {
		return nil, err
	}
	for _, list := range []struct {
		kind netlink.HeaderType
		add  func(family uint8, has attributes) error
	}{
		{unix.NFT_MSG_GETTABLE, n.addTable}, {unix.NFT_MSG_GETCHAIN, n.addChain},
		{unix.NFT_MSG_GETSET, n.addSet}, {unix.NFT_MSG_GETRULE, n.addRule},
	} {
		if err := n.each(n.conn, list.kind, unix.NFPROTO_UNSPEC, nil, func(family uint8, has attributes) error {
			if err := list.add(family, has); err != nil {
				return fmt.Errorf("the kernel's rules: %w", err)
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	after, err := n.generation()
	if err == nil && after != before {
		err = errChanging // chains and rules may be of different times
	}
	return &n.out, err
}

// generation returns the number of the last change of the rules.
func (n *netfilter) generation() (uint32, error) {
	messages, err := n.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.NFPROTO_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, err
	}
	if len(messages) != 1 || len(messages[0].Data) < 4 {
		return 0, errors.New("the kernel does not say when its rules were changed")
	}
	has, err := readAttributes(messages[0].Data[4:])
	return has.number(unix.NFTA_GEN_ID), err
}

// each calls do with the family and the attributes of each of the kernel's objects of a
// kind.
func (n *netfilter) each(conn *netlink.Conn, kind netlink.HeaderType, family uint8, of []netlink.Attribute, do func(family uint8, has attributes) error) error {
	data, err := netlink.MarshalAttributes(of)
	if err != nil {
		return err
	}
	request := append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...)
	return each(conn, unix.NFNL_SUBSYS_NFTABLES<<8|kind, request, 4, func(m netlink.Message) error {
		has, err := readAttributes(m.Data[4:])
		if err == nil {
			err = do(m.Data[0], has)
		}
		return cmp.Or(err, n.ctx.Err())
	})
}

// take counts what is kept of the kernel's answers, in bytes.
func (n *netfilter) take(size int) error {
	if n.size += size; n.size > maxRules {
		return fmt.Errorf("they take more than %d bytes", maxRules)
	}
	return nil
}

// table returns a table that the kernel has already listed.
func (n *netfilter) table(family uint8, name string) (*RuleTable, error) {
	i, ok := n.tables[keyOf(family, name, "")]
	if !ok {
		return nil, errChanging
	}
	return &n.out.Tables[i], nil
}

func (n *netfilter) addTable(family uint8, has attributes) error {
	name := has.text(unix.NFTA_TABLE_NAME)
	n.tables[keyOf(family, name, "")] = len(n.out.Tables)
	n.out.Tables = append(n.out.Tables, RuleTable{
		Table:   expected.Table{Family: familyName(family), Name: name},
		Dormant: has.number(unix.NFTA_TABLE_FLAGS)&unix.NFT_TABLE_F_DORMANT != 0, Filled: map[string]string{},
	})
	return n.take(len(name))
}

// hookNames are the names of the kernel's hooks, by number.
var hookNames = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

func (n *netfilter) addChain(family uint8, has attributes) error {
	t, err := n.table(family, has.text(unix.NFTA_CHAIN_TABLE))
	if err != nil {
		return err
	}
	c := expected.Chain{Name: has.text(unix.NFTA_CHAIN_NAME)}
	if has.has(unix.NFTA_CHAIN_HOOK) {
		hook, err := has.inner(unix.NFTA_CHAIN_HOOK)
		if err != nil {
			return err
		}
		number := hook.number(unix.NFTA_HOOK_HOOKNUM)
		switch {
		case family == unix.NFPROTO_NETDEV:
			c.Hook = []string{"ingress", "egress"}[min(number, 1)]
		case int(number) < len(hookNames):
			c.Hook = hookNames[number]
		default:
			c.Hook = strconv.Itoa(int(number))
		}
		c.Policy = "accept"
		if has.has(unix.NFTA_CHAIN_POLICY) && has.number(unix.NFTA_CHAIN_POLICY) == 0 {
			c.Policy = "drop"
		}
	}
	n.chains[keyOf(family, t.Name, c.Name)] = len(t.Chains)
	t.Chains = append(t.Chains, c)
	return n.take(len(t.Name) + len(c.Name))
}

// keyOf identifies a set, a chain, or, without a name, a table.
func keyOf(family uint8, table, name string) string {
	return familyName(family) + "\x00" + table + "\x00" + name
}

func (n *netfilter) addSet(family uint8, has attributes) error {
	table, name, flags := has.text(unix.NFTA_SET_TABLE), has.text(unix.NFTA_SET_NAME), has.number(unix.NFTA_SET_FLAGS)
	s := &kernelSet{
		anonymous: flags&unix.NFT_SET_ANONYMOUS != 0, interval: flags&unix.NFT_SET_INTERVAL != 0,
		changing: flags&(unix.NFT_SET_EVAL|unix.NFT_SET_TIMEOUT) != 0,
	}
	n.sets[keyOf(family, table, name)] = s
	if err := n.take(len(table) + len(name)); err != nil {
		return err
	}
	t, err := n.table(family, table)
	switch {
	case err != nil || s.anonymous || flags&unix.NFT_SET_MAP != 0:
		return err
	case s.changing:
		t.Filled[name] = "elements that rules add, or that time removes"
		return nil
	}
	elements, err := n.elements(family, table, name)
	for _, e := range elements {
		if !e.end {
			t.Filled[name] = fmt.Sprintf("%d elements, such as %x", len(elements), e.key)
			break
		}
	}
	return err
}

// element is an element of a set, or the end of the one before it.
type element struct {
	key     []byte
	end     bool
	verdict string // of a map
	value   []byte // of another map
	limited bool   // by further expressions, or in time
}

func (n *netfilter) elements(family uint8, table, name string) ([]element, error) {
	var out []element
	add := func(_ uint8, has attributes) error {
		list, err := netlink.UnmarshalAttributes(has[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
		if err != nil {
			return err
		}
		for _, a := range list {
			e, err := readElement(a.Data)
			if err != nil {
				return err
			}
			if out = append(out, e); len(out) > maxElements {
				return fmt.Errorf("set %.100q has more than %d elements", name, maxElements)
			}
		}
		return nil
	}
	err := n.each(n.beside, unix.NFT_MSG_GETSETELEM, family, []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(table + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(name + "\x00")},
	}, add)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errChanging
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b element) int {
		if c := bytes.Compare(a.key, b.key); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1
		}
		return 1
	})
	return out, nil
}

func readElement(data []byte) (element, error) {
	var e element
	has, err := readAttributes(data)
	if err != nil {
		return e, err
	}
	key, err := has.inner(unix.NFTA_SET_ELEM_KEY)
	if err != nil {
		return e, err
	}
	// A copy, which does not keep the kernel's whole answer.
	e.limited = has.has(unix.NFTA_SET_ELEM_EXPR) || has.has(nftaSetElemExpressions) || has.has(unix.NFTA_SET_ELEM_TIMEOUT)
	e.key, e.end = bytes.Clone(key[unix.NFTA_DATA_VALUE]), has.number(unix.NFTA_SET_ELEM_FLAGS)&unix.NFT_SET_ELEM_INTERVAL_END != 0
	value, err := has.inner(unix.NFTA_SET_ELEM_DATA)
	if err != nil {
		return e, err
	}
	e.value = bytes.Clone(value[unix.NFTA_DATA_VALUE])
	e.verdict, err = readVerdict(has, unix.NFTA_SET_ELEM_DATA)
	return e, err
}

// readVerdict returns the verdict in an attribute; "" if there is none.
func readVerdict(has attributes, kind uint16) (string, error) {
	data, err := has.inner(kind)
	if err != nil || !data.has(unix.NFTA_DATA_VERDICT) {
		return "", err
	}
	verdict, err := data.inner(unix.NFTA_DATA_VERDICT)
	if err != nil {
		return "", err
	}
	chain := verdict.text(unix.NFTA_VERDICT_CHAIN)
	switch code := int32(verdict.number(unix.NFTA_VERDICT_CODE)); code {
	case 0:
		return "drop", nil
	case 1:
		return "accept", nil
	case unix.NFT_CONTINUE, unix.NFT_BREAK:
		return "continue", nil
	case unix.NFT_JUMP:
		return "jump " + chain, nil
	case unix.NFT_GOTO:
		return "goto " + chain, nil
	case unix.NFT_RETURN:
		return "return", nil
	default:
		return "verdict " + strconv.Itoa(int(code)), nil
	}
}

func (n *netfilter) addRule(family uint8, has attributes) error {
	t, err := n.table(family, has.text(unix.NFTA_RULE_TABLE))
	if err != nil {
		return err
	}
	at, ok := n.chains[keyOf(family, t.Name, has.text(unix.NFTA_RULE_CHAIN))]
	if !ok {
		return errChanging
	}
	c := &t.Chains[at]
	list, err := netlink.UnmarshalAttributes(has[unix.NFTA_RULE_EXPRESSIONS])
	if err != nil {
		return err
	}
	r := newRuleReader(n, family, t.Name)
	for _, a := range list {
		expression, err := readAttributes(a.Data)
		if err != nil {
			return err
		}
		data, err := expression.inner(unix.NFTA_EXPR_DATA)
		if err != nil {
			return err
		}
		if err := r.read(expression.text(unix.NFTA_EXPR_NAME), data); err != nil {
			return err
		}
	}
	rule := r.end()
	c.Rules = append(c.Rules, rule)
	return n.take(len(rule))
}
