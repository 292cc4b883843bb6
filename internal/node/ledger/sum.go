package ledger

import (
	"crypto/sha256"
	"encoding/binary"

	"every.channel/ec-verify/pkg/nar"
)

// SQLite checks the structure of its file, not the values in it. So each row with a fact
// has a sum of all its values, and an inventory one of all its items.

// rowSum returns the sum of a row. Equal sums mean equal values of equal types
// in the same order.
func rowSum(values ...any) int64 {
	var room [512]byte
	b := room[:0]
	for _, v := range values {
		b = appendValue(b, v)
	}
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// appendValue appends v in a form that is self-delimiting.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
	case string:
		return append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(v))), v...)
	case nar.Hash:
		return append(append(b, 'h'), v[:]...)
	}
	// Naming the type would make every value escape to the heap.
	panic("ledger: no sum of a value of this type")
}

// digest returns the sum over what identifies inv and its items, which must be
// in order.
func (inv Inventory) digest() nar.Hash {
	h := sha256.New()
	b := appendValue(appendValue(appendValue(nil, string(inv.Tier)), inv.Manifest.Tag), inv.Manifest.SHA256)
	h.Write(b)
	for _, item := range inv.Items {
		b = appendValue(appendValue(appendValue(b[:0], string(item.Path)), item.Want), item.Cost)
		h.Write(b)
	}
	return nar.Hash(h.Sum(nil))
}
