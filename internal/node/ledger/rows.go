package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// What is read from the file is held to its sum before anything is made of it.

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

// queryRuns returns the last runs, the newest first; all of them for limit -1.
func queryRuns(ctx context.Context, tx *sql.Tx, limit int) ([]Run, error) {
	rows, err := tx.QueryContext(ctx, `select id, started, tool, ended, verdict, tag, manifest, configuration,
		untrusted, drift, inconclusive, notice, unsafe, sum from runs order by id desc limit ?`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var runs []Run
	for rows.Next() {
		var (
			r            Run
			end          End
			started, sum int64
			ended        sql.NullInt64
			manifest     []byte
		)
		if err := rows.Scan(&r.ID, &started, &r.Tool, &ended, &end.Verdict, &end.Manifest.Tag, &manifest, &end.Configuration,
			&end.Findings.Untrusted, &end.Findings.Drift, &end.Findings.Inconclusive, &end.Findings.Notice, &end.Unsafe, &sum); err != nil {
			return nil, err
		}
		if end.Manifest.SHA256, err = toHash(manifest); err != nil {
			return nil, err
		}
		r.Started = fromMilli(started)
		if ended.Valid {
			end.At = fromMilli(ended.Int64)
			r.End = &end
		}
		if r.sum() != sum {
			return nil, damaged("what it says of run %d is not what was written", r.ID)
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
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

// queryRecords returns all records of one tier.
func queryRecords(ctx context.Context, tx *sql.Tx, tier Tier) (Records, error) {
	rows, err := tx.QueryContext(ctx, `select path, want, settled, run, at, result, cause, took, disk, tag, manifest, tool, sum
		from checks join items on item = id where tier = ?`, string(tier))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	records := make(Records)
	// Most checks are of the same few manifests and versions.
	shared := make(map[string]string)
	share := func(s *string) {
		if known, ok := shared[*s]; ok {
			*s = known
			return
		}
		shared[*s] = *s
	}
	for rows.Next() {
		var (
			c                   Check
			path, result, cause string
			want, manifest      sql.RawBytes
			settled, at, took   int64
			disk, sum           int64
		)
		if err := rows.Scan(&path, &want, &settled, &c.Run, &at, &result, &cause, &took, &disk, &c.Manifest.Tag, &manifest, &c.Tool, &sum); err != nil {
			return nil, err
		}
		key := Key{Path: closure.StorePath(path)}
		if key.Want, err = toHash(want); err != nil {
			return nil, err
		}
		if c.Manifest.SHA256, err = toHash(manifest); err != nil {
			return nil, err
		}
		if c.Result, err = parseResult(result); err != nil {
			return nil, damaged("%v", err)
		}
		share(&c.Manifest.Tag)
		share(&c.Tool)
		share(&cause)
		c.At, c.Took, c.Cause = fromMilli(at), time.Duration(took)*time.Millisecond, closure.Cause(cause)
		c.FromDisk = disk == 1
		if c.sum(tier, key, settled) != sum {
			return nil, damaged("what it says of %s is not what was written", path)
		}
		r := records[key]
		if settled == 1 {
			r.Settled = c
		} else {
			r.Last = c
		}
		records[key] = r
	}
	for key, r := range records {
		if !r.Last.Done() {
			// The last check settled it, and is kept once.
			r.Last = r.Settled
			records[key] = r
		}
	}
	return records, rows.Err()
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
			return nil, damaged("what it says of manifest %s is not what was written", h.Manifest.Tag)
		}
		heads = append(heads, h)
	}
	slices.SortStableFunc(heads, func(a, b head) int { return int(number(a.ofLook()) - number(b.ofLook())) })
	return heads, rows.Err()
}

// items returns h with its items.
func (h head) items(ctx context.Context, tx *sql.Tx) (Inventory, error) {
	inv := h.Inventory
	rows, err := tx.QueryContext(ctx, `select path, want, cost from members join items on item = id
		where inventory = ? order by path, want`, h.id)
	if err != nil {
		return inv, err
	}
	defer rows.Close()
	for rows.Next() {
		var item Item
		var path string
		var want sql.RawBytes
		if err := rows.Scan(&path, &want, &item.Cost); err != nil {
			return inv, err
		}
		if item.Want, err = toHash(want); err != nil {
			return inv, err
		}
		item.Path = closure.StorePath(path)
		inv.Items = append(inv.Items, item)
	}
	if err := rows.Err(); err != nil {
		return inv, err
	}
	if inv.digest() != h.digest {
		return inv, damaged("its items of manifest %s are not those that were written", h.Manifest.Tag)
	}
	return inv, nil
}

// Runs returns the last runs, at most limit, the newest first.
func (l *Ledger) Runs(ctx context.Context, limit int) (runs []Run, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		runs, err = queryRuns(ctx, tx, max(limit, 0))
		return err
	})
	return runs, err
}

// Records returns what is remembered of each item of a tier, of the last few
// inventories too.
func (l *Ledger) Records(ctx context.Context, tier Tier) (records Records, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		records, err = queryRecords(ctx, tx, tier)
		return err
	})
	return records, err
}

// queryStanding returns the text that the last run by the policy left, "" for none.
func queryStanding(ctx context.Context, tx *sql.Tx) (told string, err error) {
	var sum int64
	err = tx.QueryRowContext(ctx, "select told, sum from standing").Scan(&told, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err == nil && rowSum(told) != sum {
		err = damaged("what it says of the machine's standing is not what was written")
	}
	return told, err
}

// Standing returns the text that the last run with one left, see [End]; "" for none.
func (l *Ledger) Standing(ctx context.Context) (told string, err error) {
	err = l.read(ctx, func(tx *sql.Tx) error {
		told, err = queryStanding(ctx, tx)
		return err
	})
	return told, err
}

// State is all that is told of one tier: the inventory that a run which was no look
// used last, and the records.
type State struct {
	Inventory Inventory
	Records   Records
}

// State returns the state of a tier at one moment.
func (l *Ledger) State(ctx context.Context, tier Tier) (s State, err error) {
	if state, ok := l.found[tier]; ok {
		return state, nil
	}
	err = l.read(ctx, func(tx *sql.Tx) error {
		s = State{Inventory: Inventory{Tier: tier}}
		heads, err := queryInventories(ctx, tx, tier)
		if err != nil || len(heads) == 0 || heads[0].ofLook() {
			return err
		}
		if s.Inventory, err = heads[0].items(ctx, tx); err != nil {
			return err
		}
		s.Records, err = queryRecords(ctx, tx, tier)
		return err
	})
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", tier, err)
	}
	return s, nil
}
