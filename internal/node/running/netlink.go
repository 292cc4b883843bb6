package running

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
)

// Limits of what the kernel is asked over netlink.
const (
	netlinkTimeout = 30 * time.Second // of one connection
	maxDumped      = 100_000          // objects of one kind
	maxDump        = 64 << 20         // bytes of them
)

// dialNetlink connects to a part of the kernel, for at most [netlinkTimeout].
func dialNetlink(family int) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// dump returns all the kernel's objects of a kind. Each has at least least bytes.
func dump(conn *netlink.Conn, kind netlink.HeaderType, request []byte, least int) ([]netlink.Message, error) {
	var messages []netlink.Message
	err := each(conn, kind, request, least, func(m netlink.Message) error {
		messages = append(messages, m)
		return nil
	})
	return messages, err
}

// each calls do with each of the kernel's objects of a kind, while the others are still
// to come: do must not ask anything on the same connection. After an error, which may be
// that of do, the connection is of no use.
func each(conn *netlink.Conn, kind netlink.HeaderType, request []byte, least int, do func(netlink.Message) error) error {
	sent, err := conn.Send(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: request,
	})
	if err != nil {
		return err
	}
	size, n := 0, 0
	for m, err := range conn.ReceiveIter() {
		switch size += len(m.Data); {
		case err != nil:
			return err
		case m.Header.Flags&netlink.DumpInterrupted != 0:
			return errChanging
		case len(m.Data) < least:
			return errors.New("the kernel's answer is too short")
		case n == maxDumped || size > maxDump:
			return fmt.Errorf("the kernel's answer has more than %d entries, or %d bytes", maxDumped, maxDump)
		}
		n++
		if err := netlink.Validate(sent, []netlink.Message{m}); err != nil {
			return err
		}
		if err := do(m); err != nil {
			return err
		}
	}
	return nil
}

// attributes are the attributes of a message, or of another attribute, by type.
type attributes map[uint16][]byte

// typeMask removes the flags for nested attributes and for the byte order from a type.
const typeMask = 0x3fff

func readAttributes(data []byte) (attributes, error) {
	list, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return nil, err
	}
	out := attributes{}
	for _, a := range list {
		out[a.Type&typeMask] = a.Data
	}
	return out, nil
}

// inner returns the attributes within one; none if it is missing.
func (a attributes) inner(kind uint16) (attributes, error) { return readAttributes(a[kind]) }

func (a attributes) text(kind uint16) string { return string(bytes.TrimRight(a[kind], "\x00")) }

// number returns a number of 32 bits in network byte order; 0 if there is none.
func (a attributes) number(kind uint16) uint32 {
	if len(a[kind]) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[kind])
}

func (a attributes) has(kind uint16) bool { _, ok := a[kind]; return ok }
