package nixstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nix-community/go-nix/pkg/sqlite/nix_v10"

	"every.channel/ec-verify/internal/sqlrows"
	"every.channel/ec-verify/pkg/closure"
)

// maxScanRefs limits the references of a database that is read as a whole; they then take
// 16 MiB. A system has some hundred thousand, a large build machine some million.
const maxScanRefs = 2 << 20

// errTooMany means that a database is too large to be read as a whole; it is then read
// path by path, with limits.
var errTooMany = errors.New("too large to be read as a whole")

// scan implements Claims in three passes: over the index of paths, the references and the
// rows. A query for each path would take longer than hashing it if it is small. The order
// is that of the indices which Nix uses for lookups, so that the result is what Nix would
// see.
func (d *Database) scan(ctx context.Context, root closure.StorePath, others []closure.StorePath, most int64) (*Claims, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ids := make(map[closure.StorePath]int64, 1+len(others)) // 0 while not found
	for _, p := range slices.Concat(others, []closure.StorePath{root}) {
		ids[p] = 0
	}
	if err := scanPaths(ctx, conn, ids); err != nil {
		return nil, err
	}
	refs, err := scanRefs(ctx, conn)
	if err != nil {
		return nil, err
	}
	rows := make(map[int64]*registration)
	// Each row that is reached takes at least an entry.
	if most := int(d.most / Cost(closure.PathInfo{})); !refs.reach(ids[root], rows, most) {
		return nil, errTooMany
	}
	for _, p := range others {
		for _, ref := range append(refs.of(ids[p]), int32(ids[p])) {
			rows[int64(ref)] = nil
		}
	}
	if err := d.scanRows(ctx, conn, rows); err != nil {
		return nil, err
	}
	s := &scanned{
		ids: ids, refs: refs, rows: rows,
		claims: &Claims{Closure: make(closure.Closure, len(rows)), Others: make(closure.Closure)},
	}
	if row := rows[ids[root]]; row != nil && row.info.Path == root {
		s.claims.Valid = true
		if !s.addClosure(ids[root], d.most) {
			return nil, errTooMany
		}
	}
	if !s.addOthers(others, most) {
		return nil, errTooMany
	}
	return s.claims, nil
}

// scanned is what was read of a database, and what was made of it so far.
type scanned struct {
	ids    map[closure.StorePath]int64
	refs   references
	rows   map[int64]*registration
	claims *Claims
}

// add adds a row to one of the claims' closures. It returns the rows that it refers to,
// and how much memory it takes in bytes.
func (s *scanned) add(id int64, to closure.Closure) (next []int64, cost int64) {
	row := s.rows[id]
	row.seen = true
	next = row.resolve(s.refs.of(id), s.rows)
	if found, asked := s.ids[row.info.Path]; asked && found != id {
		row.bad = append(row.bad, rowError(string(row.info.Path), "path", errors.New("its index leads to another row")))
	}
	if len(row.bad) == 0 {
		to[row.info.Path] = row.info
	}
	s.claims.Malformed = append(s.claims.Malformed, row.bad...)
	return next, Cost(row.info) + int64(len(row.bad))*rowErrorCost
}

// addClosure adds everything that can be reached from a row. It returns false if that
// needs more than left bytes.
func (s *scanned) addClosure(root, left int64) bool {
	for todo := []int64{root}; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if left < 0 {
			return false
		}
		if !s.rows[id].seen {
			next, cost := s.add(id, s.claims.Closure)
			todo, left = append(todo, next...), left-cost
		}
	}
	return true
}

// addOthers adds those of paths that are not in the closure. It returns false where
// they take more than left bytes.
func (s *scanned) addOthers(paths []closure.StorePath, left int64) bool {
	for _, p := range paths {
		id := s.ids[p]
		switch row := s.rows[id]; {
		case row == nil || row.seen:
		case row.info.Path != p:
			s.claims.Malformed = append(s.claims.Malformed, rowError(string(p), "path", errors.New("its index leads to the row of another")))
		default:
			_, cost := s.add(id, s.claims.Others)
			left -= cost
		}
		if left < 0 {
			return false
		}
	}
	return true
}

