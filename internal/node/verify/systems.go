package verify

import (
	"cmp"
	"context"
	"slices"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// lead is the system to which one of the places that name a system leads.
type lead struct {
	// pending is the finding about a place that leads to another accepted release
	// than the one compared with, but for its cause; the zero value for others.
	pending report.Finding
	// next says that the machine boots by this place next.
	next bool
	// release is nil if the system belongs to no accepted release, or if that is unknown.
	release *candidate
	// odd is the cause of the drift that was found here; unchecked means that part of it
	// could not be checked.
	odd       report.Cause
	unchecked bool
}

// audit has the paths that the contents tier hashes: those of the release that the machine
// is compared with, and of the other accepted releases that it may run, once each.
type audit struct {
	releases []*candidate // the one compared with comes first
	// paths are in ascending order. A path is listed twice if two releases disagree about
	// it.
	paths []closure.PathInfo
	of    [][]*candidate // which releases say so of each of paths
}

// ledTo returns the accepted releases that the machine can come to run, as far as they
// are known, the one that it is compared with first.
func (r *run) ledTo() []*candidate {
	out := []*candidate{r.chosen}
	for _, l := range r.live.leads {
		if l.release != nil && !slices.Contains(out, l.release) {
			out = append(out, l.release)
		}
	}
	return out
}

// audited returns what the contents tier must hash.
func (r *run) audited() *audit {
	a := &audit{releases: r.ledTo()}
	if len(a.releases) == 1 {
		a.paths = slices.Clip(a.releases[0].manifest.Paths)
		a.of = slices.Repeat([][]*candidate{a.releases}, len(a.paths))
		return a
	}
	type said struct {
		info closure.PathInfo
		by   *candidate
	}
	var all []said
	for _, c := range a.releases {
		for _, info := range c.manifest.Paths {
			all = append(all, said{info, c})
		}
	}
	slices.SortStableFunc(all, func(a, b said) int { return cmp.Compare(a.info.Path, b.info.Path) })
	for _, s := range all {
		i := len(a.paths) - 1
		for i >= 0 && a.paths[i].Path == s.info.Path && !sameStatement(a.paths[i], s.info) {
			i--
		}
		if i >= 0 && a.paths[i].Path == s.info.Path {
			a.of[i] = append(a.of[i], s.by)
			continue
		}
		a.paths, a.of = append(a.paths, s.info), append(a.of, []*candidate{s.by})
	}
	return a
}

// sameStatement reports whether two releases say the same of a path. The deriver is no
// part of it: several derivations may have the same output.
func sameStatement(a, b closure.PathInfo) bool {
	return a.NarHash == b.NarHash && a.NarSize == b.NarSize && a.CA == b.CA && slices.Equal(a.References, b.References)
}

// owner returns the first release that has path i, and its tag unless that is the release
// that the machine is compared with.
func (a *audit) owner(i int) (c *candidate, tag string) {
	c = a.of[i][0]
	if c != a.releases[0] {
		tag = c.Tag
	}
	return c, tag
}

// bootsNext reports whether a reboot is pending into a system that has path i.
func (c *contentsCheck) bootsNext(i int) bool {
	return slices.ContainsFunc(c.live.leads, func(l lead) bool { return l.pending.Path != "" }) &&
		slices.ContainsFunc(c.live.leads, func(l lead) bool { return l.next && slices.Contains(c.audit.of[i], l.release) })
}

// tags returns the tags of the releases that have path i, nil where one is audited alone.
func (a *audit) tags(i int) []string {
	if len(a.releases) == 1 {
		return nil
	}
	tags := make([]string, len(a.of[i]))
	for j, c := range a.of[i] {
		tags[j] = c.Tag
	}
	return tags
}

// attribute names the releases in findings about path i. These are no consequences of
// another system that runs, if the path is not of the release that the machine is compared
// with.
func (a *audit) attribute(i int, found []report.Finding) {
	_, tag := a.owner(i)
	tags := a.tags(i)
	for j := range found {
		found[j].Release, found[j].Releases = tag, tags
		if tag == "" {
			continue
		}
		if c := found[j].ConsequenceOf; c == report.OtherSystem || c == report.OtherProfile {
			found[j].ConsequenceOf = ""
		}
	}
}

// grade says what is known of a system.
type grade uint8

const (
	unchecked grade = iota // not completely checked
	agrees                 // every path of it is what its release says
	differs                // something of it is not
)

// systemState is the result of the contents tier for one release's system.
type systemState struct {
	grade
	cause report.Cause // of a difference
}

// judgeSystem adds the findings about a path to the state of the releases that have it.
func (c *contentsCheck) judgeSystem(of []*candidate, checked bool, found []report.Finding) {
	for _, release := range of {
		s, seen := c.contents.systems[release]
		if !seen {
			s.grade = agrees
		}
		if !checked && s.grade == agrees {
			s.grade = unchecked
		}
		for i := range found {
			switch class := found[i].Class(); {
			case class == report.Drift && s.grade != differs:
				s = systemState{differs, found[i].Cause}
			case class == report.Inconclusive && s.grade == agrees:
				s.grade = unchecked
			}
		}
		c.contents.systems[release] = s
	}
}

// acceptedAs returns the accepted release whose toplevel p is, or a specialisation of
// it, or else one that could not be opened and so may be it. Of several it is the one
// that the disk differs least from.
func (r *run) acceptedAs(ctx context.Context, p closure.StorePath) (release, unknown *candidate, err error) {
	var same []*candidate
	for i := range r.candidates {
		c := &r.candidates[i]
		switch {
		case c.Err != nil:
			unknown = c
		case c.manifest.Toplevel.OutPath == p:
			same = append(same, c)
		}
	}
	switch len(same) {
	case 0:
		release, _, err = r.specialisationOf(p)
		return release, unknown, err
	case 1:
		return same[0], nil, nil
	}
	release, err = r.nearest(ctx, same)
	return release, nil, err
}

// maxSpecialisations limits the names in the directory of a system's specialisations.
const maxSpecialisations = 1000

// specialised is a result of [run.specialisationOf].
type specialised struct {
	path    closure.StorePath
	release *candidate
	name    string
}

// specialisationOf returns the accepted release whose system has the specialisation p,
// and the specialisation's name; nil if there is none. The link that says so is part of
// the toplevel, which the contents tier hashes, and p is one of the release's own paths.
// Several tiers ask about the running system, which is looked up once.
func (r *run) specialisationOf(p closure.StorePath) (*candidate, string, error) {
	if r.specialised == nil || r.specialised.path != p {
		s := &specialised{path: p}
		var err error
		if s.release, s.name, err = r.findSpecialisation(p); err != nil {
			return nil, "", err
		}
		r.specialised = s
	}
	return r.specialised.release, r.specialised.name, nil
}

func (r *run) findSpecialisation(p closure.StorePath) (*candidate, string, error) {
	for i := range r.candidates {
		c := &r.candidates[i]
		if c.Err != nil {
			continue
		}
		if _, own := r.mountedIn(c.manifest.Paths, string(p)); !own {
			continue
		}
		dir := string(c.manifest.Toplevel.OutPath) + "/specialisation"
		names, err := r.store.EntriesOf(c.manifest.Toplevel.OutPath, "specialisation", maxSpecialisations)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		for _, name := range names {
			if to, rest, err := r.store.ResolveLink(dir + "/" + name); err == nil && to == p && rest == "" {
				return c, name, nil
			}
		}
	}
	return nil, "", nil
}
