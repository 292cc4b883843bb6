package verify

import (
	"context"
	"errors"
	"fmt"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// unaskedCandidate says why a tier about the running machine is not asked for with a
// candidate.
func unaskedCandidate(v *Verifier) string {
	if v.System == "" {
		return ""
	}
	return "a candidate does not run, and its boot files are left out: they are compared once the boot loader has them"
}

// asked returns the store path that a candidate was named by, "" for a tag.
func (r *run) asked() closure.StorePath {
	p, _, err := r.StoreDir.Within(r.System)
	if err != nil {
		return ""
	}
	return p
}

// candidateSystem returns the toplevel of the candidate.
func (r *run) candidateSystem() closure.StorePath {
	if p := r.asked(); p != "" {
		return p
	}
	return r.chosen.manifest.Toplevel.OutPath
}

// findCandidate records which system is judged. It fails if that is not the system of any
// release that the policy accepts, because there is nothing to compare it with.
func (r *run) findCandidate(ctx context.Context) error {
	if r.System == "" {
		return nil
	}
	if _, err := r.openStore(); err != nil {
		return err
	}
	p := r.candidateSystem()
	r.report.Candidate = string(p)
	if p == r.chosen.manifest.Toplevel.OutPath {
		return nil
	}
	release, unknown, err := r.acceptedAs(ctx, p)
	switch {
	case err != nil:
		return err
	case release != nil:
		r.chosen, r.expected = release, release
		return nil
	case unknown != nil:
		return releaseFailure(unknown)
	}
	why := r.strangerWords(ctx, p)
	if err := ctx.Err(); err != nil {
		return err
	}
	return &failure{cause: report.OtherSystem, path: string(p), err: errors.New(why)}
}

// lookForCandidate adds a finding if the candidate never was on this machine: neither is
// its toplevel in the store, nor has Nix registered it. One that is registered and gone is
// a difference, which the contents tier finds.
func (r *run) lookForCandidate(ctx context.Context) {
	if r.System == "" || r.manifest == nil {
		return
	}
	p := r.candidateSystem()
	if exists, err := r.store.Exists(p); exists || err != nil {
		return
	}
	database, err := r.openDatabase(ctx)
	if err != nil {
		return // the contents tier says so
	}
	if _, err := database.PathInfo(ctx, p); !errors.Is(err, nixstore.ErrNotValid) {
		return
	}
	r.absent = true
	r.find(report.Finding{
		Tier: report.TierContents, Cause: report.CandidateAbsent, Path: string(p),
		Detail: fmt.Sprintf("release %s has it; nothing was compared", r.chosen.Tag),
	})
}

// flake returns where the embedded flake is linked.
func (r *run) flake() string {
	if r.System == "" {
		return r.Flake
	}
	return string(r.candidateSystem()) + r.Flake
}

// candidateWithoutFlake returns why a candidate's flake, linked at name, can't be checked
// if something on the way does not exist: p, or something in p.
func (r *run) candidateWithoutFlake(name string, p closure.StorePath) error {
	if exists, existsErr := r.store.Exists(p); p != "" && existsErr == nil && !exists {
		f := &failure{cause: report.SourceMissing, path: name, err: fmt.Errorf("it leads to %s, which is not there", p)}
		// While the release is being chosen, there is no manifest yet.
		if r.manifest != nil {
			if _, own := r.mountedIn(r.manifest.Paths, string(p)); own {
				f.consequence = closure.Missing
			}
		}
		return f
	}
	return &elsewhereError{report.SourceElsewhere, name, "the candidate carries no flake"}
}
