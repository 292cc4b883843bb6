package verify

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Progress counts how far a run has come. The run updates it and the display polls it.
// The zero value is ready to use; all methods are safe for concurrent use.
type Progress struct {
	tier              atomic.Pointer[entered]
	paths, pathsTotal atomic.Int64
	bytesTotal        atomic.Int64
	parts, partsTotal atomic.Int64
	nar               nar.Progress
	boot              nar.Progress
	hashing           inHand
	evaluation        atomic.Int64 // nanoseconds
	rebuild           rebuild.Progress
	pacer             atomic.Pointer[neighbour.Pacer]
}

// inHand are the store paths that are being worked at, the longest first.
type inHand struct {
	mu    sync.Mutex
	paths []closure.StorePath
}

// take adds p, until the returned function is called.
func (h *inHand) take(p closure.StorePath) (done func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paths = append(h.paths, p)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if i := slices.Index(h.paths, p); i >= 0 {
			h.paths = slices.Delete(h.paths, i, i+1)
		}
	}
}

// entered is the tier under way.
type entered struct {
	name  report.TierName
	grace time.Duration
}

// Snapshot is a copy of the counts of a [Progress].
type Snapshot struct {
	Tier       report.TierName // "" before the first
	Grace      time.Duration   // how long the tier may do what counts nothing
	Paths      int64           // store paths hashed
	PathsTotal int64           // store paths to hash; 0 until that is known
	Files      int64           // regular files read
	Bytes      int64           // bytes of contents read
	BytesTotal int64           // bytes of NARs to hash, slightly more than their contents
	Boot       int64           // bytes read of boot files, and of the files that they are compared with
	Parts      int64           // parts of the running machine checked
	PartsTotal int64           // parts to check; 0 until the tier begins
	Evaluation time.Duration   // processor time of the evaluation
	Rebuild    rebuild.ProgressSnapshot
	// Hashing are the store paths being hashed for the longest; "" for none.
	Hashing [2]closure.StorePath
	Paused  time.Duration // given way to other programs; it grows in a pause
}

// Snapshot returns the current counts.
func (p *Progress) Snapshot() Snapshot {
	counts := p.nar.Snapshot()
	s := Snapshot{
		Paths: p.paths.Load(), PathsTotal: p.pathsTotal.Load(),
		Files: counts.Files, Bytes: counts.Bytes, BytesTotal: p.bytesTotal.Load(),
		Parts: p.parts.Load(), PartsTotal: p.partsTotal.Load(),
		Boot:       p.boot.Snapshot().Bytes,
		Evaluation: time.Duration(p.evaluation.Load()), Rebuild: p.rebuild.Snapshot(), Paused: p.pacer.Load().Held().Paused,
	}
	p.hashing.mu.Lock()
	copy(s.Hashing[:], p.hashing.paths)
	p.hashing.mu.Unlock()
	if tier := p.tier.Load(); tier != nil {
		s.Tier, s.Grace = tier.name, tier.grace
	}
	return s
}

func (p *Progress) enter(tier report.TierName, grace time.Duration) {
	p.tier.Store(&entered{tier, grace})
}

// evaluated notes the processor time that an evaluation has used so far.
func (p *Progress) evaluated(used time.Duration) { p.evaluation.Store(int64(used)) }
