package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// claims are what the Nix database says. The zero value stands for an unreadable database
// and claims nothing.
type claims struct {
	known     bool
	running   nixstore.Registrations // of the system that runs
	others    nixstore.Registrations // paths of the manifest that running lacks
	malformed map[string][]*nixstore.RowError
}

// of returns what is registered of p, or nil.
func (c *claims) of(p closure.StorePath) *closure.PathInfo {
	if info := c.running[p]; info != nil {
		return info
	}
	return c.others[p]
}

// readClaims reads the registrations of the manifest's paths and of the running system's
// closure.
func (c *contentsCheck) readClaims(ctx context.Context) *claims {
	db, err := c.openDatabase(ctx)
	if err == nil {
		c.report.Coverage.DatabaseReadOnly = db.Immutable()
		var found *claims
		if found, err = c.queryClaims(ctx, db); err == nil {
			return found
		}
	}
	if ctx.Err() == nil {
		f := report.Finding{Tier: report.TierContents, Cause: report.DatabaseUnreadable, Detail: err.Error()}
		if errors.Is(err, nixstore.ErrTemp) {
			f.Cause = report.TempUnusable
		}
		c.find(f)
	}
	return &claims{}
}

// maxClaims is how much more memory than the manifest's paths the claims about them
// may take, in bytes.
const maxClaims = 12 << 20

func (c *contentsCheck) queryClaims(ctx context.Context, db *nixstore.Database) (*claims, error) {
	root := c.live.running
	if root == "" {
		root = c.manifest.Toplevel.OutPath
	}
	// Claims about other paths are kept up to little more than the manifest's own size.
	var cost int64
	for _, want := range c.audit.paths {
		cost += nixstore.Cost(want)
	}
	// The system that runs may be another one, and larger.
	db.LimitClosure(maxClaims + 3*cost)
	got, err := db.Claims(ctx, root, c.audit.paths, maxClaims+cost)
	if err != nil {
		return nil, err
	}
	out := &claims{known: true, running: got.Closure, others: got.Others, malformed: map[string][]*nixstore.RowError{}}
	for _, row := range got.Malformed {
		out.malformed[row.Path] = append(out.malformed[row.Path], row)
	}
	return out, nil
}

// judgeClaim adds the findings about a path's registration, other than its hash.
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
	claim := claims.of(want.Path)
	if claim == nil {
		f.Cause, f.ConsequenceOf = closure.Unregistered, r.otherSystem()
		r.find(f)
		return
	}
	for _, d := range closure.CompareClaim(want, *claim) {
		r.find(report.Finding{Tier: report.TierContents, Cause: d.Cause, Path: string(d.Path), Field: d.Field, Want: d.Want, Got: d.Got})
	}
	if claim.Deriver != "" && want.Deriver != "" && claim.Deriver != want.Deriver {
		f.Cause, f.Field, f.Want, f.Got = report.DeriverDiffers, "deriver", string(want.Deriver), string(claim.Deriver)
		r.find(f)
	}
}

// maxExtra limits the findings about paths that the release lacks. A machine that runs
// another system has a few thousand at most.
const maxExtra = 10_000

// findExtra adds a finding for each path that the running system's closure has
// and the release has not.
func (r *run) findExtra(claims *claims) {
	want := r.manifest.Paths
	listed, rest := 0, 0
	for _, p := range slices.Sorted(maps.Keys(claims.running)) {
		if _, ok := closure.Find(want, p); ok {
			continue
		}
		if listed == maxExtra {
			rest++
			continue
		}
		listed++
		r.find(report.Finding{
			Tier: report.TierContents, Cause: closure.Extra, Path: string(p), Got: claims.running[p].NarHash.String(), ConsequenceOf: r.otherSystem(),
		})
	}
	if rest > 0 {
		last := &r.report.Findings[len(r.report.Findings)-1]
		last.Detail = fmt.Sprintf("and %d more that the release does not have", rest)
	}
	for path, rows := range claims.malformed {
		if _, ok := closure.Find(want, closure.StorePath(path)); ok {
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
