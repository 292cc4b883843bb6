package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// Rebuilder builds derivations a second time, like [rebuild.Rebuilder].
type Rebuilder interface {
	Rebuild(ctx context.Context, req rebuild.Request, p *rebuild.Progress) (*rebuild.Summary, error)
}

// second is the result of the second build.
type second struct {
	rebuilt    int
	reproduced []string // names
}

// rebuildAgain lists the unreproducible derivations in m: those whose second build
// has other bytes, and those in the previous manifest's list that were not rebuilt
// now. A derivation that could not be built a second time is an error, because the
// list would silently lack it.
func rebuildAgain(ctx context.Context, req Request, source closure.StorePath, m *closure.Manifest, p *Progress) (second, error) {
	var s second
	var results []rebuild.Result
	if req.Rebuilder != nil {
		p.enter("rebuild")
		summary, err := req.Rebuilder.Rebuild(ctx, rebuild.Request{Manifest: m, Source: source}, &p.Rebuild)
		if err != nil {
			return s, fmt.Errorf("second build: %w", err)
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		results = summary.Results
		if len(results) == 0 {
			return s, fmt.Errorf("second build: none of %d derivations is chosen", summary.Candidates)
		}
	}
	rebuilt := make(map[closure.StorePath]bool, len(results))
	names := make(map[string]bool, len(results))
	var failed []error
	for i := range results {
		r := &results[i]
		rebuilt[r.Derivation] = true
		switch r.Status {
		case rebuild.Reproduced:
			names[r.Derivation.Name()] = true
		case rebuild.Differs:
			m.Unreproducible = append(m.Unreproducible, unreproducible(r))
		default:
			failed = append(failed, fmt.Errorf("%s: %s: %s", r.Derivation, r.Status, cmp.Or(r.Detail, string(r.Input.Path))))
		}
	}
	if len(failed) > 0 {
		const shown = 10
		return s, fmt.Errorf("%d derivations could not be built a second time:\n%w", len(failed), errors.Join(failed[:min(len(failed), shown)]...))
	}
	s.rebuilt = len(results)
	s.reproduced = goOn(req.Previous, m, rebuilt, names)
	return s, nil
}

// goOn adds to m the derivations that previous lists, m contains, and were not
// rebuilt. It returns the names of the listed derivations that reproduced. It
// compares names, since a derivation's path changes with every input.
func goOn(previous, m *closure.Manifest, rebuilt map[closure.StorePath]bool, reproduced map[string]bool) []string {
	if previous == nil {
		return nil
	}
	has := make(map[closure.StorePath]bool)
	for i := range m.Paths {
		has[m.Paths[i].Deriver] = true
	}
	var names []string
	for _, u := range previous.Unreproducible {
		switch {
		case reproduced[u.DrvPath.Name()]:
			names = append(names, strings.TrimSuffix(u.DrvPath.Name(), ".drv"))
		case has[u.DrvPath] && !rebuilt[u.DrvPath]:
			m.Unreproducible = append(m.Unreproducible, u)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unreproducible returns the list entry of a derivation whose second build differs.
func unreproducible(r *rebuild.Result) closure.Unreproducible {
	u := closure.Unreproducible{DrvPath: r.Derivation}
	var files []string
	for i := range r.Outputs {
		o := &r.Outputs[i]
		if !o.Differs() {
			continue
		}
		u.Outputs = append(u.Outputs, o.Name)
		for _, f := range o.Files {
			files = append(files, fmt.Sprintf("%q", o.Name+"/"+string(f.Path)))
		}
	}
	slices.Sort(files)
	const shown = 3
	u.Reason = "two builds of it differ"
	if len(files) > 0 {
		u.Reason += " in " + excerpt.List(files, ", ", shown)
	}
	return u
}
