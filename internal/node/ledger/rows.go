package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"every.channel/ec-verify/internal/sqlrows"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Each row is compared with its sum before it is used.

// fromMilli and toMilli are the form of times in the file.
func fromMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func toMilli(t time.Time) int64 { return t.UnixMilli() }

func toHash(b []byte) (nar.Hash, error) {
	if len(b) != nar.HashSize {
		return nar.Hash{}, damaged("a hash has %d bytes", len(b))
	}
	return nar.Hash(b), nil
}

// sum returns the sum of the row of r.
func (r Run) sum() int64 {
	end, ended, at := End{}, "", int64(0)
	if r.End != nil {
		end, ended, at = *r.End, "ended", toMilli(r.End.At)
	}
	return rowSum(r.ID, toMilli(r.Started), r.Tool, ended, at, end.Verdict, end.Manifest.Tag, end.Manifest.SHA256, end.Configuration,
		int64(end.Findings.Untrusted), int64(end.Findings.Drift), int64(end.Findings.Inconclusive), int64(end.Findings.Notice), end.Unsafe)
}

// runColumns are those of a run, in the order in which queryRuns takes them.
var runColumns = []string{
	"id", "started", "tool", "ended", "verdict", "tag", "manifest", "configuration",
	"untrusted", "drift", "inconclusive", "notice", "unsafe", "sum",
}

// queryRuns returns the last runs, the newest first; all of them for limit -1.
func queryRuns(ctx context.Context, tx *sql.Tx, limit int) ([]Run, error) {
	var runs []Run
	query := "select " + strings.Join(runColumns, ", ") + " from runs order by id desc limit " + strconv.Itoa(limit)
	err := sqlrows.Each(ctx, tx, runColumns, query, func(values []driver.Value) error {
		v := columns{values: values}
		r := Run{ID: v.integer(), Started: fromMilli(v.integer()), Tool: strings.Clone(v.text())}
		var end End
		if !v.null() {
			end.At = fromMilli(v.integer())
			r.End = &end
		}
		end.Verdict, end.Manifest.Tag, end.Manifest.SHA256 = strings.Clone(v.text()), strings.Clone(v.text()), v.hash()
		end.Configuration = strings.Clone(v.text())
		end.Findings = Findings{Untrusted: int(v.integer()), Drift: int(v.integer()), Inconclusive: int(v.integer()), Notice: int(v.integer())}
		end.Unsafe = strings.Clone(v.text())
		sum := v.integer()
		if v.err != nil {
			return v.err
		}
		if r.sum() != sum {
			return damaged("the row of run %d differs from what was written", r.ID)
		}
		runs = append(runs, r)
		return nil
	})
	return runs, err
}

// sum returns the sum of the row of c.
func (c Check) sum(tier Tier, key Key, settled int64) int64 {
	return rowSum(string(tier), string(key.Path), key.Want, settled, c.Run, toMilli(c.At), c.Result.String(), string(c.Cause),
		c.Took.Milliseconds(), number(c.FromDisk), c.Manifest.Tag, c.Manifest.SHA256, c.Tool)
}

// number is the form of a truth in the file.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// table has the items of one tier, in ascending order of their keys and without
// duplicates. Other tables refer to them by number, so that each table is read in one
// pass: a join takes longer.
type table struct {
	tier Tier
	keys []Key
	at   map[int64]int // where in keys the item of that number is
}

// queryItems returns the items of one tier.
func queryItems(ctx context.Context, tx *sql.Tx, tier Tier) (table, error) {
	t := table{tier: tier, at: make(map[int64]int)}
	query := "select id, path, want from items where tier = '" + string(tier) + "' order by path, want"
	err := sqlrows.Each(ctx, tx, []string{"id", "path", "want"}, query, func(values []driver.Value) error {
		v := columns{values: values}
		id, path, want := v.integer(), v.text(), v.hash()
		if v.err != nil {
			return v.err
		}
		t.at[id] = len(t.keys)
		t.keys = append(t.keys, Key{closure.StorePath(strings.Clone(path)), want})
		return nil
	})
	return t, err
}

