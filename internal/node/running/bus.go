package running

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A bus is a connection to a program that speaks D-Bus. It implements as much of the
// protocol as it takes to ask for many properties: a machine with thousands of mounts has
// tens of thousands, and a library that takes a goroutine and reflection for each would
// cost more than the rest of a check.
//
// See https://dbus.freedesktop.org/doc/dbus-specification.html.
type bus struct {
	conn   net.Conn
	in     *bufio.Reader
	unbind func() bool
	serial uint32
	out    []byte // messages to send
	body   []byte // of the last reply
}

const (
	// maxAhead limits the requests without a reply. As many fit into the buffer of a
	// socket, so that neither end waits until the other one reads.
	maxAhead = 256
	// maxBusLine limits a line of the authentication, and maxBusMessage a message, in
	// bytes.
	maxBusLine    = 512
	maxBusMessage = 64 << 20
	// keptBody is the largest buffer that is kept for the next reply, in bytes.
	keptBody = 64 << 10
)

// Types of messages.
const (
	busCall   = 1
	busReply  = 2
	busFailed = 3
)

// Fields of a message's header.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// answerError is the error with which the other end answers a request.
type answerError struct{ name, text string }

func (e *answerError) Error() string {
	if e.text == "" {
		return e.name
	}
	return e.text
}

var errUnasked = errors.New("D-Bus: a reply to nothing that was asked")

// newBus begins to speak D-Bus over conn, which the bus closes. It fails once ctx is done.
func newBus(ctx context.Context, conn net.Conn) (*bus, error) {
	b := &bus{conn: conn, in: bufio.NewReaderSize(conn, keptBody)}
	b.unbind = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err := b.authenticate(); err != nil {
		return nil, errors.Join(err, ctx.Err(), b.close())
	}
	return b, nil
}

func (b *bus) close() error {
	b.unbind()
	return b.conn.Close()
}

// authenticate says who this process is, which the other end sees by itself.
func (b *bus) authenticate() error {
	user := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
	if _, err := io.WriteString(b.conn, "\x00AUTH EXTERNAL "+user+"\r\n"); err != nil {
		return err
	}
	var line []byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		c, err := b.in.ReadByte()
		if err != nil {
			return err
		}
		if line = append(line, c); len(line) > maxBusLine {
			return fmt.Errorf("D-Bus: a line of more than %d bytes", maxBusLine)
		}
	}
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("D-Bus: the answer to AUTH EXTERNAL is %.100q", line)
	}
	_, err := io.WriteString(b.conn, "BEGIN\r\n")
	return err
}

// request is the request for a property, and its answer.
type request struct {
	object, kind, name string // kind is the last part of an interface, such as "Service"

	value    any // see [decoder.value]
	err      error
	answered bool
}

// ask sends all requests, and fills in their answers. Its error is one that ends the
// connection.
func (b *bus) ask(requests []request) error {
	first := b.serial + 1
	for sent, got := 0, 0; got < len(requests); {
		if sent < len(requests) && sent-got <= maxAhead/2 {
			b.out = b.out[:0]
			for ; sent < len(requests) && sent-got < maxAhead; sent++ {
				r := &requests[sent]
				b.add(r.object, "org.freedesktop.DBus.Properties", "Get", managerName+"."+r.kind, r.name)
			}
			if _, err := b.conn.Write(b.out); err != nil {
				return err
			}
		}
		serial, value, err := b.reply()
		var answer *answerError
		if err != nil && !errors.As(err, &answer) {
			return err
		}
		i := int(int32(serial - first)) //nolint:gosec // back and forth: serials may wrap around
		if i < 0 || i >= sent || requests[i].answered {
			return errUnasked
		}
		requests[i].value, requests[i].err, requests[i].answered = value, err, true
		got++
	}
	return nil
}

// properties asks for the named properties of each of the objects, and returns their
// values for each. An object that is gone has none.
func (b *bus) properties(objects []string, kind string, names ...string) ([][]any, error) {
	requests := make([]request, 0, len(objects)*len(names))
	for _, object := range objects {
		for _, name := range names {
			requests = append(requests, request{object: object, kind: kind, name: name})
		}
	}
	if err := b.ask(requests); err != nil {
		return nil, err
	}
	out := make([][]any, len(objects))
	for i := range objects {
		values := make([]any, 0, len(names))
		for _, r := range requests[i*len(names) : (i+1)*len(names)] {
			if isUnloaded(r.err) {
				values = nil
				break
			}
			if r.err != nil {
				return nil, fmt.Errorf("property %s of %s: %w", r.name, r.object, r.err)
			}
			values = append(values, r.value)
		}
		out[i] = values
	}
	return out, nil
}

