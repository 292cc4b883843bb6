package nix

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Progress tracks a build. A nil Progress tracks nothing.
type Progress struct {
	done, expected atomic.Int64
	current        atomic.Pointer[string]
}

// ProgressSnapshot is the state of a [Progress] at one moment.
type ProgressSnapshot struct {
	// Done of Expected derivations are built. Expected changes while Nix plans the
	// build, and in some versions it ends above Done.
	Done, Expected int64
	// Current is the store path started last and still running, a derivation or a
	// fetched path; "" for none.
	Current string
}

// Snapshot returns the current state.
func (p *Progress) Snapshot() ProgressSnapshot {
	if p == nil {
		return ProgressSnapshot{}
	}
	s := ProgressSnapshot{Done: p.done.Load(), Expected: p.expected.Load()}
	if c := p.current.Load(); c != nil {
		s.Current = *c
	}
	return s
}

// Numbers in Nix's JSON log, as in its logging.hh. Forks use other numbers for their
// additions.
const (
	activityCopyPath   = 100
	activityBuilds     = 104
	activityBuild      = 105
	activitySubstitute = 108

	resultBuildLogLine = 101
	resultProgress     = 105
)

// maxActivities limits the tracked activities. Nix runs some dozens.
const maxActivities = 10_000

// buildLog reads the JSON log of a build line by line.
type buildLog struct {
	progress *Progress
	builds   map[uint64]bool   // activities that count derivations
	going    map[uint64]string // what is being built or fetched
	order    []uint64          // of going, in the order of their starts
	log      tail              // of the builders
}

func newBuildLog(p *Progress) *buildLog {
	if p == nil {
		p = new(Progress)
	}
	return &buildLog{progress: p, builds: make(map[uint64]bool), going: make(map[uint64]string)}
}

// logEvent is one line after "@nix ".
type logEvent struct {
	Action string           `json:"action"`
	ID     uint64           `json:"id"`
	Type   int              `json:"type"`
	Level  int              `json:"level"`
	Msg    string           `json:"msg"`
	Fields []jsontext.Value `json:"fields"`
}

// line processes one line of standard error. It keeps Nix's own warnings and errors,
// and lines that are not part of the log, such as a message of the dynamic linker.
func (b *buildLog) line(line string) (keep string, ok bool) {
	text, isEvent := strings.CutPrefix(line, "@nix ")
	if !isEvent {
		return line, true
	}
	var e logEvent
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		// Truncated, or written by a builder: not usable as progress.
		return "", false
	}
	switch e.Action {
	case "start":
		b.start(e)
	case "stop":
		b.stop(e.ID)
	case "result":
		b.result(e)
	case "msg":
		// 0 is an error and 1 a warning.
		if e.Level <= 1 {
			return e.Msg, true
		}
	}
	return "", false
}

func (b *buildLog) start(e logEvent) {
	switch e.Type {
	case activityBuilds:
		if len(b.builds) < maxActivities {
			b.builds[e.ID] = true
		}
	case activityBuild, activityCopyPath, activitySubstitute:
		if len(b.order) >= maxActivities {
			return
		}
		b.going[e.ID] = printable(e.text(0))
		b.order = append(b.order, e.ID)
		b.show()
	}
}

func (b *buildLog) stop(id uint64) {
	delete(b.builds, id)
	if _, ok := b.going[id]; !ok {
		return
	}
	delete(b.going, id)
	b.order = slices.DeleteFunc(b.order, func(other uint64) bool { return other == id })
	b.show()
}

func (b *buildLog) result(e logEvent) {
	switch e.Type {
	case resultBuildLogLine:
		b.log.add(printable(e.text(0)))
	case resultProgress:
		if !b.builds[e.ID] || len(e.Fields) < 2 {
			return
		}
		b.progress.done.Store(e.number(0))
		b.progress.expected.Store(e.number(1))
	}
}

func (b *buildLog) show() {
	current := ""
	if len(b.order) > 0 {
		current = b.going[b.order[len(b.order)-1]]
	}
	b.progress.current.Store(&current)
}

// text returns field i, or "" if it is not a string.
func (e logEvent) text(i int) string {
	var s string
	if i >= len(e.Fields) || json.Unmarshal(e.Fields[i], &s) != nil {
		return ""
	}
	return s
}

// number returns field i, or 0 if it is not a number.
func (e logEvent) number(i int) int64 {
	var n int64
	if i >= len(e.Fields) || json.Unmarshal(e.Fields[i], &n) != nil {
		return 0
	}
	return n
}