// queryTables returns the items of all tiers.
func queryTables(ctx context.Context, tx *sql.Tx) ([]table, error) {
	var tables []table
	for _, tier := range Tiers() {
		t, err := queryItems(ctx, tx, tier)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// find returns the tier of the item of that number, and where in it that is.
func find(tables []table, id int64) (tier, i int, err error) {
	for tier := range tables {
		if i, ok := tables[tier].at[id]; ok {
			return tier, i, nil
		}
	}
	return 0, 0, errNone
}

var errNone = damaged("there are rows that belong to none")

// checkColumns are those of a check, in the order in which queryRecords takes them.
var checkColumns = []string{"item", "settled", "run", "at", "result", "cause", "took", "disk", "tag", "manifest", "tool", "sum"}

// queryRecords returns the records of the items of each of tables, which are empty unless
// they are to be kept: then the rows are only checked.
func queryRecords(ctx context.Context, tx *sql.Tx, tables []table, keep bool) ([]Records, error) {
	all := make([]Records, len(tables))
	for i := range all {
		all[i] = make(Records)
		if keep {
			all[i] = make(Records, len(tables[i].keys))
		}
	}
	// Most checks are of the same few manifests and versions.
	shared := make(map[string]string)
	share := func(text string) string {
		s, ok := shared[text]
		if !ok {
			s = strings.Clone(text)
			shared[s] = s
		}
		return s
	}
	query := "select " + strings.Join(checkColumns, ", ") + " from checks order by item, settled"
	var r Record // of the item of the last row
	var last int64
	err := sqlrows.Each(ctx, tx, checkColumns, query, func(values []driver.Value) error {
		v := columns{values: values}
		item, settled, run, at, result, cause := v.integer(), v.integer(), v.integer(), v.integer(), v.text(), v.text()
		took, disk, tag, manifest, tool, sum := v.integer(), v.integer(), v.text(), v.hash(), v.text(), v.integer()
		if v.err != nil {
			return v.err
		}
		n, i, err := find(tables, item)
		if err != nil {
			return err
		}
		key := tables[n].keys[i]
		c := Check{
			Run: run, At: fromMilli(at), Cause: closure.Cause(share(cause)), Took: time.Duration(took) * time.Millisecond,
			FromDisk: disk == 1, Manifest: Manifest{share(tag), manifest}, Tool: share(tool),
		}
		if c.Result, err = parseResult(result); err != nil {
			return damaged("%v", err)
		}
		if c.sum(tables[n].tier, key, settled) != sum {
			return damaged("the row of %s differs from what was written", key.Path)
		}
		if !keep {
			return nil
		}
		// If there are two, the conclusive check comes after the inconclusive one; if it
		// is also the last one, it is stored once.
		if item != last {
			r, last = Record{}, item
		}
		if settled == 1 {
			r.Settled = c
		} else {
			r.Last = c
		}
		if !r.Last.Done() {
			r.Last = r.Settled
		}
		all[n][key] = r
		return nil
	})
	return all, err
}

// head is the row of an inventory.
type head struct {
	id     int64
	run    int64 // the last one that verified against it
	digest nar.Hash
	Inventory
}

// ofLook reports whether h is the inventory of looks, which is of no release.
func (h head) ofLook() bool { return h.Manifest.Tag == "" }

func (h head) sum() int64 {
	return rowSum(h.id, h.run, string(h.Tier), h.Manifest.Tag, h.Manifest.SHA256, h.digest)
}

// queryInventories returns the inventories of one tier without their items, the
// one used last first, and that of looks after them.
func queryInventories(ctx context.Context, tx *sql.Tx, tier Tier) ([]head, error) {
	rows, err := tx.QueryContext(ctx, `select id, run, tag, manifest, digest, sum from inventories
		where tier = ? order by run desc, id desc`, string(tier))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var heads []head
	for rows.Next() {
		h := head{Inventory: Inventory{Tier: tier}}
		var manifest, digest []byte
		var sum int64
		if err := rows.Scan(&h.id, &h.run, &h.Manifest.Tag, &manifest, &digest, &sum); err != nil {
			return nil, err
		}
		if h.Manifest.SHA256, err = toHash(manifest); err != nil {
			return nil, err
		}
		if h.digest, err = toHash(digest); err != nil {
			return nil, err
		}
		if h.sum() != sum {
			return nil, damaged("the row of manifest %s differs from what was written", h.Manifest.Tag)
		}
		heads = append(heads, h)
	}
	slices.SortStableFunc(heads, func(a, b head) int { return int(number(a.ofLook()) - number(b.ofLook())) })
	return heads, rows.Err()
}

// queryMembers adds to heads, which are all inventories, their items from tables, and
// compares them with their digests.
func queryMembers(ctx context.Context, tx *sql.Tx, tables []table, heads []head) error {
	members := make([][]member, len(heads))
	n := 0 // of the inventory that the last row was of
	const query = "select inventory, item, cost from members order by inventory, item"
	err := sqlrows.Each(ctx, tx, []string{"inventory", "item", "cost"}, query, func(values []driver.Value) error {
		v := columns{values: values}
		inventory, item, cost := v.integer(), v.integer(), v.integer()
		if v.err != nil {
			return v.err
		}
		if n < 0 || n >= len(heads) || heads[n].id != inventory {
			n = slices.IndexFunc(heads, func(h head) bool { return h.id == inventory })
		}
		if n < 0 {
			return errNone
		}
		of, at, err := find(tables, item)
		if err != nil {
			return err
		}
		if tables[of].tier != heads[n].Tier {
			return damaged("an item of manifest %s is of another tier", heads[n].Manifest.Tag)
		}
		members[n] = append(members[n], member{at, cost})
		return nil
	})
	if err != nil {
		return err
	}
	for i := range heads {
		if err := heads[i].fill(tables, members[i]); err != nil {
			return err
		}
	}
	return nil
}

// member is a row of members: where its item is, and the cost.
type member struct {
	at   int
	cost int64
}

// fill sets the items of h.
func (h *head) fill(tables []table, members []member) error {
	slices.SortFunc(members, func(a, b member) int { return a.at - b.at })
	keys := tables[slices.IndexFunc(tables, func(t table) bool { return t.tier == h.Tier })].keys
	h.Items = make([]Item, 0, len(members))
	for _, m := range members {
		h.Items = append(h.Items, Item{keys[m.at].Path, keys[m.at].Want, m.cost})
	}
	if h.Inventory.digest() != h.digest {
		return damaged("its items of manifest %s are not those that were written", h.Manifest.Tag)
	}
	return nil
}

// queryAll reads all that is said of items, and returns the state of each tier, without
// records unless they are to be kept.
func queryAll(ctx context.Context, tx *sql.Tx, keep bool) (map[Tier]State, error) {
	tables, err := queryTables(ctx, tx)
	if err != nil {
		return nil, err
	}
	records, err := queryRecords(ctx, tx, tables, keep)
	if err != nil {
		return nil, err
	}
	states := make(map[Tier]State)
	var heads []head
	last := make(map[Tier]int) // which of heads is the inventory of a tier
	for i, t := range tables {
		states[t.tier] = State{Inventory{Tier: t.tier}, records[i]}
		of, err := queryInventories(ctx, tx, t.tier)
		if err != nil {
			return nil, err
		}
		if len(of) > 0 && !of[0].ofLook() {
			last[t.tier] = len(heads)
		}
		heads = append(heads, of...)
	}
	if err := queryMembers(ctx, tx, tables, heads); err != nil {
		return nil, err
	}
	for tier, i := range last {
		states[tier] = State{heads[i].Inventory, states[tier].Records}
	}
	return states, nil
}

// Runs returns the last runs, at most limit, the newest first.
func (l *Ledger) Runs(ctx context.Context, limit int) (runs []Run, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		runs, err = queryRuns(ctx, tx, max(limit, 0))
		return err
	})
	return runs, err
}

