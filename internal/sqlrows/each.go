// Package sqlrows reads many rows of a SQLite database in one call.
//
// database/sql asks for one row after the other, and the driver for one column after the
// other, each of which locks the connection two or three times: that takes longer than
// SQLite's own work. Here SQLite calls back for each row, with all of its columns and
// without copying them.
package sqlrows

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"

	"modernc.org/sqlite"
)

// DB is a connection or a transaction.
type DB interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Each runs a query, whose columns have these names, and calls row for each of its rows,
// in the order of the query. A value is an int64, a float64, a string, a []byte, or nil.
// Strings and byte slices are SQLite's own memory and change after row returns: copy what
// must be kept. row must not use db. An error from it ends the query and is returned
// unchanged.
func Each(ctx context.Context, db DB, columns []string, query string, row func(values []driver.Value) error) error {
	c := &call{row: row}
	id := c.enter()
	defer c.leave(id)
	var rows int64
	err := db.QueryRowContext(ctx, fmt.Sprintf("select %s(?, %s) from (%s)", function, strings.Join(columns, ", "), query), id).Scan(&rows)
	if c.err != nil {
		return c.err
	}
	return err
}

// function is the name of the aggregate function that a query calls. A program in the
// database can't: it is not one of those that an untrusted schema may call, and no
// number but that of a call under way leads anywhere.
const function = "ec_verify_each"

func init() { //nolint:gochecknoinits // before a connection is opened
	sqlite.MustRegisterFunction(function, &sqlite.FunctionImpl{
		NArgs: -1, VolatileArgs: true,
		MakeAggregate: func(sqlite.FunctionContext) (sqlite.AggregateFunction, error) { return &visit{}, nil },
	})
}

// calls are those under way.
var calls struct {
	sync.Mutex
	last  int64
	under map[int64]*call
}

type call struct {
	row func(values []driver.Value) error
	err error
}

func (c *call) enter() (id int64) {
	calls.Lock()
	defer calls.Unlock()
	if calls.under == nil {
		calls.under = make(map[int64]*call)
	}
	calls.last++
	calls.under[calls.last] = c
	return calls.last
}

func (c *call) leave(id int64) {
	calls.Lock()
	defer calls.Unlock()
	delete(calls.under, id)
}

// visit is one call as SQLite sees it: a function that counts rows.
type visit struct {
	call *call // nil before the first row
	rows int64
}

func (v *visit) Step(_ *sqlite.FunctionContext, values []driver.Value) error {
	if v.call == nil {
		id, _ := values[0].(int64)
		calls.Lock()
		v.call = calls.under[id]
		calls.Unlock()
		if v.call == nil {
			return fmt.Errorf("%s: no call is under way", function)
		}
	}
	if v.call.err != nil {
		return v.call.err
	}
	v.rows++
	v.call.err = v.call.row(values[1:])
	return v.call.err
}

func (v *visit) WindowInverse(*sqlite.FunctionContext, []driver.Value) error {
	return fmt.Errorf("%s is no window function", function)
}

func (v *visit) WindowValue(*sqlite.FunctionContext) (driver.Value, error) { return v.rows, nil }

func (v *visit) Final(*sqlite.FunctionContext) {}
