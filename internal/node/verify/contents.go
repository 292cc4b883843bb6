package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"

	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func planContents(r *run) string {
	a := r.audited()
	var size int64
	for _, p := range a.paths {
		size += p.NarSize
	}
	what := "hash " + report.Quantity(len(a.paths), "store path")
	for i, c := range a.releases[1:] {
		with := ", with those of "
		if i > 0 {
			with = " and "
		}
		what += with + c.Tag
	}
	what += fmt.Sprintf(", %s, and compare what Nix registered", humanize.IBytes(uint64(size))) //nolint:gosec // sizes are positive
	if r.ContentsBudget > 0 && r.Ledger != nil {
		what += fmt.Sprintf("; of these as many as %s allow, if earlier runs answer for the others", r.ContentsBudget)
	}
	return what
}

// contentsResult is the result of the contents tier for later steps.
type contentsResult struct {
	// systems has the state of each release's system.
	systems map[*candidate]systemState
	// witnesses has the hashes of the manifest's paths that are not the release's.
	witnesses map[closure.StorePath]closure.Witnesses
	// linked has the files with several names of each path that was hashed, where the
	// tier "machine" asks for them.
	linked map[closure.StorePath][]running.Link
}

// contentsCheck is the contents tier under way.
type contentsCheck struct {
	*run
	audit    *audit
	claims   *claims
	selected *selection
	observed []observation // of each of the audit's paths
	// hidden are the paths over which something is mounted.
	hidden map[closure.StorePath]bool
	// looseFindings counts those about rights within paths.
	looseFindings int
}

func (r *run) newContentsCheck() *contentsCheck {
	r.contents = contentsResult{make(map[*candidate]systemState), make(map[closure.StorePath]closure.Witnesses), make(map[closure.StorePath][]running.Link)}
	return &contentsCheck{run: r, audit: r.audited(), claims: &claims{}, hidden: make(map[closure.StorePath]bool)}
}

// checkContents hashes every path of the release from disk, and of the other accepted
// releases that the machine can come to run, compares the hashes with the manifests and
// with what Nix registered, and finds paths that the running system has and the release
// lacks.
func (r *run) checkContents(ctx context.Context, t *report.Tier) error {
	if _, err := r.openStore(); err != nil {
		return err
	}
	c := r.newContentsCheck()
	defer limitMemory(c.audit.paths, c.mostWorkers(), c.Read)()
	c.checkAccesses()
	r.checkOrigins(ctx, report.TierContents, string(r.StoreDir), r.databaseDir())
	c.expectContents(ctx)
	c.claims = c.readClaims(ctx)
	mounts := c.mountsOver()
	c.selected = c.selectPaths(ctx)
	stats, hashErr := c.hash(ctx)
	c.listClosure()
	files := c.cover(stats)
	// Before and after, since a mount need not last longer than the hashing.
	mounts = append(mounts, c.mountsOver()...)
	if ctx.Err() == nil {
		r.checkOrigins(ctx, report.TierContents, string(r.StoreDir), r.databaseDir())
	}
	c.judgeMounts(mounts)
	c.noteTimes()
	c.noteAttributes()
	altered := c.judgePaths(hashErr == nil)
	t.Checked = r.report.Coverage.Hashed
	if hashErr != nil {
		return hashErr
	}
	if n := r.report.Coverage.FromCache; n > 0 {
		r.find(report.Finding{
			Tier: report.TierContents, Cause: report.ReadFromCache, Detail: fmt.Sprintf("%d of %s", n, report.Quantity(files, "file")),
		})
	}
	r.findExtra(c.claims)
	if err := c.nameFiles(ctx, altered); err != nil {
		return err
	}
	overdue := c.answerFor()
	if t.Checked == 0 {
		// A candidate whose paths were all hashed by earlier runs.
		t.Checked = r.report.Coverage.Remembered
	}
	t.Why = r.coverageWhy()
	if len(overdue) > 0 {
		return r.overdueFailure(overdue)
	}
	return nil
}

// cover records in the report what was read, and returns the number of files.
func (c *contentsCheck) cover(stats nar.Stats) (files int) {
	counts := c.progress.nar.Snapshot()
	coverage := &c.report.Coverage
	coverage.Paths, coverage.Files, coverage.Bytes = len(c.audit.paths), counts.Files, counts.Bytes
	if c.Read == nar.ReadDisk {
		coverage.FromCache = stats.Cached
	}
	return int(counts.Files)
}

// judgePaths judges each path of the audit, and returns those whose differing files
// should be named. A path that was not reached is judged by its registration if all
// others were hashed.
func (c *contentsCheck) judgePaths(all bool) (altered []int) {
	for i, want := range c.audit.paths {
		got, before := &c.observed[i], len(c.report.Findings)
		checked := false
		switch {
		case errors.Is(got.err, context.Canceled), errors.Is(got.err, context.DeadlineExceeded):
		case errors.Is(got.err, errNotReached):
			if all {
				c.judgeClaim(want, c.claims)
			}
			checked = c.selected.answersFor(want, c.Policy)
		default:
			if c.judgePath(want, got) {
				altered = append(altered, i)
			}
			checked = got.err == nil && !c.hidden[want.Path]
			if got.err == nil {
				c.report.Coverage.Hashed++
			}
			if checked && c.asksForLinks() {
				c.keepLinks(want.Path, got.metadata)
			}
		}
		found := c.report.Findings[before:]
		c.audit.attribute(i, found)
		c.judgeSystem(c.audit.of[i], checked, found)
		if !errors.Is(got.err, errNotReached) {
			c.rememberJudged(want, found)
		}
	}
	return altered
}

