package nixstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nix-community/go-nix/pkg/sqlite/nix_v10"
	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"every.channel/ec-verify/pkg/closure"
)

const (
	// schemaVersion is the only supported version of Nix's database schema; it has been
	// 10 since Nix 2.0.
	schemaVersion = "10"
	// maxValueSize limits a value of the database, in bytes. The longest that Nix writes
	// is a row with many signatures of about 100 bytes each.
	maxValueSize = 1 << 20
	// maxReferences limits the references of one path; real systems have some thousand at
	// most.
	maxReferences = 100_000
	// maxClosure limits the memory of a closure, in bytes, unless [Database.LimitClosure]
	// sets another limit. A system of 5,000 store paths takes some 12 MB.
	maxClosure = 64 << 20
)

// ErrNotValid is wrapped by [Database.PathInfo] and [Database.Closure] for an
// unregistered path; Nix calls a registered path valid.
var ErrNotValid = errors.New("path is not valid")

// ErrTemp is wrapped by errors of [OpenDatabase] that concern the temporary directory,
// into which the database is copied, and not the database.
var ErrTemp = errors.New("the temporary directory is full or not writable")

// tempError turns err, an error of the temporary directory, into one that says what to
// do. It does not wrap err: fs.ErrNotExist would mean that there is no database.
func tempError(err error) error {
	return fmt.Errorf("%w (%s; TMPDIR names another one): %v", ErrTemp, os.TempDir(), err)
}

// Database is the contents of a Nix database when it was opened. Later changes are not
// seen. It is safe for concurrent use.
type Database struct {
	dir       closure.StoreDir
	db        *sql.DB
	copyDir   string
	immutable bool
	most      int64 // bytes that Closure returns at most
}

// OpenDatabase reads the database of the store dir of the machine whose file tree is at
// root; "" means "/", this machine. For the store /nix/store it is in /nix/var/nix/db
// below root. It is never written to; see the package documentation. A copy is kept in
// [os.TempDir] until Close.
//
// The error wraps [fs.ErrNotExist] if there is no database.
func OpenDatabase(ctx context.Context, root string, dir closure.StoreDir) (*Database, error) {
	if _, err := closure.ParseStoreDir(string(dir)); err != nil {
		return nil, err
	}
	where := path.Join(path.Dir(string(dir)), "var/nix/db")
	d, err := openDatabase(ctx, root, where, dir)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("open nix database %s: %w", path.Join("/", root, where, databaseName), err)
	}
	return d, nil
}

// LimitClosure limits the closures that are read from now on, in bytes of memory as
// [Cost] counts them. The excess is left out, and a [RowError] says so.
func (d *Database) LimitClosure(most int64) { d.most = most }

func openDatabase(ctx context.Context, root, where string, dir closure.StoreDir) (_ *Database, err error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.close()
	from, err := t.open(where, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	if err := checkSchemaFile(from); err != nil {
		return nil, err
	}
	var vfs unix.Statfs_t
	if err := unix.Fstatfs(int(from.Fd()), &vfs); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: where, Err: err}
	}
	d := &Database{dir: dir, immutable: vfs.Flags&unix.ST_RDONLY != 0, most: maxClosure}
	if d.copyDir, err = os.MkdirTemp("", "ec-verify-nix-db-"); err != nil {
		return nil, tempError(err)
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if err := snapshot(ctx, from, d.copyDir); err != nil {
		// Only the copy is written to.
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			err = tempError(err)
		}
		return nil, err
	}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, d.checkTables(ctx)
}

func checkSchemaFile(dir *os.File) error {
	f, _, err := openRegular(dir, "schema")
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(buf[:n])); got != schemaVersion {
		return fmt.Errorf("its schema version is %q; this program reads version %s", got, schemaVersion)
	}
	return nil
}

// cacheSize limits SQLite's page cache to 512 KiB instead of 2 MiB: a scan needs each page
// once, and the copy is in the kernel's cache.
const cacheSize = "main.cache_size(-512)"

