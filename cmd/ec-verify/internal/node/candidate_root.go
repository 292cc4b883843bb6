package node

import (
	"context"
	"os"

	"every.channel/ec-verify/internal/node/activate"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/report"
)

// holdCandidate protects the candidate of v from garbage collection, or says why it does
// not; neither if the candidate has no trusted release.
func (a *app) holdCandidate(ctx context.Context, c config.Config, v *verify.Verifier) (root *activate.CandidateRoot, why string) {
	open := v.Open(ctx)
	v.Open = func(context.Context) []verify.Candidate { return open } // the same that is judged
	m, first := v.Manifest(ctx)
	if m == nil {
		return nil, ""
	}
	if c.StoreRoot != "" && c.StoreRoot != "/" {
		return nil, "it is in the store below " + c.StoreRoot + ", which no GC root of the running system protects"
	}
	if os.Geteuid() != 0 {
		return nil, "only root can create a GC root"
	}
	p, err := v.StoreDir.Parse(first.Candidate)
	if err == nil {
		root, err = activate.HoldCandidate(ctx, activate.This(v.StoreDir, "", nil), p)
	}
	if err != nil {
		return nil, err.Error()
	}
	return root, ""
}

// keepCandidate leaves the candidate of r protected by root if it is verified, and ends the
// protection otherwise. The result says which, or why it was not protected; nil if there
// is nothing to say.
func (a *app) keepCandidate(root *activate.CandidateRoot, why string, r *report.Report) *report.GCRoot {
	if root == nil {
		if why == "" {
			return nil
		}
		return &report.GCRoot{Why: why}
	}
	var out *report.GCRoot
	if r.Verdict() == report.Verified {
		link, err := root.Keep()
		if out = (&report.GCRoot{Path: link}); err != nil {
			out.Why = err.Error()
		}
	}
	if err := root.End(); err != nil {
		a.Note(report.Escape(err.Error()))
	}
	return out
}