// errOrder means that a damaged tree of pages may form a cycle.
var errOrder = errors.New("rows are out of order")

// errNumber means that a table numbers its rows by something else.
var errNumber = errors.New("the number of a row is not a number")

// scanPaths looks up the numbers of the rows of paths, and stores them in ids.
func scanPaths(ctx context.Context, conn *sql.Conn, ids map[closure.StorePath]int64) error {
	var last []byte
	const query = "select id, " + boundedPath + " as path from ValidPaths where path >= '/' and path < '0' order by path"
	return sqlrows.Each(ctx, conn, []string{"id", "path"}, query, func(values []driver.Value) error {
		id, isNumber := values[0].(int64)
		p, isText := values[1].(string)
		if !isNumber {
			return errNumber
		}
		if !isText {
			return nil
		}
		if p <= string(last) {
			return errOrder // or registered twice, which Nix's tables don't allow
		}
		last = append(last[:0], p...)
		if was, wanted := ids[closure.StorePath(p)]; wanted && was != id {
			ids[closure.StorePath(strings.Clone(p))] = id
		}
		return nil
	})
}

// references are the rows of Refs in the order of their referrers.
type references struct{ from, to []int32 }

func scanRefs(ctx context.Context, conn *sql.Conn) (refs references, err error) {
	// Room that grows would take twice as much for a moment.
	var n int
	if err := conn.QueryRowContext(ctx, "select count(*) from (select 1 from Refs limit ?)", maxScanRefs+1).Scan(&n); err != nil {
		return refs, err
	}
	if n > maxScanRefs {
		return refs, errTooMany
	}
	refs.from, refs.to = make([]int32, 0, n), make([]int32, 0, n)
	var lastFrom, lastTo int64
	const query = "select referrer, reference from Refs order by referrer, reference"
	err = sqlrows.Each(ctx, conn, []string{"referrer", "reference"}, query, func(values []driver.Value) error {
		from, fromNumber := values[0].(int64)
		to, toNumber := values[1].(int64)
		switch {
		case !fromNumber || !toNumber:
			return errNumber
		case len(refs.from) == maxScanRefs || min(from, to) < 1 || max(from, to) > math.MaxInt32:
			return errTooMany
		case from < lastFrom || from == lastFrom && to < lastTo:
			return errOrder
		}
		lastFrom, lastTo = from, to
		refs.from, refs.to = append(refs.from, int32(lastFrom)), append(refs.to, int32(lastTo))
		return nil
	})
	return refs, err
}

// of returns the references of a row.
func (r references) of(id int64) []int32 {
	begin, _ := slices.BinarySearch(r.from, int32(id))
	end := begin
	for end < len(r.from) && int64(r.from[end]) == id {
		end++
	}
	return r.to[begin:end:end]
}

// reach adds a row, and all rows that can be reached from it, to rows; 0 is no row. It
// returns false if there are more than most.
func (r references) reach(root int64, rows map[int64]*registration, most int) bool {
	if root == 0 {
		return true
	}
	rows[root] = nil
	for todo := []int64{root}; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, ref := range r.of(id) {
			if _, known := rows[int64(ref)]; !known {
				rows[int64(ref)] = nil
				todo = append(todo, int64(ref))
			}
		}
		if len(rows) > most {
			return false
		}
	}
	return true
}

// A registration is a row of ValidPaths: its well-formed parts, and its faults.
type registration struct {
	info closure.PathInfo
	bad  []*RowError
	// noPath says why its path is malformed; no reference to it is followed then.
	noPath error
	seen   bool // it was added to the claims
}