// keepLinks keeps the files of a path with several names, for the tier "machine".
func (c *contentsCheck) keepLinks(p closure.StorePath, m *metadata) {
	if m == nil {
		m = new(metadata)
	}
	if !m.unlisted {
		c.contents.linked[p] = m.linked
	}
}

// checkAccesses adds a finding for each directory, from the store up, in which others can
// replace the store's contents: what is hashed now could be replaced a moment later, and
// no hash would show it.
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
		f.Want = "owner 0, writable only by the owner"
		if a.Path == string(r.StoreDir) {
			f.Want = "owner 0, group nixbld, or 0 where there is none, mode 1775"
		}
		r.find(f)
	}
}

// mountsOver returns a finding for each mount at or in one of the audit's paths, and
// marks these paths as hidden. A mount can look like the release when it is hashed and be
// something else for other processes, and it hides the disk beneath.
func (c *contentsCheck) mountsOver() []report.Finding {
	f := report.Finding{Tier: report.TierContents, Cause: report.MountedOver}
	mounts, err := c.store.Mounts()
	if err != nil {
		f.Path, f.Detail, f.ConsequenceOf = string(c.StoreDir), err.Error(), c.withoutProc(f.Tier)
		return []report.Finding{f}
	}
	var found []report.Finding
	for _, mount := range mounts {
		if i, ours := c.mountedIn(c.audit.paths, mount); ours {
			c.hidden[c.audit.paths[i].Path] = true
			f.Path = mount
			found = append(found, f)
			c.audit.attribute(i, found[len(found)-1:])
		}
	}
	return found
}

// judgeMounts adds the findings about mounts, each once.
func (c *contentsCheck) judgeMounts(found []report.Finding) {
	slices.SortFunc(found, func(a, b report.Finding) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range slices.CompactFunc(found, func(a, b report.Finding) bool { return a.Path == b.Path }) {
		c.find(f)
		if i, ours := c.mountedIn(c.audit.paths, f.Path); ours {
			c.rememberJudged(c.audit.paths[i], []report.Finding{f})
		}
	}
}

// mountedIn returns which of paths, in ascending order, a mount is at or in.
func (r *run) mountedIn(paths []closure.PathInfo, mount string) (int, bool) {
	p, _, err := r.StoreDir.Within(mount)
	if err != nil {
		return 0, false
	}
	return closure.Find(paths, p)
}

// judgePath adds the findings about one path and reports whether its bytes are
// not the release's, so that its files are worth naming.
func (c *contentsCheck) judgePath(want closure.PathInfo, got *observation) (altered bool) {
	path := string(want.Path)
	w := closure.Witnesses{Manifest: want.NarHash}
	if claim := c.claims.of(want.Path); claim != nil {
		w.Database = claim.NarHash
	}
	if got.err == nil {
		w.Disk = got.sum.Hash
	} else {
		f := c.unread(want, got.err)
		c.find(f)
		if f.Cause == closure.Missing {
			return false // what Nix registered of it does not matter then
		}
	}
	if got.metadata != nil {
		c.judgeMetadata(want.Path, got.metadata)
	}
	causes := w.Causes()
	if _, seen := c.contents.witnesses[want.Path]; len(causes) > 0 && !seen { // as the release compared with has it
		c.contents.witnesses[want.Path] = w
	}
	for _, cause := range causes {
		f := report.Finding{Tier: report.TierContents, Cause: cause, Path: path, Want: want.NarHash.String(), Got: w.Disk.String()}
		switch cause {
		case closure.DatabaseAltered:
			f.Field, f.Got = "narHash", w.Database.String()
		case closure.DiskAndDatabaseAltered:
			f.Detail = "the database claims " + w.Database.String()
		}
		c.find(f)
		altered = altered || cause != closure.DatabaseAltered
	}
	c.judgeClaim(want, c.claims)
	return altered
}

// unread returns the finding about an unreadable path.
func (r *run) unread(want closure.PathInfo, err error) report.Finding {
	f := report.Finding{Tier: report.TierContents, Path: string(want.Path), Detail: err.Error()}
	var pathErr *nar.PathError
	switch {
	case errors.Is(err, nar.ErrChanged):
		f.Cause = report.ChangedWhileRead
	case errors.Is(err, nar.ErrUnsupported), errors.Is(err, nar.ErrTooLarge):
		// No NAR can represent it, or none of the release's size: the path certainly
		// differs.
		f.Cause, f.Want = closure.DiskAltered, want.NarHash.String()
	case errors.Is(err, syscall.ENOENT) && errors.As(err, &pathErr) && pathErr.Path == want.Path.Base():
		f.Cause, f.Want, f.Detail, f.ConsequenceOf = closure.Missing, want.NarHash.String(), "", r.otherSystem()
	default:
		f.Cause = report.Unreadable
	}
	return f
}

// otherSystem returns the cause that explains missing and extra paths on a
// machine that runs another system, "" on one that doesn't.
func (r *run) otherSystem() report.Cause {
	if r.live.running == "" || r.live.running == r.manifest.Toplevel.OutPath {
		return ""
	}
	if r.outside() {
		return report.OtherProfile
	}
	return report.OtherSystem
}
