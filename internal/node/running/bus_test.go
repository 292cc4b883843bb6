package running

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// peer is the other end of a bus: a library that speaks D-Bus. answer returns the values
// of a reply, or an error.
func peer(t *testing.T, answer func(call *dbus.Message) ([]any, *dbus.Error)) *bus {
	t.Helper()
	at, err := net.Listen("unix", filepath.Join(t.TempDir(), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		c, err := at.Accept()
		if err == nil {
			err = serve(c, answer)
			c.Close()
		}
		served <- err
	}()
	c, err := net.Dial("unix", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBus(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.close()
		at.Close()
		if err := <-served; err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return b
}

func serve(c net.Conn, answer func(*dbus.Message) ([]any, *dbus.Error)) error {
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "\x00AUTH EXTERNAL ") {
		return fmt.Errorf("authentication: %q, %w", line, err)
	}
	if _, err := io.WriteString(c, "OK 0123456789abcdef\r\n"); err != nil {
		return err
	}
	if line, err := in.ReadString('\n'); err != nil || line != "BEGIN\r\n" {
		return fmt.Errorf("begin: %q, %w", line, err)
	}
	for {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		values, failed := answer(call)
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Body: values, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()),
			dbus.FieldSender:      dbus.MakeVariant("org.freedesktop.systemd1"),
		}}
		if failed != nil {
			reply.Type, reply.Body = dbus.TypeError, failed.Body
			reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(failed.Name)
		}
		if len(reply.Body) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		}
		signal := &dbus.Message{Type: dbus.TypeSignal, Body: []any{strings.Repeat("x", 1000)}, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldInterface: dbus.MakeVariant("a.b"),
			dbus.FieldMember: dbus.MakeVariant("Changed"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
		}}
		for _, message := range []*dbus.Message{signal, reply} {
			order := []binary.ByteOrder{binary.LittleEndian, binary.BigEndian}[call.Serial()%2]
			if err := message.EncodeTo(c, order); err != nil {
				return err
			}
		}
	}
}

// TestBus asks a library for more properties than fit into a socket, in both byte orders
// and between signals.
func TestBus(t *testing.T) {
	type command struct {
		Program   string
		Arguments []string
		Ignore    bool
		Started   uint64
	}
	values := map[string]any{
		"FragmentPath": "/a", "Empty": "", "DropInPaths": []string{"/b", "", "/c"}, "None": []string{}, "NeedDaemonReload": true,
		"At": uint64(1) << 40, "ExecStart": []command{{"/bin/a", []string{"a", "b"}, true, 7}, {"/bin/b", []string{}, false, 1 << 50}},
		"No": []command{}, "Map": map[string]dbus.Variant{"x": dbus.MakeVariant(int32(-3))}, "Byte": byte(3), "Short": int16(-2), "Half": uint16(9),
		"Long": int64(-1), "Number": 0.5, "Word": uint32(4), "Type": dbus.SignatureOf(""), "Path": dbus.ObjectPath("/x"),
	}
	want := map[string]any{
		"FragmentPath": "/a", "Empty": "", "DropInPaths": []string{"/b", "", "/c"}, "None": []string{}, "NeedDaemonReload": true,
		"At":        uint64(1) << 40,
		"ExecStart": []any{[]any{"/bin/a", []string{"a", "b"}, true, uint64(7)}, []any{"/bin/b", []string{}, false, uint64(1 << 50)}},
		"No":        []any{}, "Map": []any{[]any{"x", int32(-3)}}, "Byte": byte(3), "Short": int16(-2), "Half": uint16(9),
		"Long": int64(-1), "Number": 0.5, "Word": uint32(4), "Type": "s", "Path": "/x",
	}
	b := peer(t, func(call *dbus.Message) ([]any, *dbus.Error) {
		if call.Headers[dbus.FieldMember].Value() == "List" {
			return []any{values["ExecStart"]}, nil
		}
		object := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		switch {
		case call.Body[0] != "org.freedesktop.systemd1.Unit":
			return nil, &dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownProperty", Body: []any{"no such kind"}}
		case strings.HasSuffix(string(object), "7"):
			return nil, &dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
		}
		return []any{dbus.MakeVariant(values[call.Body[1].(string)])}, nil
	})
	var names, objects []string
	for name := range want {
		names = append(names, name)
	}
	for i := range 100 {
		objects = append(objects, fmt.Sprintf("/unit/%d", i))
	}
	got, err := b.properties(objects, "Unit", names...)
	if err != nil {
		t.Fatal(err)
	}
	for i, object := range objects {
		if gone := strings.HasSuffix(object, "7"); gone != (got[i] == nil) {
			t.Errorf("%s: %v", object, got[i])
		}
		for k, value := range got[i] {
			if !reflect.DeepEqual(value, want[names[k]]) {
				t.Errorf("%s of %s: got %#v, want %#v", names[k], object, value, want[names[k]])
			}
		}
	}
	if got, err := b.call("/", "Manager", "List"); err != nil || !reflect.DeepEqual(got, want["ExecStart"]) {
		t.Errorf("list: got %#v, %v", got, err)
	}
	if got, err := b.properties(objects[:1], "Other", "x"); err == nil || !strings.Contains(err.Error(), "property x of /unit/0: no such kind") {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestBusEnds: a peer that answers nothing is given up when the run ends.
func TestBusEnds(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.ReadFull(there, make([]byte, 10))
		cancel()
	}()
	if _, err := newBus(ctx, here); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzParseReply: whatever is sent, there is an error or a value.
func FuzzParseReply(f *testing.F) {
	seed := func(values ...any) {
		m := &dbus.Message{Type: dbus.TypeMethodReply, Body: values, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(values...)),
		}}
		var raw strings.Builder
		if err := m.EncodeTo(&raw, binary.LittleEndian); err != nil {
			f.Fatal(err)
		}
		data := []byte(raw.String())
		f.Add(binary.LittleEndian.Uint32(data[12:]), data[16:])
	}
	seed("a")
	seed([]string{"a", "b"})
	seed(dbus.MakeVariant([]struct {
		A string
		B []string
		C uint64
	}{{"a", []string{"b"}, 3}}))
	seed(map[string]dbus.Variant{"a": dbus.MakeVariant(true)})
	f.Fuzz(func(t *testing.T, fields uint32, data []byte) {
		if uint64(fields)+7 > uint64(len(data)) {
			return // reply reads as many
		}
		_, value, err := parseReply(binary.LittleEndian, busReply, fields, data)
		if err != nil && value != nil {
			t.Errorf("%v, and %v", value, err)
		}
	})
}
