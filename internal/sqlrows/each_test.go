package sqlrows

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func open(t *testing.T, statements ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return db
}

// keep copies what a row has, as its users are to.
func keep(values []driver.Value) []any {
	var kept []any
	for _, v := range values {
		switch v := v.(type) {
		case string:
			kept = append(kept, strings.Clone(v))
		case []byte:
			kept = append(kept, bytes.Clone(v))
		default:
			kept = append(kept, v)
		}
	}
	return kept
}

// TestEachIsRows holds what Each gives to what database/sql gives: every type, and the
// order, against that of the table.
func TestEachIsRows(t *testing.T) {
	db := open(t, "create table t (n, v)")
	values := []any{
		int64(math.MinInt64), int64(math.MaxInt64), int64(0), 0.5, math.Inf(1), nil, "", "a", "a\x00b", strings.Repeat("long", 5000), "\xff\xfe",
		[]byte{0}, []byte("a\x00b"), bytes.Repeat([]byte{7}, 20000),
	}
	for i := range 200 {
		if _, err := db.ExecContext(t.Context(), "insert into t values (?, ?)", i*7919%200, values[i%len(values)]); err != nil {
			t.Fatal(err)
		}
	}
	for _, order := range []string{"n", "n desc", "rowid", "v, n"} {
		query := "select n, v from t order by " + order
		var want, got []string
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var n, v any
			if err := rows.Scan(&n, &v); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%T %v %T %v", n, n, v, v))
		}
		rows.Close()
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		err = Each(t.Context(), db, []string{"n", "v"}, query, func(values []driver.Value) error {
			kept := keep(values)
			got = append(got, fmt.Sprintf("%T %v %T %v", kept[0], kept[0], kept[1], kept[1]))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 200 || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("order by %s: Each gives %d rows that are not the %d of database/sql", order, len(got), len(want))
		}
	}
}

func TestEachOfNone(t *testing.T) {
	db := open(t, "create table t (n)")
	if err := Each(t.Context(), db, []string{"n"}, "select n from t", func([]driver.Value) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
}

// TestEachEnds ends in the middle: by the caller, by what SQLite says, and by the
// context.
func TestEachEnds(t *testing.T) {
	db := open(t, "create table t (n)", "insert into t with recursive c(n) as (values (1) union all select n + 1 from c where n < 1000) select n from c")
	stop := errors.New("stop")
	called := 0
	err := Each(t.Context(), db, []string{"n"}, "select n from t", func([]driver.Value) error {
		called++
		if called == 10 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || called != 10 {
		t.Errorf("error %v after %d rows, want the callback's after 10", err, called)
	}
	called = 0
	err = Each(t.Context(), db, []string{"n"}, "select case when n = 10 then abs(-9223372036854775808) else n end as n from t", func([]driver.Value) error {
		called++
		return nil
	})
	if err == nil || called != 9 {
		t.Errorf("error %v after %d rows, want SQLite's after 9", err, called)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Each(ctx, db, []string{"n"}, "select a.n as n from t a, t b, t c", func([]driver.Value) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the context ended", err)
	}
	if len(calls.under) != 0 {
		t.Errorf("%d calls are left", len(calls.under))
	}
}

// TestNobodyElseCalls has SQL of its own call the function, and a view of an untrusted
// database.
func TestNobodyElseCalls(t *testing.T) {
	db := open(t, "create table t (n)", "insert into t values (1)", "create view w as select "+function+"(1, n) as n from t", "pragma trusted_schema = 0")
	for _, query := range []string{"select " + function + "(1, n) from t", "select " + function + "('x') from t", "select n from w"} {
		var n int
		if err := db.QueryRowContext(t.Context(), query).Scan(&n); err == nil {
			t.Errorf("%s: no error", query)
		}
	}
	err := Each(t.Context(), db, []string{"n"}, "select n from w", func([]driver.Value) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "unsafe use of "+function) {
		t.Errorf("a view calls it: %v", err)
	}
}
