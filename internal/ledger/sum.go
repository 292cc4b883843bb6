package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"every.channel/ec-verify/pkg/nar"
)

// SQLite checks the structure of its file, not the values in it. Each row that
// tells a fact so carries a sum of all its values, and an inventory one of all
// its items.

// rowSum returns the sum of a row. Equal sums mean equal values of equal types
// in the same order.
func rowSum(values ...any) int64 {
	h := sha256.New()
	for _, v := range values {
		addValue(h, v)
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}

// addValue writes v to h in a form that says where it ends.
func addValue(h hash.Hash, v any) {
	var number [9]byte
	switch v := v.(type) {
	case int64:
		number[0] = 'i'
		binary.BigEndian.PutUint64(number[1:], uint64(v))
		h.Write(number[:])
	case string:
		number[0] = 's'
		binary.BigEndian.PutUint64(number[1:], uint64(len(v)))
		h.Write(number[:])
		h.Write([]byte(v))
	case nar.Hash:
		h.Write([]byte{'h'})
		h.Write(v[:])
	default:
		panic(fmt.Sprintf("ledger: no sum of a %T", v))
	}
}

// digest returns the sum over what identifies inv and its items, which must be
// in order.
func (inv Inventory) digest() nar.Hash {
	h := sha256.New()
	addValue(h, string(inv.Tier))
	addValue(h, inv.Manifest.Tag)
	addValue(h, inv.Manifest.SHA256)
	for _, item := range inv.Items {
		addValue(h, string(item.Path))
		addValue(h, item.Want)
		addValue(h, item.Cost)
	}
	return nar.Hash(h.Sum(nil))
}
