package verify

import (
	"context"
	"slices"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// rebuildMemory is the ledger of a run as a [rebuild.Memory].
type rebuildMemory struct {
	run     *run
	records ledger.Records // nil until they were read
}

// answersFor reports whether the ledger vouches for a derivation that this run did not
// reach: it was reproduced recently enough.
func (m *rebuildMemory) answersFor(c *rebuild.Candidate) bool {
	return m.records[rebuildItem(c).Key()].Current(m.run.Policy.Rebuild, time.Now())
}

func (m *rebuildMemory) LastRebuilt(ctx context.Context, all []rebuild.Step) map[closure.StorePath]rebuild.Last {
	records, err := m.run.recorder.Records(ctx, ledger.Rebuild)
	if err != nil {
		m.run.notRemembered(err)
		return nil
	}
	m.records = records
	inv := ledger.Inventory{Tier: ledger.Rebuild, Manifest: m.run.manifestID()}
	last := make(map[closure.StorePath]rebuild.Last, len(all))
	for i := range all {
		item := rebuildItem(&all[i].Candidate)
		record := records[item.Key()]
		if check := record.Last; check.Done() {
			last[item.Path] = rebuild.Last{Run: check.Run, Drifted: record.Drifted()}
			item.Cost = check.Took.Milliseconds()
		}
		inv.Items = append(inv.Items, item)
	}
	if err := m.run.recorder.Expect(ctx, inv); err != nil {
		m.run.notRemembered(err)
	}
	return last
}

func (m *rebuildMemory) RecordRebuild(r *rebuild.Result) {
	o := ledger.Outcome{Took: r.Took}
	switch r.Status {
	case rebuild.Reproduced:
		o.Result = ledger.Verified
	case rebuild.Differs:
		o.Result, o.Cause = ledger.Verified, report.UnreproducibleListed
		if slices.ContainsFunc(r.Outputs, func(o rebuild.Output) bool { return o.Differs() && !o.Listed }) {
			o.Result, o.Cause = ledger.Drifted, closure.UnreproducibleBuild
		}
	default:
		o.Result, o.Cause = ledger.Inconclusive, rebuildCauses[r.Status]
	}
	m.run.recorder.Record(ledger.Rebuild, rebuildItem(&r.Candidate), o)
}

func rebuildItem(c *rebuild.Candidate) ledger.Item {
	outputs := make(map[string]nar.Hash, len(c.Outputs))
	for name, want := range c.Outputs {
		outputs[name] = want.Hash
	}
	return ledger.Item{Path: c.Derivation, Want: ledger.WantOutputs(outputs)}
}