// connect opens the copy with SQLite. It is opened for writing only because SQLite must
// recover the copy's log or journal.
func (d *Database) connect() error {
	dsn := url.URL{Scheme: "file", Path: filepath.Join(d.copyDir, databaseName)}
	dsn.RawQuery = url.Values{
		"mode":        {"rw"},
		"_defensive":  {"1"},
		"_dqs":        {"0"},
		"_query_only": {"1"},
		"_pragma": {
			// Nobody else uses the copy, and nobody needs it after a crash. Set before the
			// first access, this also saves the file for shared memory of a write-ahead log;
			// the driver sorts these by name, and the size of the cache is an access.
			"locking_mode(exclusive)", "synchronous(off)",
			"trusted_schema(0)", "cell_size_check(1)", "mmap_size(0)", cacheSize,
		},
	}.Encode()
	var err error
	if d.db, err = sql.Open("sqlite", dsn.String()); err != nil {
		return err
	}
	// Queries are short; one connection needs only one page cache.
	d.db.SetMaxOpenConns(1)
	return nil
}

// conn returns a connection on which values larger than maxValueSize are errors.
func (d *Database) conn(ctx context.Context) (*sql.Conn, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := sqlite.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, maxValueSize); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// missingColumn finds a column that is read and that the database does not have. They must
// be stored columns of ordinary tables: a view or a generated column would run somebody
// else's expressions.
const missingColumn = `with wanted(tbl, col) as (values
		('ValidPaths', 'id'), ('ValidPaths', 'path'), ('ValidPaths', 'hash'), ('ValidPaths', 'registrationTime'), ('ValidPaths', 'deriver'),
		('ValidPaths', 'narSize'), ('ValidPaths', 'ultimate'), ('ValidPaths', 'sigs'), ('ValidPaths', 'ca'),
		('Refs', 'referrer'), ('Refs', 'reference'))
	select tbl, col from wanted
	except select s.name, c.name from sqlite_schema as s, pragma_table_xinfo(s.name) as c
		where s.name in ('ValidPaths', 'Refs') and s.type = 'table' and s.rootpage > 0 and c.hidden = 0
	limit 1`

func (d *Database) checkTables(ctx context.Context) error {
	conn, err := d.conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var table, column string
	switch err := conn.QueryRowContext(ctx, missingColumn).Scan(&table, &column); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("it has no table %s with the column %s", table, column)
}

// Close removes the copy; the Database must not be used afterwards.
func (d *Database) Close() error {
	var err error
	if d.db != nil {
		err = d.db.Close()
	}
	return errors.Join(err, os.RemoveAll(d.copyDir))
}

// Immutable reports whether the database is on a mount that is read-only for this
// process, for the report: a Nix that writes to it, if there is one, sees another mount.
// Rows in the write-ahead log are read all the same.
func (d *Database) Immutable() bool { return d.immutable }

// PathInfo returns the registration of p. It fails with [ErrNotValid] if there is none,
// and with a [*RowError] if it is malformed.
func (d *Database) PathInfo(ctx context.Context, p closure.StorePath) (closure.PathInfo, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return closure.PathInfo{}, d.failed(ctx, err)
	}
	defer conn.Close()
	info, malformed, err := d.pathInfo(ctx, conn, p)
	switch {
	case err != nil:
		return closure.PathInfo{}, err
	case len(malformed) > 0:
		return closure.PathInfo{}, malformed[0]
	}
	return info, nil
}

// Closure returns the registrations of root and of everything that can be reached from it
// by references. A path with a malformed row is left out, and malformed has its errors,
// one for each field, in ascending order of paths; its references are followed
// nonetheless. A closure that exceeds the memory limit is cut, with an error on root's
// references. It fails with [ErrNotValid] if root itself is not registered.
func (d *Database) Closure(ctx context.Context, root closure.StorePath) (c closure.Closure, malformed []*RowError, err error) {
	claims, err := d.Claims(ctx, root, nil, 0)
	if err != nil {
		return nil, nil, err
	}
	if !claims.Valid {
		return nil, nil, fmt.Errorf("nix database: %w: %s", ErrNotValid, root)
	}
	c = make(closure.Closure, len(claims.Closure))
	for p, info := range claims.Closure {
		c[p] = *info
	}
	return c, claims.Malformed, nil
}