// Records returns the records of each item of a tier, including those of the last few
// inventories. They must not be changed.
func (l *Ledger) Records(ctx context.Context, tier Tier) (Records, error) {
	states, err := l.States(ctx)
	return states[tier].Records, err
}

// queryStanding returns the text that the last run by the policy left, "" for none.
func queryStanding(ctx context.Context, tx *sql.Tx) (encoded string, err error) {
	var sum int64
	err = tx.QueryRowContext(ctx, "select told, sum from standing").Scan(&encoded, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err == nil && rowSum(encoded) != sum {
		err = damaged("the row of the machine's standing differs from what was written")
	}
	return encoded, err
}

// Standing returns the text that the last run with one left, see [End]; "" for none.
func (l *Ledger) Standing(ctx context.Context) (encoded string, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		encoded, err = queryStanding(ctx, tx)
		return err
	})
	return encoded, err
}

// State is the state of one tier: the last used inventory, other than a look's, and the
// records.
type State struct {
	Inventory Inventory
	Records   Records
}

// States returns the state of each tier at one moment. They must not be changed.
func (l *Ledger) States(ctx context.Context) (states map[Tier]State, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		if f := l.found.Load(); f != nil {
			if version, err := dataVersion(ctx, tx); err != nil || version == f.version {
				states = f.states
				return err
			}
		}
		states, err = queryAll(ctx, tx, true)
		return err
	})
	return states, err
}
