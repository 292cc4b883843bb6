package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"every.channel/ec-verify/pkg/closure"
)

// flushEvery is how often new results are written: a kill can lose those since the last
// time. Each time costs two or three waits for the disk.
const flushEvery = time.Second

// Recorder records what one run does. It is safe for concurrent use; End or Close ends
// it.
type Recorder struct {
	l    *Ledger
	run  Run
	look bool

	mu       sync.Mutex
	against  map[Tier]*inCommon
	expected []Inventory // known ones, still to be noted as this run's
	pending  []pendingCheck

	writing sync.Mutex // held while pending is written
	stop    chan struct{}
	stopped sync.WaitGroup
	once    sync.Once
}

// maxRoom is for how many checks there is room from the start.
const maxRoom = 8192

// inCommon is what the checks of a tier have in common.
type inCommon struct {
	tier     Tier
	manifest Manifest
	run      int64
	tool     string
}

// A pendingCheck is a [Check] that is not written yet.
type pendingCheck struct {
	*inCommon
	key Key
	at  time.Time
	Outcome
}

// check returns c in the form of the ledger.
func (c *pendingCheck) check() Check {
	return Check{
		Run: c.run, At: fromMilli(toMilli(c.at)), Result: c.Result, Cause: c.Cause,
		Took: c.Took.Truncate(time.Millisecond), FromDisk: c.FromDisk, Manifest: c.manifest, Tool: c.tool,
	}
}

// Outcome is the result of checking an item.
type Outcome struct {
	Result Result
	// Cause is the reason for the result; empty if there is none to give.
	Cause closure.Cause
	// Took is how long it took; 0 if that was not measured.
	Took time.Duration
	// FromDisk is as of [Check].
	FromDisk bool
}

// Begin records that a run by version tool of the program starts, and forgets the oldest
// runs. Results are written from then on until the Recorder ends.
func (l *Ledger) Begin(ctx context.Context, tool string) (*Recorder, error) {
	return l.begin(ctx, tool, false)
}

// BeginLook is Begin for a look. Its results are remembered, but its inventory is not
// part of [Ledger.States], and the next look forgets it.
func (l *Ledger) BeginLook(ctx context.Context, tool string) (*Recorder, error) {
	return l.begin(ctx, tool, true)
}