// Registrations are what Nix registered of some paths. The data of a path is not to be
// changed.
type Registrations map[closure.StorePath]*closure.PathInfo

// Claims is what the database says of some paths.
type Claims struct {
	// Valid means that the root is registered.
	Valid bool
	// Closure has the root and everything that can be reached from it by references.
	Closure Registrations
	// Others has the other known paths that are registered and not in Closure.
	Others Registrations
	// Malformed has the errors of rows that are in neither, one for each field, in
	// ascending order of paths.
	Malformed []*RowError
}

// Claims returns the registrations of root, as [Database.Closure] does, and of the known
// paths, which may take up to most bytes of memory: the excess is malformed. If one says
// what the caller knows, it is the caller's own, and takes no memory. Claims scans the
// whole database, whatever is requested.
func (d *Database) Claims(ctx context.Context, root closure.StorePath, known []closure.PathInfo, most int64) (*Claims, error) {
	if _, err := d.dir.Parse(string(root)); err != nil {
		return nil, err
	}
	for i := range known {
		if _, err := d.dir.Parse(string(known[i].Path)); err != nil {
			return nil, err
		}
	}
	claims, err := d.scan(ctx, root, known, most)
	if errors.Is(err, errTooMany) {
		claims, err = d.walk(ctx, root, known, most)
	}
	if err != nil {
		return nil, d.failed(ctx, err)
	}
	slices.SortStableFunc(claims.Malformed, func(a, b *RowError) int { return strings.Compare(a.Path, b.Path) })
	return claims, nil
}

// walk implements Claims with a query for each path.
func (d *Database) walk(ctx context.Context, root closure.StorePath, known []closure.PathInfo, most int64) (*Claims, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := &Claims{Closure: make(Registrations), Others: make(Registrations)}
	seen := map[closure.StorePath]bool{root: true}
	look := func(p closure.StorePath, to Registrations) (info closure.PathInfo, held int64, err error) {
		info, bad, err := d.pathInfo(ctx, conn, p)
		if err != nil {
			return info, 0, err
		}
		if len(bad) == 0 {
			to[p] = &info
		}
		c.Malformed = append(c.Malformed, bad...)
		return info, Cost(info) + int64(len(bad))*rowErrorCost, nil
	}
	held := int64(0)
	for todo := []closure.StorePath{root}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		info, cost, err := look(p, c.Closure)
		if errors.Is(err, ErrNotValid) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.Valid = true // the root comes first, and leads to all others
		if held += cost; held > d.most {
			delete(c.Closure, root)
			c.Malformed = append(c.Malformed, rowError(string(root), "references", fmt.Errorf("its closure takes more than %d bytes of memory; the rest was not read", d.most)))
			break
		}
		for _, ref := range info.References {
			if !seen[ref] {
				seen[ref] = true
				todo = append(todo, ref)
			}
		}
	}
	for i := range known {
		p := known[i].Path
		if seen[p] {
			continue
		}
		seen[p] = true
		switch _, cost, err := look(p, c.Others); {
		case errors.Is(err, ErrNotValid):
		case err != nil:
			return nil, err
		default:
			if most -= cost; most < 0 {
				delete(c.Others, p)
				c.Malformed = append(c.Malformed, rowError(string(p), "references", errors.New("with those of other paths they take too much memory")))
			}
		}
	}
	return c, nil
}

// rowErrorCost is the memory for a RowError, at most, in bytes.
const rowErrorCost = 1 << 10

// Cost returns the memory for info, in bytes, with map entries for it and for each of its
// references.
func Cost(info closure.PathInfo) int64 {
	const place = 64
	cost := int64(256 + place + len(info.Path) + len(info.Deriver) + len(info.CA))
	for _, ref := range info.References {
		cost += int64(len(ref)) + place
	}
	return cost
}

// boundedPath reads a path, or null if it is larger than maxValueSize, which would make
// the whole query fail, or if it is not text, which Nix would not find.
const boundedPath = "case when typeof(path) = 'text' and octet_length(path) <= 4096 then path end"