// call calls a method of an object that takes nothing and returns one value.
func (b *bus) call(object, kind, method string) (any, error) {
	b.out = b.out[:0]
	b.add(object, managerName+"."+kind, method)
	if _, err := b.conn.Write(b.out); err != nil {
		return nil, err
	}
	serial, value, err := b.reply()
	if err == nil && serial != b.serial {
		err = errUnasked
	}
	return value, err
}

// add adds a call to the messages to send. All arguments are strings.
func (b *bus) add(object, iface, method string, arguments ...string) {
	b.serial++
	start := len(b.out)
	align := func(to int) {
		for (len(b.out)-start)%to != 0 {
			b.out = append(b.out, 0)
		}
	}
	text := func(s string) {
		align(4)
		b.out = binary.LittleEndian.AppendUint32(b.out, uint32(len(s))) //nolint:gosec // far below
		b.out = append(append(b.out, s...), 0)
	}
	b.out = append(b.out, 'l', busCall, 0, 1)
	b.out = append(b.out, make([]byte, 12)...) // three lengths and numbers, see below
	for _, f := range []struct {
		code, kind byte
		value      string
	}{{fieldPath, 'o', object}, {fieldInterface, 's', iface}, {fieldMember, 's', method}, {fieldDestination, 's', managerName}} {
		align(8)
		b.out = append(b.out, f.code, 1, f.kind, 0)
		text(f.value)
	}
	if len(arguments) > 0 {
		align(8)
		b.out = append(b.out, fieldSignature, 1, 'g', 0, byte(len(arguments)))
		b.out = append(b.out, strings.Repeat("s", len(arguments))+"\x00"...)
	}
	fields := len(b.out) - start - 16
	align(8)
	body := len(b.out)
	for _, argument := range arguments {
		text(argument)
	}
	head := b.out[start:]
	binary.LittleEndian.PutUint32(head[4:], uint32(len(b.out)-body)) //nolint:gosec // far below
	binary.LittleEndian.PutUint32(head[8:], b.serial)
	binary.LittleEndian.PutUint32(head[12:], uint32(fields)) //nolint:gosec // far below
}

// reply reads messages up to the next reply, and returns the serial of what it is the
// reply to and its first value. An error of the other end is an [answerError].
func (b *bus) reply() (serial uint32, value any, err error) {
	for {
		var head [16]byte
		if _, err := io.ReadFull(b.in, head[:]); err != nil {
			return 0, nil, err
		}
		var order binary.ByteOrder = binary.LittleEndian
		if head[0] == 'B' {
			order = binary.BigEndian
		} else if head[0] != 'l' {
			return 0, nil, errors.New("D-Bus: a message without a byte order")
		}
		fields, body := uint64(order.Uint32(head[12:])), uint64(order.Uint32(head[4:]))
		fields = (fields + 7) &^ 7
		if fields+body > maxBusMessage {
			return 0, nil, fmt.Errorf("D-Bus: a message of more than %d bytes", maxBusMessage)
		}
		if head[1] != busReply && head[1] != busFailed {
			// A signal, which the service manager sends to all.
			if _, err := b.in.Discard(int(fields + body)); err != nil { //nolint:gosec // limited above
				return 0, nil, err
			}
			continue
		}
		if uint64(cap(b.body)) < fields+body || cap(b.body) > keptBody {
			b.body = make([]byte, max(fields+body, 4<<10))
		}
		b.body = b.body[:fields+body]
		if _, err := io.ReadFull(b.in, b.body); err != nil {
			return 0, nil, err
		}
		return parseReply(order, head[1], order.Uint32(head[12:]), b.body)
	}
}

// parseReply reads a reply after the first 16 bytes: so many bytes of fields of the
// header, and the values at the next multiple of 8.
func parseReply(order binary.ByteOrder, kind byte, fields uint32, data []byte) (serial uint32, value any, err error) {
	d := &decoder{order: order, data: data[:fields]}
	var name, signature string
	for d.err == nil && d.at < len(d.data) {
		d.align(8)
		code := d.byte()
		field := d.value("v", 0)
		switch code {
		case fieldReplySerial:
			serial, _ = field.(uint32)
		case fieldErrorName:
			name, _ = field.(string)
		case fieldSignature:
			signature, _ = field.(string)
		}
	}
	if d.err != nil {
		return 0, nil, d.err
	}
	d = &decoder{order: order, data: data[(fields+7)&^7:]}
	if signature != "" {
		value = d.value(signature, 0)
	}
	switch {
	case d.err != nil:
		return 0, nil, d.err
	case kind == busFailed:
		text, _ := value.(string)
		return serial, nil, &answerError{name, text}
	}
	return serial, value, nil
}
