package running

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
)

// maxInterfaces limits the network interfaces that are looked at.
const maxInterfaces = 10_000

// Attributes of linux/pkt_cls.h and linux/if_link.h.
const (
	tcaBPFID    = 11
	tcaBPFName  = 7
	xdpNumbers  = unix.IFLA_XDP_PROG_ID // of any mode, of the driver's, the kernel's and the device's
	xdpNumbers4 = xdpNumbers + 3
	sizeofTcmsg = 20 // struct tcmsg of linux/rtnetlink.h
)

// filtered are where packets of an interface go through filters: the class that these
// belong to.
var filtered = []struct {
	name   string
	parent uint32
}{{"ingress", 0xfffffff2}, {"egress", 0xfffffff3}, {"root", 0}}

// interfaces finds the programs on network interfaces that no process keeps.
func (b *bpfLook) interfaces() error {
	const name = "BPF programs on interfaces"
	conn, err := dialNetlink(unix.NETLINK_ROUTE)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, os.ErrPermission) {
		b.notSeen = append(b.notSeen, name+" (in a unit it takes AF_NETLINK among RestrictAddressFamilies)")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer conn.Close()
	links, err := dump(conn, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), unix.SizeofIfInfomsg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(links) > maxInterfaces {
		b.unseen(name, fmt.Errorf("more than %d interfaces", maxInterfaces))
		return nil
	}
	for _, m := range links {
		if err := b.oneInterface(conn, m.Data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bpfLook) oneInterface(conn *netlink.Conn, link []byte) error {
	has, err := readAttributes(link[unix.SizeofIfInfomsg:])
	if err != nil {
		return err
	}
	name := has.text(unix.IFLA_IFNAME)
	b.checked++
	xdp, err := has.inner(unix.IFLA_XDP)
	if err != nil {
		return err
	}
	for number := uint16(xdpNumbers); number <= xdpNumbers4; number++ {
		b.attached(name, "xdp", "", xdp[number])
	}
	for _, at := range filtered {
		of := make([]byte, sizeofTcmsg)
		copy(of[4:8], link[4:8]) // the number of the interface
		binary.NativeEndian.PutUint32(of[12:], at.parent)
		filters, err := dump(conn, unix.RTM_GETTFILTER, of, sizeofTcmsg)
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil // removed meanwhile, or a kernel without filters
		}
		if err != nil {
			return err
		}
		for _, m := range filters {
			filter, err := readAttributes(m.Data[sizeofTcmsg:])
			if err != nil {
				return err
			}
			if filter.text(unix.TCA_KIND) != "bpf" {
				continue
			}
			options, err := filter.inner(unix.TCA_OPTIONS)
			if err != nil {
				return err
			}
			b.attached(name, "tc "+at.name, options.text(tcaBPFName), options[tcaBPFID])
		}
	}
	return nil
}

// attached finds the program with a number, in the kernel's bytes, at a place of an
// interface; none has the number 0.
func (b *bpfLook) attached(name, place, program string, number []byte) {
	if len(number) != 4 {
		return
	}
	id := binary.NativeEndian.Uint32(number)
	if id == 0 || b.kept[id] {
		return
	}
	b.kept[id] = true
	b.find(report.Finding{
		Cause: report.CodeUnknown, Path: "interface " + name, Field: "BPF " + place, Want: wantBPF,
		Got: fmt.Sprintf("number %d, %s, kept by no process", id, cmp.Or(program, "without a name")),
	})
}