// registeredBatch is how many paths Registered reads at a time.
const registeredBatch = 1000

// Registered returns all registered paths in no particular order. A malformed path yields
// a [*RowError], and the iteration continues; any other error ends it.
func (d *Database) Registered(ctx context.Context) iter.Seq2[closure.StorePath, error] {
	return func(yield func(closure.StorePath, error) bool) {
		for after, more := int64(0), true; more; {
			var batch []registered
			var err error
			if batch, err = d.registered(ctx, after); err != nil {
				yield("", d.failed(ctx, err))
				return
			}
			for _, r := range batch {
				// A damaged tree of pages could form a cycle.
				if r.id <= after {
					yield("", errors.New("read nix database: rows are out of order"))
					return
				}
				after = r.id
				if !yield(r.path, r.err) {
					return
				}
			}
			more = len(batch) == registeredBatch
		}
	}
}

type registered struct {
	id   int64
	path closure.StorePath
	err  error // nil or a *RowError
}

// registered reads one batch, so that no query is open while the caller works.
func (d *Database) registered(ctx context.Context, after int64) ([]registered, error) {
	conn, err := d.conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, "select rowid, "+boundedPath+" from ValidPaths where rowid > ? order by rowid limit ?", after, registeredBatch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var batch []registered
	for rows.Next() {
		var r registered
		var raw sql.RawBytes
		if err := rows.Scan(&r.id, &raw); err != nil {
			return nil, err
		}
		p, err := d.dir.Parse(string(raw))
		if err != nil {
			r.err = rowError(string(raw), "path", err)
		}
		r.path = p
		batch = append(batch, r)
	}
	return batch, rows.Err()
}

// pathInfo reads the rows of p. The well-formed parts of a malformed row are in info all
// the same.
func (d *Database) pathInfo(ctx context.Context, conn *sql.Conn, p closure.StorePath) (info closure.PathInfo, malformed []*RowError, err error) {
	if _, err := d.dir.Parse(string(p)); err != nil {
		return info, nil, err
	}
	row, err := nix_v10.New(conn).QueryPathInfo(ctx, string(p))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return info, nil, fmt.Errorf("nix database: %w: %s", ErrNotValid, p)
	case err != nil && ctx.Err() != nil:
		return info, nil, ctx.Err()
	case err != nil:
		bad := malformedRow(p, err)
		if bad == nil {
			return info, nil, d.failed(ctx, err)
		}
		info, malformed = closure.PathInfo{Path: p}, []*RowError{bad}
		if row.ID == 0 {
			return info, malformed, nil // it could not be read at all
		}
	default:
		info, malformed = decodeRow(d.dir, p, row)
	}
	refs, bad, err := d.references(ctx, conn, p, row.ID)
	if err != nil {
		return info, nil, d.failed(ctx, err)
	}
	info.References = refs
	return info, append(malformed, bad...), nil
}

// references is nix_v10's QueryReferences row by row: that one reads everything that an
// attacker wrote into memory at once.
func (d *Database) references(ctx context.Context, conn *sql.Conn, p closure.StorePath, id int64) (refs []closure.StorePath, malformed []*RowError, err error) {
	// A reference to no row gives null for its path, which is malformed.
	rows, err := conn.QueryContext(ctx, "select "+boundedPath+" from Refs left join ValidPaths on reference = id where referrer = ?", id)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	refs = []closure.StorePath{}
	for rows.Next() {
		var raw sql.RawBytes
		if err := rows.Scan(&raw); err != nil {
			return nil, nil, err
		}
		ref, err := d.dir.Parse(string(raw))
		if err == nil && len(refs) == maxReferences {
			err = fmt.Errorf("more than %d references", maxReferences)
		}
		switch {
		case err == nil:
			refs = append(refs, ref)
		case len(malformed) == 0:
			// One error is enough to call the row malformed.
			malformed = append(malformed, rowError(string(p), "references", err))
		}
	}
	slices.Sort(refs)
	return slices.Compact(refs), malformed, rows.Err()
}

// failed describes an error that means that the database could not be read.
func (d *Database) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("read nix database: %w", err)
}