// resolve fills in the references and returns the rows that they lead to.
func (row *registration) resolve(refs []int32, rows map[int64]*registration) (next []int64) {
	row.info.References = make([]closure.StorePath, 0, min(len(refs), maxReferences))
	var fault error
	for _, ref := range refs {
		target := rows[int64(ref)]
		switch {
		case target == nil:
			fault = errors.New("one is not registered")
		case target.noPath != nil:
			fault = target.noPath
		case len(row.info.References) == maxReferences:
			fault = fmt.Errorf("more than %d references", maxReferences)
		default:
			row.info.References = append(row.info.References, target.info.Path)
			next = append(next, int64(ref))
		}
	}
	if fault != nil {
		// One error is enough to call the row malformed.
		row.bad = append(row.bad, rowError(string(row.info.Path), "references", fault))
	}
	slices.Sort(row.info.References)
	row.info.References = slices.Compact(row.info.References)
	return next
}

// scanRows reads those rows of ValidPaths that are keys of into. A value that is larger
// than Nix would write is not read, because one larger than maxValueSize would make the
// whole query fail; size says that there is one.
func (d *Database) scanRows(ctx context.Context, conn *sql.Conn, into map[int64]*registration) error {
	bounded := func(column, otherwise string) string {
		return fmt.Sprintf("case when octet_length(%[1]s) <= 4096 then %[1]s else %[2]s end as %[1]s", column, otherwise)
	}
	columns := []string{"id", "path", "size", "hash", "registrationTime", "deriver", "narSize", "ca"}
	query := "select " + strings.Join([]string{
		"id", boundedPath + " as path", "max(octet_length(hash), coalesce(octet_length(deriver), 0), coalesce(octet_length(narSize), 0), " +
			"coalesce(octet_length(ca), 0), coalesce(octet_length(sigs), 0), octet_length(registrationTime)) as size",
		bounded("hash", "''"), bounded("registrationTime", "'?'"), bounded("deriver", "null"), bounded("narSize", "null"), bounded("ca", "null"),
	}, ", ") + " from ValidPaths order by id"
	last := int64(math.MinInt64)
	return sqlrows.Each(ctx, conn, columns, query, func(values []driver.Value) error {
		id, isNumber := values[0].(int64)
		switch {
		case !isNumber:
			return errNumber
		case id <= last:
			return errOrder
		}
		last = id
		if _, wanted := into[id]; !wanted {
			return nil
		}
		row := &registration{}
		into[id] = row
		path, _ := values[1].(string)
		path = strings.Clone(path)
		if row.info.Path, row.noPath = d.dir.Parse(path); row.noPath != nil {
			return nil //nolint:nilerr // whoever refers to it is malformed, and says so
		}
		r := nix_v10.QueryPathInfoRow{ID: id}
		if size, _ := values[2].(int64); size > maxValueSize {
			row.bad = []*RowError{rowError(path, "row", fmt.Errorf("longer than %d bytes", maxValueSize))}
		} else if field, err := scanRow(&r, columns[3:], values[3:]); err != nil {
			row.bad = []*RowError{rowError(path, field, err)}
		} else {
			row.info, row.bad = decodeRow(d.dir, row.info.Path, r)
		}
		return nil
	})
}

// scanRow puts values into r, or returns which one does not convert to its type.
func scanRow(r *nix_v10.QueryPathInfoRow, columns []string, values []driver.Value) (field string, err error) {
	var hash sql.NullString
	var registered sql.NullInt64
	for i, to := range []sql.Scanner{&hash, &registered, &r.Deriver, &r.Narsize, &r.Ca} {
		if err := to.Scan(values[i]); err != nil {
			return columns[i], err
		}
	}
	for i, known := range []bool{hash.Valid, registered.Valid} {
		if !known {
			return columns[i], errors.New("null")
		}
	}
	// They are SQLite's memory.
	r.Hash, r.Deriver.String, r.Ca.String = strings.Clone(hash.String), strings.Clone(r.Deriver.String), strings.Clone(r.Ca.String)
	return "", nil
}
