package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// observation is what hashing one path gave.
type observation struct {
	sum nar.Sum
	err error
	// fromDisk says that no file of it could be had from the page cache only,
	// where that was asked for.
	fromDisk bool
	metadata metadata
}

func planContents(v *Verifier, m *closure.Manifest) string {
	what := fmt.Sprintf("hash %d store paths, %s, and compare what Nix registered", len(m.Paths), humanize.IBytes(uint64(m.Closure().NarSize())))
	if v.ContentsBudget > 0 && v.Ledger != nil {
		what += fmt.Sprintf("; of these as many as %s allow, if earlier runs answer for the others", v.ContentsBudget)
	}
	return what
}

// checkContents hashes every path of the release from disk, and of the other
// accepted ones that the machine can come to run; holds the hashes against the
// manifests and what Nix registered, and looks for paths that the running system
// has and the release has not.
func (r *run) checkContents(ctx context.Context, t *report.Tier) error {
	if _, err := r.openStore(); err != nil {
		return err
	}
	r.audit = r.audited()
	paths := r.audit.paths
	defer limitMemory(paths)()
	r.checkAccesses()
	// Once more after the hashing, like the mounts inside of store paths.
	r.checkOrigins(ctx, report.TierContents, string(r.StoreDir), r.databaseDir())
	r.expectContents(ctx)
	claims := r.readClaims(ctx)
	// Before and after, since a mount need not last longer than the hashing.
	mounts := r.mountsOver(paths)
	r.hidden = make(map[closure.StorePath]bool)
	for _, f := range mounts {
		if i, ours := r.mountedIn(paths, f.Path); ours {
			r.hidden[paths[i].Path] = true
		}
	}
	selected := r.selectPaths(ctx, claims)
	observed, stats, hashErr := r.hashAll(ctx, paths, selected)
	r.listClosure(selected, observed)
	r.report.Coverage.Paths = len(paths)
	if r.Read == nar.ReadDisk {
		r.report.Coverage.FromCache = stats.Cached
	}
	counts := r.progress.nar.Snapshot()
	r.report.Coverage.Files, r.report.Coverage.Bytes = counts.Files, counts.Bytes

	mounts = append(mounts, r.mountsOver(paths)...)
	if ctx.Err() == nil {
		r.checkOrigins(ctx, report.TierContents, string(r.StoreDir), r.databaseDir())
	}
	slices.SortFunc(mounts, func(a, b report.Finding) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range slices.CompactFunc(mounts, func(a, b report.Finding) bool { return a.Path == b.Path }) {
		r.find(f)
		if i, ours := r.mountedIn(paths, f.Path); ours {
			r.hidden[paths[i].Path] = true
			r.rememberJudged(paths[i], []report.Finding{f})
		}
	}

	r.noteTimes(paths, observed)
	r.noteAttributes(paths, observed)
	var altered []int
	for i, want := range paths {
		got, before := &observed[i], len(r.report.Findings)
		switch {
		case errors.Is(got.err, context.Canceled), errors.Is(got.err, context.DeadlineExceeded):
			r.judgedPath(i, false, before)
			continue
		case errors.Is(got.err, errNotReached):
			if hashErr == nil {
				r.judgeClaim(want, claims)
			}
			r.judgedPath(i, selected.answersFor(want, r.Policy), before)
			continue
		}
		if r.judgePath(want, got, claims) {
			altered = append(altered, i)
		}
		r.judgedPath(i, got.err == nil && !r.hidden[want.Path], before)
		r.rememberJudged(want, r.report.Findings[before:])
		if got.err == nil {
			t.Checked++
			r.report.Coverage.Hashed++
		}
	}
	if hashErr != nil {
		return hashErr
	}
	if n := r.report.Coverage.FromCache; n > 0 {
		r.find(report.Finding{
			Tier: report.TierContents, Cause: report.ReadFromCache,
			Detail: fmt.Sprintf("%d of %s", n, quantity(int(counts.Files), "file")),
		})
	}
	r.findExtra(claims)
	if err := r.nameFiles(ctx, altered); err != nil {
		return err
	}
	overdue := r.answerFor(selected, observed)
	if t.Checked == 0 {
		// A candidate of which every path was hashed by earlier runs.
		t.Checked = r.report.Coverage.Remembered
	}
	t.Why = r.coverageWhy()
	if len(overdue) > 0 {
		return r.overdueFailure(overdue)
	}
	return nil
}

// judgedPath attributes the findings from number before on to path i of the audit,
// and notes them for the systems that it is of.
func (r *run) judgedPath(i int, checked bool, before int) {
	found := r.report.Findings[before:]
	r.audit.attribute(i, found)
	r.judgeSystem(r.audit.of[i], checked, found)
}

// checkAccesses adds a finding for each directory, from the store up, by which
// others can replace what the store holds: what is hashed now need not be what is
// run in a moment, and no hash tells.
func (r *run) checkAccesses() {
	f := report.Finding{Tier: report.TierContents, Path: string(r.StoreDir)}
	accesses, err := r.store.Accesses()
	if err != nil {
		f.Cause, f.Detail, f.ConsequenceOf = report.Unreadable, err.Error(), r.withoutProc(f.Tier)
		r.find(f)
		f.Detail, f.ConsequenceOf = "", ""
	}
	for _, a := range r.accesses {
		if !slices.Contains(accesses, a) {
			accesses = append(accesses, a)
		}
	}
	for _, a := range accesses {
		f.Cause, f.Path, f.Got = report.PermissionsAltered, a.Path, a.What
		f.Want = "owner 0, writable by nobody else"
		if a.Path == string(r.StoreDir) {
			f.Want = "owner 0, group nixbld, or 0 where there is none, mode 1775"
		}
		r.find(f)
	}
}

// mountsOver returns a finding for each mount at or in one of paths. What is
// mounted can look like the release to a hash and be something else to those
// who use it, and the disk beneath is not seen at all.
func (r *run) mountsOver(paths []closure.PathInfo) []report.Finding {
	f := report.Finding{Tier: report.TierContents, Cause: report.MountedOver}
	mounts, err := r.store.Mounts()
	if err != nil {
		f.Path, f.Detail, f.ConsequenceOf = string(r.StoreDir), err.Error(), r.withoutProc(f.Tier)
		return []report.Finding{f}
	}
	var found []report.Finding
	for _, mount := range mounts {
		if _, ours := r.mountedIn(paths, mount); ours {
			f.Path = mount
			found = append(found, f)
		}
	}
	return found
}

// mountedIn returns which of paths, in ascending order, a mount is at or in.
func (r *run) mountedIn(paths []closure.PathInfo, mount string) (int, bool) {
	p, _, err := r.StoreDir.Within(mount)
	if err != nil {
		return 0, false
	}
	return closure.Find(paths, p)
}

// errNotReached marks a path that was not hashed because the run, or its time
// for that, ended first.
var errNotReached = errors.New("not reached")

// hashAll hashes the selected paths and returns what each of all gave. Its error
// is that of ctx.
func (r *run) hashAll(ctx context.Context, paths []closure.PathInfo, selected *selection) ([]observation, nar.Stats, error) {
	observed := make([]observation, len(paths))
	var total int64
	for i := range paths {
		observed[i].err = errNotReached
		total += paths[i].NarSize
	}
	begin := time.Now()
	r.progress.pathsTotal.Store(int64(len(paths)))
	r.progress.bytesTotal.Store(total)

	var (
		mu    sync.Mutex
		next  int
		stats nar.Stats
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(selected.order) || !selected.may(next, time.Since(begin)) {
			return 0, false
		}
		next++
		return selected.order[next-1], true
	}
	if selected.budget > 0 {
		// Pauses are a part of the time that was given.
		r.Pacer.PauseUntil(begin.Add(selected.budget))
		defer r.Pacer.PauseUntil(time.Time{})
	}
	names := nar.NewTurn()
	g, ctx := errgroup.WithContext(ctx)
	for range r.workers() {
		pace, leave := r.Pacer.Join()
		g.Go(func() error {
			defer leave()
			nar.Pair(func(newHasher func(nar.Options) *nar.Hasher) {
				s := r.hashPaths(ctx, newHasher, pace, names, func() *turn {
					i, ok := take()
					if !ok || ctx.Err() != nil {
						return nil
					}
					return &turn{paths[i], &observed[i]}
				})
				mu.Lock()
				defer mu.Unlock()
				stats = stats.Add(s)
			})
			return ctx.Err()
		})
	}
	err := g.Wait()
	return observed, stats, err
}

// turn is one path to be hashed, and where what that gave belongs.
type turn struct {
	want closure.PathInfo
	got  *observation
}

// hashPaths hashes paths until there is no further turn.
func (r *run) hashPaths(ctx context.Context, newHasher func(nar.Options) *nar.Hasher, pace func(context.Context, int) error, names *nar.Turn, next func() *turn) nar.Stats {
	var seen metadata
	opts := nar.Options{
		Read: r.Read, DropBehind: r.DropBehind, Pace: pace, Progress: &r.progress.nar,
		Owner: r.store.Owner(), Group: r.store.Group(),
		Turn: names,
	}
	seen.watch(&opts)
	h := newHasher(opts)
	for t := next(); t != nil; t = next() {
		seen = metadata{}
		h.SetMaxSize(largest(t.want))
		done, before := r.progress.hashing.take(t.want.Path), h.Stats()
		t.got.sum, t.got.err = h.Sum(ctx, r.store.File(), t.want.Path.Base())
		if errors.Is(t.got.err, nar.ErrChanged) {
			// Once more: a change is only worth reporting if it goes on.
			seen, before = metadata{}, h.Stats()
			t.got.sum, t.got.err = h.Sum(ctx, r.store.File(), t.want.Path.Base())
		}
		t.got.metadata = seen
		t.got.fromDisk = r.Read == nar.ReadDisk && h.Stats().Cached == before.Cached
		r.rememberHashed(t.want, t.got)
		done()
		r.progress.paths.Add(1)
	}
	return h.Stats()
}

// largest returns the size up to which the path that should be want is read. To
// be larger than want is to be altered; to read on tells whether the database
// was altered with it, which is worth some gigabytes and no terabyte.
func largest(want closure.PathInfo) int64 {
	const atLeast = 1 << 30
	return want.NarSize + max(want.NarSize, atLeast)
}

// maxWorkers bounds the memory of a machine with many processors: a worker takes
// some 300 KiB.
const maxWorkers = 32

// diskWorkers is how many workers there are at least to read from the disk: what a
// disk does at once is what makes it fast.
const diskWorkers = 16

// workers returns how many goroutines hash, each a pair of paths: twice as many as
// there are processors, so that some read while others wait for the disk. From the
// page cache that is no slower, and cold it takes a third less time. Where the disk is
// to be read, nothing reads ahead, and a worker waits for each piece.
func (r *run) workers() int {
	if r.Workers > 0 {
		return r.Workers
	}
	n := 2 * runtime.GOMAXPROCS(0)
	if r.Read == nar.ReadDisk {
		n = max(n, diskWorkers)
	}
	return min(n, maxWorkers)
}

// judgePath adds the findings about one path and reports whether its bytes are
// not the release's, so that its files are worth naming.
func (r *run) judgePath(want closure.PathInfo, got *observation, claims *claims) (altered bool) {
	path := string(want.Path)
	w := closure.Witnesses{Manifest: want.NarHash}
	if claim, registered := claims.of(want.Path); registered {
		w.Database = claim.NarHash
	}
	if got.err == nil {
		w.Disk = got.sum.Hash
	} else {
		f := r.unread(want, got.err)
		r.find(f)
		if f.Cause == closure.Missing {
			return false // what Nix registered of it does not matter then
		}
	}
	r.judgeMetadata(want.Path, &got.metadata)
	if _, seen := r.witnesses[want.Path]; !seen { // as the release compared with has it
		r.witnesses[want.Path] = w
	}
	for _, cause := range w.Causes() {
		f := report.Finding{Tier: report.TierContents, Cause: cause, Path: path, Want: want.NarHash.String(), Got: w.Disk.String()}
		switch cause {
		case closure.DatabaseAltered:
			f.Field, f.Got = "narHash", w.Database.String()
		case closure.DiskAndDatabaseAltered:
			f.Detail = "the database claims " + w.Database.String()
		}
		r.find(f)
		altered = altered || cause != closure.DatabaseAltered
	}
	r.judgeClaim(want, claims)
	return altered
}

// unread returns the finding about a path whose bytes could not be had.
func (r *run) unread(want closure.PathInfo, err error) report.Finding {
	f := report.Finding{Tier: report.TierContents, Path: string(want.Path), Detail: err.Error()}
	var pathErr *nar.PathError
	switch {
	case errors.Is(err, nar.ErrChanged):
		f.Cause = report.ChangedWhileRead
	case errors.Is(err, nar.ErrUnsupported), errors.Is(err, nar.ErrTooLarge):
		// No NAR holds it, or none of the release's size, so the path is not what
		// the release says, unread.
		f.Cause, f.Want = closure.DiskAltered, want.NarHash.String()
	case errors.Is(err, syscall.ENOENT) && errors.As(err, &pathErr) && pathErr.Path == want.Path.Base():
		f.Cause, f.Want, f.Detail, f.ConsequenceOf = closure.Missing, want.NarHash.String(), "", r.otherSystem()
	default:
		f.Cause = report.Unreadable
	}
	return f
}

// judgeClaim adds the findings about what Nix registered of one path, its hash
// excepted.
func (r *run) judgeClaim(want closure.PathInfo, claims *claims) {
	if !claims.known {
		return
	}
	f := report.Finding{Tier: report.TierContents, Path: string(want.Path)}
	for _, bad := range claims.malformed[string(want.Path)] {
		f.Cause, f.Field, f.Detail = closure.DatabaseAltered, bad.Field, bad.Error()
		r.find(f)
	}
	if len(claims.malformed[string(want.Path)]) > 0 {
		return
	}
	claim, registered := claims.of(want.Path)
	if !registered {
		f.Cause, f.ConsequenceOf = closure.Unregistered, r.otherSystem()
		r.find(f)
		return
	}
	for _, d := range closure.CompareClaim(want, claim) {
		r.find(report.Finding{Tier: report.TierContents, Cause: d.Cause, Path: string(d.Path), Field: d.Field, Want: d.Want, Got: d.Got})
	}
	if claim.Deriver != "" && want.Deriver != "" && claim.Deriver != want.Deriver {
		f.Cause, f.Field, f.Want, f.Got = report.DeriverDiffers, "deriver", string(want.Deriver), string(claim.Deriver)
		r.find(f)
	}
}

// otherSystem returns the cause that explains missing and extra paths on a
// machine that runs another system, "" on one that doesn't.
func (r *run) otherSystem() report.Cause {
	if r.running == "" || r.running == r.manifest.Toplevel.OutPath {
		return ""
	}
	if r.outside() {
		return report.OtherProfile
	}
	return report.OtherSystem
}

// claims are what the Nix database says. The zero value, a database that could
// not be read, claims nothing.
type claims struct {
	known     bool
	running   closure.Closure // of the system that runs
	others    closure.Closure // paths of the manifest that running lacks
	malformed map[string][]*nixstore.RowError
}

func (c *claims) of(p closure.StorePath) (closure.PathInfo, bool) {
	if info, ok := c.running[p]; ok {
		return info, true
	}
	info, ok := c.others[p]
	return info, ok
}

// readClaims reads what Nix registered of the manifest's paths and of the
// running system's closure.
func (r *run) readClaims(ctx context.Context) *claims {
	db, err := r.openDatabase(ctx)
	if err == nil {
		r.report.Coverage.DatabaseReadOnly = db.Immutable()
		var c *claims
		if c, err = r.queryClaims(ctx, db); err == nil {
			return c
		}
	}
	if ctx.Err() == nil {
		f := report.Finding{Tier: report.TierContents, Cause: report.DatabaseUnreadable, Detail: err.Error()}
		if errors.Is(err, nixstore.ErrTemp) {
			f.Cause = report.TempUnusable
		}
		r.find(f)
	}
	return &claims{}
}

// maxClaims is how much more memory than the manifest's paths the claims about them
// may take, in bytes.
const maxClaims = 12 << 20

func (r *run) queryClaims(ctx context.Context, db *nixstore.Database) (*claims, error) {
	root := r.running
	if root == "" {
		root = r.manifest.Toplevel.OutPath
	}
	paths := make([]closure.StorePath, len(r.audit.paths))
	// What others claim of a path is kept as far as it is not much more than what the
	// manifest has of all.
	var cost int64
	for i, want := range r.audit.paths {
		paths[i] = want.Path
		cost += nixstore.Cost(want)
	}
	// The system that runs may be another one, and larger.
	db.LimitClosure(maxClaims + 3*cost)
	got, err := db.Claims(ctx, root, paths, maxClaims+cost)
	if err != nil {
		return nil, err
	}
	c := &claims{known: true, running: got.Closure, others: got.Others, malformed: map[string][]*nixstore.RowError{}}
	for _, row := range got.Malformed {
		c.malformed[row.Path] = append(c.malformed[row.Path], row)
	}
	return c, nil
}

// maxExtra bounds the findings about paths that the release does not have. A
// machine that runs another system has a few thousand of them at most.
const maxExtra = 10_000

// findExtra adds a finding for each path that the running system's closure has
// and the release has not.
func (r *run) findExtra(claims *claims) {
	want := r.manifest.Closure()
	extra := closure.CompareMembers(want, claims.running)
	for i, d := range extra {
		if i == maxExtra {
			r.find(report.Finding{
				Tier: report.TierContents, Cause: d.Cause, Path: string(d.Path), Got: d.Got, ConsequenceOf: r.otherSystem(),
				Detail: fmt.Sprintf("and %d more that the release does not have", len(extra)-i-1),
			})
			break
		}
		r.find(report.Finding{Tier: report.TierContents, Cause: d.Cause, Path: string(d.Path), Got: d.Got, ConsequenceOf: r.otherSystem()})
	}
	for path, rows := range claims.malformed {
		if _, ok := want[closure.StorePath(path)]; ok {
			continue // judgeClaim has said so
		}
		for _, row := range rows {
			r.find(report.Finding{
				Tier: report.TierContents, Cause: closure.DatabaseAltered, Path: path, Field: row.Field,
				Detail: row.Error(), ConsequenceOf: r.otherSystem(),
			})
		}
	}
}
