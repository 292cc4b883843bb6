package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/neighbour"
	"every.channel/ec-verify/internal/node/runlock"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/rebuild"
	"every.channel/ec-verify/internal/report"
)

// defaultStall is how long a run may go without coming forward: longer than the
// steps take that count nothing, such as the copy of a large database on a disk
// that has no time for it. It is TimeoutStartSec= of the units.
const defaultStall = 30 * time.Minute

// lookAt describes the progress of a run.
func lookAt(s verify.Snapshot) terminal.Sample {
	// The other tiers are not counted: they take no time, except the evaluation, whose
	// length nobody knows.
	look := terminal.Sample{What: cmp.Or(string(s.Tier), "start")}
	switch {
	case s.Tier == report.TierEval && s.Evaluation > 0:
		look.Detail = fmt.Sprintf("%s of processor time", s.Evaluation.Round(time.Second))
	case s.Tier == report.TierContents && s.PathsTotal > 0:
		look.Done, look.Total = s.Bytes, s.BytesTotal
		look.Detail = fmt.Sprintf("%d/%d paths", s.Paths, s.PathsTotal)
		for _, p := range s.Hashing {
			if p != "" {
				look.At = append(look.At, p.Name())
			}
		}
	case s.Tier == "machine" && s.PartsTotal > 0:
		look.Done, look.Total, look.Items = s.Parts, s.PartsTotal, true
		look.Detail = fmt.Sprintf("%d/%d parts", s.Parts, s.PartsTotal)
	case s.Tier == report.TierRebuild && s.Rebuild.Total > 0:
		look.Done, look.Total, look.Items = s.Rebuild.Done, s.Rebuild.Total, true
		look.Detail = fmt.Sprintf("%d/%d derivations", s.Rebuild.Done, s.Rebuild.Total)
		if current := s.Rebuild.Current; current != "" {
			look.Detail += "  " + strings.TrimSuffix(current.Name(), ".drv")
		}
	}
	return look
}

// pulse reports the progress of a run to the service manager until the returned function
// reports its end. A build shows no progress, but has a time limit of its own, which is
// allowed for.
func pulse(p *verify.Progress, stall time.Duration) (stop func(string)) {
	return systemd.Pulse(func() systemd.Sign {
		s := p.Snapshot()
		return systemd.Sign{Status: lookAt(s).String(), Progress: s, Allow: stall, Grace: s.Grace}
	})
}

// lockRun takes the lock of the state directory, and waits for it if the flags say so. A
// run on a mounted disk that keeps nothing needs none.
func (a *app) lockRun(ctx context.Context, c config.Config, look bool, flags *verifyFlags) (*runlock.Lock, error) {
	if newLedger(c) == nil && c.UnsafeUnsigned {
		return nil, nil
	}
	if err := configured.CheckOwnState(c); err != nil {
		return nil, err
	}
	var words atomic.Value
	var stop func(string)
	defer func() {
		if stop != nil {
			stop("the other run has ended")
		}
	}()
	me := runlock.Self(time.Now())
	me.Look = look
	return runlock.Acquire(ctx, c.StateDir, flags.wait, me, func(h runlock.Holder) {
		text := "waiting for another run"
		if h.PID > 0 {
			text = "waiting for " + h.String()
		}
		a.Note(report.Escape(text))
		words.Store(text)
		if stop == nil {
			stop = systemd.Pulse(func() systemd.Sign {
				return systemd.Sign{Status: words.Load().(string), Allow: flags.stall, Grace: flags.wait}
			})
		}
	})
}

// verifyRebuilder returns the verifier's rebuilder; nil for no rebuild.
func verifyRebuilder(c config.Config, pacer *neighbour.Pacer) verify.Rebuilder {
	if c.Rebuild.Choice == rebuild.None {
		return nil
	}
	r := configured.Rebuilder(c)
	r.Ready = pacer.Rest
	return r
}

// newPacer returns the pacer for the configuration; nil if it sets no limits.
func newPacer(c config.Config) *neighbour.Pacer {
	return neighbour.New(c.Neighbour.Limits(), func() (neighbour.Stalls, error) {
		return neighbour.ReadStalls(neighbour.ProcPressure)
	})
}
