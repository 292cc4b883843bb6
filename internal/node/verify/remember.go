package verify

import (
	"context"
	"errors"
	"strings"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Ledger remembers what runs verified.
type Ledger interface {
	// Begin records that a run by version tool of the program starts. A failure is a
	// notice in the report and no reason not to verify.
	Begin(ctx context.Context, tool string) (Recorder, error)
}

// Recorder remembers one run; see [ledger.Recorder]. It is safe for concurrent
// use.
type Recorder interface {
	// SetAside names the damaged ledger that the one of this run replaced, ""
	// for none.
	SetAside() string
	// Records returns what earlier runs recorded.
	Records(ctx context.Context, tier ledger.Tier) (ledger.Records, error)
	Expect(ctx context.Context, inv ledger.Inventory) error
	Record(tier ledger.Tier, item ledger.Item, o ledger.Outcome)
	// End records the end of the run with the report r, as far as it is known by then,
	// and ends the use of the Recorder. It may set r's standing.
	End(ctx context.Context, r *report.Report, end ledger.End) error
}

// beginRemembering sets r.recorder, if there is a ledger that can be written.
func (r *run) beginRemembering(ctx context.Context) {
	if r.Ledger == nil {
		return
	}
	var err error
	if r.recorder, err = r.Ledger.Begin(ctx, r.Tool); err != nil {
		r.recorder = nil
		r.notRemembered(err)
		return
	}
	if aside := r.recorder.SetAside(); aside != "" {
		r.find(report.Finding{
			Tier: report.TierContents, Cause: report.LedgerDamaged, Path: aside,
			Detail: "it was set aside under this name, and a new one begun",
		})
	}
}

// endRemembering records how the run ended, also for one that was interrupted.
// It comes after the last finding but its own.
func (r *run) endRemembering(ctx context.Context) {
	if r.recorder == nil {
		return
	}
	r.report.Finished = time.Now()
	counts := r.report.Counts()
	end := ledger.End{
		Verdict: r.report.Verdict().String(), Configuration: r.report.Configuration, Unsafe: strings.Join(r.report.Unsafe, ", "),
		Findings: ledger.Findings{
			Untrusted: counts[report.Untrusted], Drift: counts[report.Drift],
			Inconclusive: counts[report.Inconclusive], Notice: counts[report.Notice],
		},
	}
	if r.manifest != nil {
		end.Manifest = r.manifestID()
	}
	if err := r.recorder.End(context.WithoutCancel(ctx), r.report, end); err != nil {
		r.notRemembered(err)
	}
}

// notRemembered says once that, and why, this run is not remembered.
func (r *run) notRemembered(err error) {
	if r.forgotten || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	r.forgotten = true
	r.find(report.Finding{Tier: report.TierContents, Cause: report.NotRemembered, Detail: err.Error()})
}

// manifestID identifies the manifest that this run compares with.
func (r *run) manifestID() ledger.Manifest {
	digest, _ := r.chosen.Release.Sums().Digest(release.ManifestName(r.manifest.Configuration))
	return ledger.Manifest{Tag: string(r.chosen.Release.Tag()), SHA256: nar.Hash(digest)}
}

// expectContents tells the ledger which paths must be hashed. A path for which two
// releases have different hashes is listed with both.
func (c *contentsCheck) expectContents(ctx context.Context) {
	if c.recorder == nil {
		return
	}
	inv := ledger.Inventory{Tier: ledger.Contents, Manifest: c.manifestID(), Items: make([]ledger.Item, 0, len(c.audit.paths))}
	for _, info := range c.audit.paths {
		// The entries of one path are adjacent.
		item, i := contentsItem(info), len(inv.Items)-1
		for i >= 0 && inv.Items[i].Path == item.Path && inv.Items[i].Want != item.Want {
			i--
		}
		if i < 0 || inv.Items[i].Path != item.Path {
			inv.Items = append(inv.Items, item)
		}
	}
	if err := c.recorder.Expect(ctx, inv); err != nil {
		c.notRemembered(err)
	}
}

func contentsItem(info closure.PathInfo) ledger.Item {
	return ledger.Item{Path: info.Path, Want: info.NarHash, Cost: info.NarSize}
}

// rememberHashed records, as soon as a path was hashed, that its bytes are the release's.
// Any other result is known only after the path was judged, so a run that is killed
// before then has not checked it. The same holds for a path that a mount hides.
//
// If the policy asked for the disk, bytes from the page cache prove nothing about it, and
// do not count as checked.
func (c *contentsCheck) rememberHashed(want closure.PathInfo, o *observation) {
	if c.recorder == nil || o.err != nil || o.sum.Hash != want.NarHash || c.hidden[want.Path] {
		return
	}
	outcome := ledger.Outcome{Result: ledger.Verified, FromDisk: o.fromDisk, Took: o.took}
	if c.Read == nar.ReadDisk && !o.fromDisk {
		outcome = ledger.Outcome{Result: ledger.Inconclusive, Cause: report.ReadFromCache}
	}
	c.recorder.Record(ledger.Contents, contentsItem(want), outcome)
}

// rememberJudged records the gravest finding about a path.
func (c *contentsCheck) rememberJudged(want closure.PathInfo, found []report.Finding) {
	if c.recorder == nil {
		return
	}
	for _, class := range []struct {
		report.Class
		ledger.Result
	}{{report.Drift, ledger.Drifted}, {report.Inconclusive, ledger.Inconclusive}} {
		for i := range found {
			if found[i].Class() == class.Class {
				c.recorder.Record(ledger.Contents, contentsItem(want), ledger.Outcome{Result: class.Result, Cause: found[i].Cause})
				return
			}
		}
	}
}
