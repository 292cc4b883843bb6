package release

import "sync/atomic"

// Progress says how far the reading of assets is. Whoever shows it looks at a
// [Progress.Snapshot] now and then. A nil *Progress counts nothing; the zero
// value is ready for use.
type Progress struct {
	asset       atomic.Pointer[string]
	done, total atomic.Int64
	all         atomic.Int64
	notice      atomic.Pointer[func(string)]
}

// ProgressSnapshot is where a [Progress] stood at one moment.
type ProgressSnapshot struct {
	Asset string // the asset that is being read; "" before the first
	Done  int64  // its bytes so far
	Total int64  // its bytes in all; -1 where the source did not say
	All   int64  // bytes read so far, of all assets
}

// OnNotice has notice be called with what [Progress.Notice] is told; nil for nobody.
func (p *Progress) OnNotice(notice func(line string)) { p.notice.Store(&notice) }

// Notice hands a line for people to whoever watches p. It is for [WithNotice].
func (p *Progress) Notice(line string) {
	if p == nil {
		return
	}
	if notice := p.notice.Load(); notice != nil && *notice != nil {
		(*notice)(line)
	}
}

// Snapshot returns where p stands, and changes nothing.
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

// skip says that n bytes of the asset were there before.
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
