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
func (d *Database) scan(ctx context.Context, root closure.StorePath, known []closure.PathInfo, most int64) (*Claims, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	asked := make(map[closure.StorePath]lookup, 1+len(known))
	asked[root] = lookup{path: root}
	for i := range known {
		if p := &known[i]; asked[p.Path].known == nil {
			asked[p.Path] = lookup{path: p.Path, known: p}
		}
	}
	if err := scanPaths(ctx, conn, asked); err != nil {
		return nil, err
	}
	refs, err := scanRefs(ctx, conn)
	if err != nil {
		return nil, err
	}
	rows := make(map[int64]*registration)
	// Each row that is reached takes at least an entry.
	if most := int(d.most / Cost(closure.PathInfo{})); !refs.reach(asked[root].id, rows, most) {
		return nil, errTooMany
	}
	for _, a := range asked {
		for _, ref := range append(refs.of(a.id), int32(a.id)) {
			rows[int64(ref)] = nil
		}
	}
	if err := d.scanRows(ctx, conn, asked, rows); err != nil {
		return nil, err
	}
	s := &scanned{
		asked: asked, refs: refs, rows: rows,
		claims: &Claims{Closure: make(Registrations, len(rows)), Others: make(Registrations)},
	}
	if row := rows[asked[root].id]; row != nil && row.info.Path == root {
		s.claims.Valid = true
		if !s.addClosure(asked[root].id, d.most) {
			return nil, errTooMany
		}
	}
	if !s.addOthers(known, most) {
		return nil, errTooMany
	}
	return s.claims, nil
}

// A lookup is a path whose row is wanted.
type lookup struct {
	path  closure.StorePath
	known *closure.PathInfo // what the caller knows of the path, or nil
	id    int64             // of the row; 0 while not found
}

// scanned is what was read of a database, and what was made of it so far.
type scanned struct {
	asked  map[closure.StorePath]lookup
	paths  []closure.StorePath // room for the references of a row
	refs   references
	rows   map[int64]*registration
	claims *Claims
}

// add adds a row to one of the claims' closures. It returns the rows that it refers to,
// and how much memory it takes in bytes.
func (s *scanned) add(id int64, to Registrations) (next []int64, cost int64) {
	row := s.rows[id]
	row.seen = true
	next = s.resolve(row, s.refs.of(id))
	if found, asked := s.asked[row.info.Path]; asked && found.id != id {
		row.bad = append(row.bad, rowError(string(row.info.Path), "path", errors.New("its index leads to another row")))
	}
	if len(row.bad) == 0 {
		to[row.info.Path] = row.info
	}
	s.claims.Malformed = append(s.claims.Malformed, row.bad...)
	return next, Cost(*row.info) + int64(len(row.bad))*rowErrorCost
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

// addOthers adds those of the known paths that are not in the closure. It returns false
// where they take more than left bytes.
func (s *scanned) addOthers(known []closure.PathInfo, left int64) bool {
	for i := range known {
		p := known[i].Path
		id := s.asked[p].id
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

// scanPaths looks up the numbers of the rows of the paths that are asked for.
func scanPaths(ctx context.Context, conn *sql.Conn, asked map[closure.StorePath]lookup) error {
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
		if a, wanted := asked[closure.StorePath(p)]; wanted && a.id != id {
			a.id = id
			asked[a.path] = a // p is SQLite's memory
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
	info *closure.PathInfo
	// known means that info is the caller's, and must not be written.
	known bool
	bad   []*RowError
	// noPath says why its path is malformed; no reference to it is followed then.
	noPath error
	seen   bool // it was added to the claims
}

// resolve fills in the references of a row and returns the rows that they lead to.
func (s *scanned) resolve(row *registration, refs []int32) (next []int64) {
	var fault error
	paths := s.paths[:0]
	for _, ref := range refs {
		target := s.rows[int64(ref)]
		switch {
		case target == nil:
			fault = errors.New("one is not registered")
		case target.noPath != nil:
			fault = target.noPath
		case len(paths) == maxReferences:
			fault = fmt.Errorf("more than %d references", maxReferences)
		default:
			paths = append(paths, target.info.Path)
			next = append(next, int64(ref))
		}
	}
	if fault != nil {
		// One error is enough to call the row malformed.
		row.bad = append(row.bad, rowError(string(row.info.Path), "references", fault))
	}
	slices.Sort(paths)
	s.paths = paths // with its room, for the next row
	paths = slices.Compact(paths)
	if row.known {
		if slices.Equal(row.info.References, paths) {
			return next
		}
		own := *row.info
		row.info, row.known = &own, false
	}
	row.info.References = append(make([]closure.StorePath, 0, len(paths)), paths...)
	return next
}

// scanRows reads those rows of ValidPaths that are keys of into. A value that is larger
// than Nix would write is not read, because one larger than maxValueSize would make the
// whole query fail; size says that there is one.
func (d *Database) scanRows(ctx context.Context, conn *sql.Conn, asked map[closure.StorePath]lookup, into map[int64]*registration) error {
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
		path, _ := values[1].(string)
		known := asked[closure.StorePath(path)]
		if known.path == "" {
			var err error
			if known.path, err = d.dir.Parse(strings.Clone(path)); err != nil {
				// Whoever refers to it is malformed, and says so.
				into[id] = &registration{info: new(closure.PathInfo), noPath: err}
				return nil //nolint:nilerr // see above
			}
		}
		into[id] = d.registration(known, columns[2:], values[2:])
		return nil
	})
}

// registration returns the row of a path, but for its references. The values are SQLite's
// memory.
func (d *Database) registration(of lookup, columns []string, values []driver.Value) *registration {
	malformed := func(field string, err error) *registration {
		return &registration{info: &closure.PathInfo{Path: of.path}, bad: []*RowError{rowError(string(of.path), field, err)}}
	}
	if size, _ := values[0].(int64); size > maxValueSize {
		return malformed("row", fmt.Errorf("longer than %d bytes", maxValueSize))
	}
	var r nix_v10.QueryPathInfoRow
	if field, err := scanRow(&r, columns[1:], values[1:]); err != nil {
		return malformed(field, err)
	}
	info, bad := decodeRow(d.dir, of.path, r)
	if k := of.known; k != nil && len(bad) == 0 && info.NarHash == k.NarHash && info.NarSize == k.NarSize && info.Deriver == k.Deriver && info.CA == k.CA {
		return &registration{info: k, known: true}
	}
	info.Deriver, info.CA = closure.StorePath(strings.Clone(string(info.Deriver))), strings.Clone(info.CA)
	return &registration{info: &info, bad: bad}
}

// scanRow puts values into r, without a copy, or returns which one does not convert to its
// type.
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
	r.Hash = hash.String
	return "", nil
}
