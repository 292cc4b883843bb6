package running

import (
	"encoding/binary"
	"errors"
	"math"
)

// decoder reads values of D-Bus. After an error it returns zero values.
type decoder struct {
	order binary.ByteOrder
	data  []byte
	at    int
	err   error
}

// maxBusDepth limits how deep values are in one another, as D-Bus does.
const maxBusDepth = 64

// Errors of a decoder.
var (
	errBusShort     = errors.New("D-Bus: a value goes beyond its message")
	errBusSignature = errors.New("D-Bus: a type that there is not")
)

// value reads a value of the first type in a signature, of which it is that of the same
// kind in Go; of an array of strings a []string, of any other one and of a structure a
// []any, and of a variant its value.
func (d *decoder) value(signature string, depth int) any {
	if depth > maxBusDepth || signature == "" {
		d.fail(errBusSignature)
	}
	if d.err != nil {
		return nil
	}
	switch signature[0] {
	case 'y':
		return d.byte()
	case 'b':
		return d.uint32() != 0
	case 'n':
		return int16(d.uint16()) //nolint:gosec // as it was sent
	case 'q':
		return d.uint16()
	case 'i':
		return int32(d.uint32()) //nolint:gosec // as it was sent
	case 'u', 'h':
		return d.uint32()
	case 'x':
		return int64(d.uint64()) //nolint:gosec // as it was sent
	case 't':
		return d.uint64()
	case 'd':
		return math.Float64frombits(d.uint64())
	case 's', 'o':
		return d.text(int64(d.uint32()))
	case 'g':
		return d.text(int64(d.byte()))
	case 'v':
		return d.value(d.text(int64(d.byte())), depth+1)
	case 'a':
		return d.array(signature[1:], depth+1)
	case '(', '{':
		return d.structure(signature, depth+1)
	}
	d.fail(errBusSignature)
	return nil
}

func (d *decoder) array(element string, depth int) any {
	if element == "" {
		d.fail(errBusSignature)
		return nil
	}
	size := int(d.uint32())
	switch element[0] {
	case 'x', 't', 'd', '(', '{':
		d.align(8) // even before no element
	}
	if d.err != nil || size > len(d.data)-d.at {
		d.fail(errBusShort)
		return nil
	}
	end := d.at + size
	if element[0] == 's' || element[0] == 'o' {
		texts := []string{}
		for d.err == nil && d.at < end {
			texts = append(texts, d.text(int64(d.uint32())))
		}
		return texts
	}
	values := []any{}
	for d.err == nil && d.at < end {
		before := d.at
		values = append(values, d.value(element, depth))
		if d.at == before {
			d.fail(errBusSignature) // an element of no size would never end
		}
	}
	return values
}

// structure reads one whose signature, with the bracket before it, starts a signature.
func (d *decoder) structure(signature string, depth int) any {
	d.align(8)
	values := []any{}
	members := signature[1:]
	for d.err == nil && members != "" && members[0] != ')' && members[0] != '}' {
		values = append(values, d.value(members, depth))
		n := typeLength(members, 0)
		if n == 0 {
			d.fail(errBusSignature)
			break
		}
		members = members[n:]
	}
	if members == "" {
		d.fail(errBusSignature)
	}
	return values
}

// typeLength returns the length of the first type in a signature, 0 if it has none.
func typeLength(signature string, depth int) int {
	if signature == "" || depth > maxBusDepth {
		return 0
	}
	switch signature[0] {
	case 'a':
		if n := typeLength(signature[1:], depth+1); n > 0 {
			return 1 + n
		}
		return 0
	case '(', '{':
		for at := 1; at < len(signature); {
			if signature[at] == ')' || signature[at] == '}' {
				return at + 1
			}
			n := typeLength(signature[at:], depth+1)
			if n == 0 {
				return 0
			}
			at += n
		}
		return 0
	}
	return 1
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) align(to int) { d.take((to - d.at%to) % to) }

// take returns the next n bytes.
func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.data)-d.at {
		d.fail(errBusShort)
		return nil
	}
	d.at += n
	return d.data[d.at-n : d.at]
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	d.align(2)
	if b := d.take(2); b != nil {
		return d.order.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	d.align(4)
	if b := d.take(4); b != nil {
		return d.order.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	d.align(8)
	if b := d.take(8); b != nil {
		return d.order.Uint64(b)
	}
	return 0
}

// text returns a text of n bytes, which a zero byte ends.
func (d *decoder) text(n int64) string {
	if n >= math.MaxInt32 {
		d.fail(errBusShort)
		return ""
	}
	b := d.take(int(n) + 1)
	if b == nil {
		return ""
	}
	return string(b[:n])
}