func (l *Ledger) begin(ctx context.Context, tool string, look bool) (*Recorder, error) {
	r := &Recorder{
		l: l, look: look, run: Run{Started: fromMilli(toMilli(l.now())), Tool: clip(tool)},
		against: make(map[Tier]*inCommon), stop: make(chan struct{}),
	}
	err := l.write(ctx, func(tx *sql.Tx) error {
		// The last run is never forgotten, so that numbers only go up.
		if err := tx.QueryRowContext(ctx, "select coalesce(max(id), 0) + 1 from runs").Scan(&r.run.ID); err != nil {
			return err
		}
		if err := putRun(ctx, tx, r.run); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "delete from runs where id <= ?", r.run.ID-KeptRuns)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.stopped.Go(r.flushRegularly)
	return r, nil
}

func putRun(ctx context.Context, tx *sql.Tx, r Run) error {
	end, ended := End{}, sql.NullInt64{}
	if r.End != nil {
		end, ended = *r.End, sql.NullInt64{Int64: toMilli(r.End.At), Valid: true}
	}
	_, err := tx.ExecContext(ctx, `insert or replace into runs (id, started, tool, ended, verdict, tag, manifest, configuration,
		untrusted, drift, inconclusive, notice, unsafe, sum) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.ID, toMilli(r.Started), r.Tool, ended, end.Verdict, end.Manifest.Tag, end.Manifest.SHA256[:], end.Configuration,
		end.Findings.Untrusted, end.Findings.Drift, end.Findings.Inconclusive, end.Findings.Notice, end.Unsafe, r.sum())
	return err
}

// Run returns the number of the run.
func (r *Recorder) Run() int64 { return r.run.ID }

// Expect sets what is to be verified at a tier. What is remembered of these items stays;
// items in none of the tier's last few inventories are forgotten. It fails if an
// inventory has a duplicate. A new inventory is on disk when Expect returns. The use of a
// known one is written with the first results, to wait for the disk once less.
func (r *Recorder) Expect(ctx context.Context, inv Inventory) error {
	inv.Manifest.Tag = clip(inv.Manifest.Tag)
	if err := inv.checkItems(); err != nil {
		return err
	}
	kept := inv
	if r.look {
		kept.Manifest = Manifest{}
	}
	var again bool
	err := r.l.read(ctx, func(tx *sql.Tx) error {
		_, was, err := known(ctx, tx, kept)
		again = err == nil && was == kept.digest()
		return err
	})
	if err == nil && !again {
		r.l.found.Store(nil)
		err = r.l.write(ctx, func(tx *sql.Tx) error { return expect(ctx, tx, r.run.ID, kept) })
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.against[inv.Tier] = &inCommon{inv.Tier, inv.Manifest, r.run.ID, r.run.Tool}
	// What comes in until it is written need not be moved as it grows.
	r.pending = slices.Grow(r.pending, min(len(inv.Items), maxRoom))
	if again {
		r.expected = append(r.expected, kept)
	}
	return nil
}

// Record adds the result of checking an item of the expected inventory; other items are
// not remembered. It does not wait for the disk: Flush and End report results that could
// not be written, and try again.
func (r *Recorder) Record(tier Tier, item Item, o Outcome) {
	at := r.l.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if of, ok := r.against[tier]; ok {
		o.Cause = closure.Cause(clip(string(o.Cause)))
		r.pending = append(r.pending, pendingCheck{of, item.Key(), at, o})
	}
}

// flushRegularly writes what has come in until the Recorder ends.
func (r *Recorder) flushRegularly() {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// What could not be written stays pending, and the next attempt tells.
			_ = r.Flush(context.Background())
		case <-r.stop:
			return
		}
	}
}

// Flush writes every result that Record was given before, and what Expect left. When it returns nil
// they are on the disk.
func (r *Recorder) Flush(ctx context.Context) error {
	return r.flush(ctx, nil)
}

// flush writes what is pending, and the run with it if that is not nil.
func (r *Recorder) flush(ctx context.Context, run *Run) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	expected, batch := r.expected, r.pending
	r.mu.Unlock()
	if len(expected)+len(batch) == 0 && run == nil {
		return nil
	}
	r.l.found.Store(nil)
	err := r.l.write(ctx, func(tx *sql.Tx) error {
		for _, inv := range expected {
			if err := expect(ctx, tx, r.run.ID, inv); err != nil {
				return err
			}
		}
		if err := putChecks(ctx, tx, batch); err != nil || run == nil {
			return err
		}
		if encoded := run.End.Standing; encoded != "" {
			if _, err := tx.ExecContext(ctx, "insert or replace into standing (only, told, sum) values (1, ?, ?)", encoded, rowSum(encoded)); err != nil {
				return err
			}
		}
		return putRun(ctx, tx, *run)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected, r.pending = r.expected[len(expected):], r.pending[len(batch):]
	return nil
}

// putChecks stores checks of known items. A conclusive check replaces all earlier ones;
// an inconclusive one replaces the last inconclusive one.
func putChecks(ctx context.Context, tx *sql.Tx, checks []pendingCheck) error {
	rows := lastOf(checks)
	if err := dropUnsettled(ctx, tx, rows); err != nil {
		return err
	}
	put := putter{tx: tx}
	defer put.close()
	for len(rows) > 0 {
		n := 1
		for n < min(len(rows), batchSize) && rows[n].inCommon == rows[0].inCommon {
			n++
		}
		if err := put.batch(ctx, rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// dropUnsettled forgets the checks that came to nothing of items that were settled
// since.
func dropUnsettled(ctx context.Context, tx *sql.Tx, checks []*pendingCheck) error {
	var any bool
	if err := tx.QueryRowContext(ctx, "select exists (select 1 from checks where settled = 0)").Scan(&any); err != nil || !any {
		return err
	}
	drop, err := tx.PrepareContext(ctx, `delete from checks where settled = 0 and item in
		(select id from items where tier = ? and path = ? and want = ?)`)
	if err != nil {
		return err
	}
	defer drop.Close()
	for _, c := range checks {
		if c.Result == Inconclusive {
			continue
		}
		if _, err := drop.ExecContext(ctx, string(c.tier), string(c.key.Path), c.key.Want[:]); err != nil {
			return err
		}
	}
	return nil
}

// lastOf returns the checks to write: for each item the last conclusive one, and the last
// inconclusive one after it. They are in the order of the ledger's index, so that each of
// its pages is needed once.
func lastOf(checks []pendingCheck) []*pendingCheck {
	sameItem := func(a, b *pendingCheck) int {
		return cmp.Or(strings.Compare(string(a.tier), string(b.tier)), a.key.compare(b.key))
	}
	order := make([]*pendingCheck, len(checks))
	for i := range order {
		order[i] = &checks[i]
	}
	slices.SortStableFunc(order, sameItem)
	rows := order[:0]
	for len(order) > 0 {
		var settled, unsettled *pendingCheck
		first := order[0]
		for len(order) > 0 && sameItem(first, order[0]) == 0 {
			if order[0].Result == Inconclusive {
				unsettled = order[0]
			} else {
				settled, unsettled = order[0], nil
			}
			order = order[1:]
		}
		for _, last := range []*pendingCheck{unsettled, settled} {
			if last != nil {
				rows = append(rows, last)
			}
		}
	}
	return rows
}

// batchSize is how many checks are stored by one statement, which takes half the
// time of as many statements.
const batchSize = 64

// putter stores batches of checks, and keeps the statement for a whole one: to prepare
// it takes as long as to carry it out.
type putter struct {
	tx    *sql.Tx
	whole *sql.Stmt // nil before the first whole batch
	args  []any
}

func (p *putter) close() {
	if p.whole != nil {
		p.whole.Close()
	}
}

// batch stores checks that have the same in common.
func (p *putter) batch(ctx context.Context, checks []*pendingCheck) error {
	of := checks[0].inCommon
	p.args = append(p.args[:0], string(of.tier), of.run, of.manifest.Tag, of.manifest.SHA256[:], of.tool)
	for _, pending := range checks {
		c, key := pending.check(), &pending.key
		settled := number(c.Result != Inconclusive)
		p.args = append(p.args, string(key.Path), key.Want[:], settled, toMilli(c.At), c.Result.String(), string(c.Cause),
			c.Took.Milliseconds(), number(c.FromDisk), c.sum(of.tier, *key, settled))
	}
	if len(checks) < batchSize {
		_, err := p.tx.ExecContext(ctx, putStatement(len(checks)), p.args...)
		return err
	}
	if p.whole == nil {
		var err error
		if p.whole, err = p.tx.PrepareContext(ctx, putStatement(batchSize)); err != nil {
			return err
		}
	}
	_, err := p.whole.ExecContext(ctx, p.args...)
	return err
}

// putStatement stores so many checks.
func putStatement(checks int) string {
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
	return `with same(tier, run, tag, manifest, tool) as (values (?, ?, ?, ?, ?)),
		new(path, want, settled, at, result, cause, took, disk, sum) as (values ` + strings.Repeat(row+", ", checks-1) + row + `)
		insert or replace into checks (item, settled, run, at, result, cause, took, disk, tag, manifest, tool, sum)
		select id, settled, run, at, result, cause, took, disk, tag, manifest, tool, sum
		from same cross join new cross join items on items.tier = same.tier and items.path = new.path and items.want = new.want`
}

// End writes what is pending together with the end of the run. It is also for an
// interrupted run, so its context must not be the one that ended. Nothing can be recorded
// afterwards. If it fails, the run stays without an end, and results since the last
// successful write are not remembered.
func (r *Recorder) End(ctx context.Context, end End) error {
	r.halt()
	end.At = fromMilli(toMilli(r.l.now()))
	end.Verdict, end.Configuration, end.Unsafe = clip(end.Verdict), clip(end.Configuration), clip(end.Unsafe)
	end.Manifest.Tag = clip(end.Manifest.Tag)
	if len(end.Standing) > MaxStanding {
		return fmt.Errorf("the standing has %d bytes, more than %d", len(end.Standing), MaxStanding)
	}
	r.run.End = &end
	return r.flush(ctx, &r.run)
}

// Close ends r without an end of the run, and writes what is pending. After End it only
// tries again what could not be written.
func (r *Recorder) Close() error {
	r.halt()
	return r.Flush(context.Background())
}

// halt ends the goroutine that writes.
func (r *Recorder) halt() {
	r.once.Do(func() { close(r.stop) })
	r.stopped.Wait()
}
