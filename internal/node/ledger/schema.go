package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

const (
	// applicationID marks a SQLite file as a ledger ("ecvl").
	applicationID = 0x6563766c
	// schemaVersion is the version of the tables below. It changes if a program of this
	// version can't read, or would misread, the file.
	schemaVersion = 2
)

// schema creates the tables. SQLite stores these texts unchanged from the table's name
// on, and a file's are compared with them.
//
// Times are milliseconds since 1970. Sums are those of [rowSum] over the other values;
// items and members are covered by the digest of the inventory.
var schema = []string{
	`CREATE TABLE runs (
	id            integer primary key,
	started       integer not null,
	tool          text    not null,
	ended         integer,
	verdict       text    not null,
	tag           text    not null,
	manifest      blob    not null,
	configuration text    not null,
	untrusted     integer not null,
	drift         integer not null,
	inconclusive  integer not null,
	notice        integer not null,
	unsafe        text    not null,
	sum           integer not null
) strict`,
	`CREATE TABLE inventories (
	id       integer primary key,
	tier     text    not null,
	tag      text    not null,
	manifest blob    not null,
	run      integer not null,
	digest   blob    not null,
	sum      integer not null,
	unique (tier, tag, manifest)
) strict`,
	`CREATE TABLE items (
	id   integer primary key,
	tier text not null,
	path text not null,
	want blob not null,
	unique (tier, path, want)
) strict`,
	`CREATE TABLE members (
	inventory integer not null references inventories on delete cascade,
	item      integer not null references items on delete cascade,
	cost      integer not null,
	primary key (inventory, item)
) strict, without rowid`,
	`CREATE INDEX members_item on members (item)`,
	`CREATE TABLE checks (
	item     integer not null references items on delete cascade,
	settled  integer not null,
	run      integer not null,
	at       integer not null,
	result   text    not null,
	cause    text    not null,
	took     integer not null,
	disk     integer not null,
	tag      text    not null,
	manifest blob    not null,
	tool     text    not null,
	sum      integer not null,
	primary key (item, settled)
) strict, without rowid`,
	`CREATE TABLE standing (
	only integer primary key check (only = 1),
	told text    not null,
	sum  integer not null
) strict`,
}

// oldTables is how many tables and indices schema version 1 has: the first ones of
// schema.
var oldTables = len(schema) - 1

// errOld says that a file is a ledger of schema version 1.
var errOld = errors.New("it was written by an older ec-verify; the next run, as root, brings it up to date")

// errEmpty says that a file has no tables yet.
var errEmpty = errors.New("the ledger is empty")

// create makes the tables in an empty file, unless another process has done so
// since.
func (l *Ledger) create(ctx context.Context) error {
	return l.write(ctx, func(tx *sql.Tx) error {
		if err := checkSchema(ctx, tx, l.file); !errors.Is(err, errEmpty) {
			return err
		}
		for _, statement := range slices.Concat(schema, []string{
			fmt.Sprintf("pragma application_id = %d", applicationID),
			fmt.Sprintf("pragma user_version = %d", schemaVersion),
		}) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// upgrade adds what a ledger of version 1 lacks, unless another process has done so
// meanwhile.
func (l *Ledger) upgrade(ctx context.Context) error {
	return l.write(ctx, func(tx *sql.Tx) error {
		if err := checkSchema(ctx, tx, l.file); !errors.Is(err, errOld) {
			return err
		}
		for _, statement := range append(slices.Clone(schema[oldTables:]), fmt.Sprintf("pragma user_version = %d", schemaVersion)) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkSchema compares a file's tables with those of this version. It fails with
// errEmpty, errOld, a [*NewerError], or damage.
func checkSchema(ctx context.Context, tx *sql.Tx, file string) error {
	var application, version int64
	if err := tx.QueryRowContext(ctx, "pragma application_id").Scan(&application); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "pragma user_version").Scan(&version); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, "select sql from sqlite_schema where sql is not null order by rowid limit ?", 2*len(schema))
	if err != nil {
		return err
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		got = append(got, s)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	switch {
	case application == 0 && version == 0 && len(got) == 0:
		return errEmpty
	case application != applicationID:
		return damaged("its application id is %#x, a ledger's is %#x", application, applicationID)
	case version > schemaVersion:
		return &NewerError{file, version}
	case version == 1 && slices.Equal(got, schema[:oldTables]):
		return errOld
	case version != schemaVersion:
		return damaged("its schema version is %d", version)
	case !slices.Equal(got, schema):
		return damaged("its tables are not those of schema version %d", version)
	}
	return nil
}

// checkAll reads the whole ledger and checks the schema, the structure of the file, each
// row's sum, and that each row belongs to another. It keeps what it read, if that is
// requested.
func (l *Ledger) checkAll(ctx context.Context, toWrite bool) error {
	return l.read(ctx, func(tx *sql.Tx) error {
		if err := checkSchema(ctx, tx, l.file); err != nil {
			return err
		}
		// Only writers check that an index agrees with its table, which takes half of a
		// whole check: of items only the index is read, and sums cover what is read.
		check := "quick_check"
		if toWrite {
			check = "integrity_check"
		}
		var verdict string
		if err := tx.QueryRowContext(ctx, "pragma "+check+"(1)").Scan(&verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			return damaged("%s", verdict)
		}
		if _, err := queryRuns(ctx, tx, -1); err != nil {
			return err
		}
		if _, err := queryStanding(ctx, tx); err != nil {
			return err
		}
		states, err := queryAll(ctx, tx, l.keep)
		if err != nil || !l.keep {
			return err
		}
		version, err := dataVersion(ctx, tx)
		l.found.Store(&found{states, version})
		return err
	})
}

// dataVersion returns a number that is another one after another connection wrote to the
// ledger.
func dataVersion(ctx context.Context, tx *sql.Tx) (version int64, err error) {
	err = tx.QueryRowContext(ctx, "pragma data_version").Scan(&version)
	return version, err
}
