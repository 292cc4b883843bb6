package release

import "sync/atomic"

// Progress tracks the reading of assets. Poll [Progress.Snapshot] to show it. A nil
// *Progress tracks nothing; the zero value is ready for use.
type Progress struct {
	asset       atomic.Pointer[string]
	done, total atomic.Int64
	all         atomic.Int64
	notice      atomic.Pointer[func(string)]
}

// ProgressSnapshot is the state of a [Progress] at one moment.
type ProgressSnapshot struct {
	Asset string // the asset being read; "" before the first
	Done  int64  // bytes of it read so far
	Total int64  // its size in bytes; -1 if unknown
	All   int64  // bytes of all assets read so far
}

// OnNotice sets the function that receives the lines of [Progress.Notice]; nil for
// none.
func (p *Progress) OnNotice(notice func(line string)) { p.notice.Store(&notice) }

// Notice passes a line for people to the function set by OnNotice. It is meant for
// [WithNotice].
func (p *Progress) Notice(line string) {
	if p == nil {
		return
	}
	if notice := p.notice.Load(); notice != nil && *notice != nil {
		(*notice)(line)
	}
}

// Snapshot returns the current state.
func (p *Progress) Snapshot() ProgressSnapshot {
	if p == nil {
		return ProgressSnapshot{}
	}
	s := ProgressSnapshot{Done: p.done.Load(), Total: p.total.Load(), All: p.all.Load()}
	if asset := p.asset.Load(); asset != nil {
		s.Asset = *asset
	}
	return s
}

func (p *Progress) begin(asset string, total int64) {
	if p == nil {
		return
	}
	p.done.Store(0)
	p.total.Store(total)
	p.asset.Store(&asset)
}

// skip records that n bytes of the asset are already there.
func (p *Progress) skip(n int64) {
	if p != nil {
		p.done.Store(n)
	}
}

func (p *Progress) add(n int) {
	if p == nil {
		return
	}
	p.done.Add(int64(n))
	p.all.Add(int64(n))
}
