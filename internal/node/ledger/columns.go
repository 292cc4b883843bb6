package ledger

import (
	"database/sql/driver"

	"every.channel/ec-verify/pkg/nar"
)

// columns takes the values of a row one after the other. The first that is not of the
// type that the schema has for it, which only damage makes, is the error.
type columns struct {
	values []driver.Value
	err    error
}

func next[T any](c *columns) (v T) {
	v, ok := c.values[0].(T)
	c.values = c.values[1:]
	if !ok && c.err == nil {
		c.err = damaged("a value is of another type than its column")
	}
	return v
}

func (c *columns) integer() int64 { return next[int64](c) }

// null takes the next value if it is null, and reports whether it is.
func (c *columns) null() bool {
	if c.values[0] != nil {
		return false
	}
	c.values = c.values[1:]
	return true
}

// text is valid as long as the row is.
func (c *columns) text() string { return next[string](c) }

func (c *columns) hash() nar.Hash {
	h, err := toHash(next[[]byte](c))
	if err != nil && c.err == nil {
		c.err = err
	}
	return h
}
