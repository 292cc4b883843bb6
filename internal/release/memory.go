package release

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	memorySchema = 1
	memoryMost   = 64
)

var acceptedFile = memoryFile{"the memory of accepted releases", "accepted.json", 1 << 20}

// Memory records the releases that a node accepted, so that it can't be rolled back.
// It is one file in the state directory and safe for concurrent use, also by several
// processes. A nil *Memory records and refuses nothing.
type Memory struct {
	dir  string
	look bool // nothing is added

	mu      sync.Mutex
	state   memoryState
	revoked revokedState
}

// Accepted is one release in a [Memory].
type Accepted struct {
	Tag       Tag       `json:"tag"`
	CreatedAt time.Time `json:"createdAt"`
	// Sums is the SHA-256 of its SHA256SUMS.txt in hexadecimal.
	Sums string `json:"sums"`
	// Seen means that the release was only compared with: this machine was never shown
	// to run it. A release requested by name may be older than one that was only
	// seen; a release that the sources offer as the newest may not.
	Seen bool `json:"seen,omitzero"`
}

type memoryState struct {
	SchemaVersion int `json:"schemaVersion"`
	// Accepted is in ascending order of CreatedAt.
	Accepted []Accepted `json:"accepted"`
}

// OpenMemory returns the memory in dir and creates the directory if it is missing. A
// damaged memory is an error: treating it as empty would allow a rollback.
func OpenMemory(dir string) (*Memory, error) {
	// If the directory can't be created, the memory is empty and adding to it will
	// fail.
	_ = os.MkdirAll(dir, 0o755)
	return readMemory(&Memory{dir: dir})
}

// ReadMemory returns the memory in dir for reading only: it refuses the same
// releases, and nothing is ever added to it. A missing directory is not created.
func ReadMemory(dir string) (*Memory, error) {
	return readMemory(&Memory{dir: dir, look: true})
}

func readMemory(m *Memory) (*Memory, error) {
	var err error
	if m.state, err = loadAccepted(m.dir); err != nil {
		return nil, err
	}
	if m.revoked, err = loadRevoked(m.dir); err != nil {
		return nil, err
	}
	return m, nil
}

// Accepted returns the recorded releases, in ascending order of creation.
func (m *Memory) Accepted() []Accepted {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.Accepted)
}

// newest returns the accepted release that was created last. With seen, releases that
// were only seen count too. Revoked releases do not count: their revocation
// asks for a rollback.
func (m *Memory) newest(seen bool) Accepted {
	for _, e := range slices.Backward(m.Accepted()) {
		if (seen || !e.Seen) && m.Revoked(e.Tag) == nil {
			return e
		}
	}
	return Accepted{}
}

// memoryLock is the file whose lock keeps apart the processes that remember.
const memoryLock = ".accepted.json.lock"

// A wish says who chose a release.
type wish uint8

const (
	named   wish = iota // by the user, by its name
	listed              // by the policy, by its name
	offered             // by the sources, as their newest
)

// check refuses e if accepting it would be a rollback. A release that the sources
// offer must not be older than any known release, because a source could withhold the
// newest. A user who names a release can't be deceived in that way, so only releases
// that this machine has run count then. A release that the policy lists may be older
// than any. In all cases, a release must have the contents accepted under its tag
// before.
func (m *Memory) check(e Accepted, by wish) error {
	for _, old := range m.Accepted() {
		if old.Tag == e.Tag && old.Sums != e.Sums {
			return Untrusted(ReasonReplaced, "this machine has accepted other contents under this tag (SHA-256 of %s %s, now %s); a release must never change: publish a new one", SumsName, old.Sums, e.Sums)
		}
	}
	newest := m.newest(by == offered)
	if by == listed || !e.CreatedAt.Before(newest.CreatedAt) {
		return nil
	}
	what := "accepted"
	if newest.Seen {
		what = "seen"
	}
	return Untrusted(ReasonRolledBack, "created %s, but this machine has already %s the newer %s, created %s; if the rollback is intended, list it in release.accept or pass --unsafe-allow-rollback",
		day(e.CreatedAt), what, newest.Tag, day(newest.CreatedAt))
}

// remember adds e under a lock against other processes. e is checked again, against
// what they have accepted meanwhile. An accepted release never becomes one that was
// only seen.
func (m *Memory) remember(ctx context.Context, e Accepted, by wish) error {
	if m.look || m.has(e) {
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(m.dir, memoryLock))
	if err != nil {
		return unwritten(acceptedFile.failed(m.dir, err))
	}
	defer unlock()
	state, err := loadAccepted(m.dir)
	if err != nil {
		return err
	}
	m.set(state)
	if err := m.check(e, by); err != nil || m.has(e) {
		return err
	}
	state.Accepted = slices.Clone(state.Accepted)
	state.Accepted = slices.DeleteFunc(state.Accepted, func(old Accepted) bool { return old.Tag == e.Tag })
	state.Accepted = append(state.Accepted, e)
	slices.SortStableFunc(state.Accepted, func(a, b Accepted) int { return a.CreatedAt.Compare(b.CreatedAt) })
	state.Accepted = bounded(state.Accepted)
	if err := acceptedFile.store(m.dir, &state); err != nil {
		return err
	}
	m.set(state)
	return nil
}

// has reports whether m records e, either as e or as accepted.
func (m *Memory) has(e Accepted) bool {
	return slices.ContainsFunc(m.Accepted(), func(old Accepted) bool {
		accepted := old
		accepted.Seen = e.Seen
		return accepted == e && (e.Seen || !old.Seen)
	})
}

// bounded drops the oldest entries beyond the limit, but never the newest accepted
// one, even if many newer ones were only seen.
func bounded(all []Accepted) []Accepted {
	keep := len(all) - 1
	for keep >= 0 && all[keep].Seen {
		keep--
	}
	for i := 0; len(all) > memoryMost; {
		if i == keep {
			i++
			continue
		}
		all = slices.Delete(all, i, i+1)
		keep--
	}
	return all
}

func (m *Memory) set(state memoryState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
}

func loadAccepted(dir string) (memoryState, error) {
	var state memoryState
	if found, err := acceptedFile.load(dir, &state); !found {
		return memoryState{SchemaVersion: memorySchema}, err
	}
	return state, nil
}

// check detects missing members, which the decoder accepts.
func (s *memoryState) check() error {
	if s.SchemaVersion != memorySchema {
		return fmt.Errorf("schemaVersion is %d, this program reads %d", s.SchemaVersion, memorySchema)
	}
	if s.Accepted == nil {
		return errors.New("its list of releases is missing")
	}
	for _, a := range s.Accepted {
		if _, err := ParseTag(string(a.Tag)); err != nil {
			return err
		}
		if a.CreatedAt.IsZero() || len(a.Sums) != hex.EncodedLen(len(Digest{})) {
			return fmt.Errorf("its entry for %s is incomplete", a.Tag)
		}
	}
	if !slices.IsSortedFunc(s.Accepted, func(a, b Accepted) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		return errors.New("its releases are out of order")
	}
	return nil
}
