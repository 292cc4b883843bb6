package release

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	memoryName   = "accepted.json"
	memorySchema = 1
	memoryMost   = 64
	maxMemory    = 1 << 20
)

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
	// Seen means that the release was only compared with: this node was never shown
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
	if m.state, err = m.load(); err != nil {
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
// that this node has run count then. A release that the policy lists may be older
// than any. In all cases, a release must have the contents accepted under its tag
// before.
func (m *Memory) check(e Accepted, by wish) error {
	for _, old := range m.Accepted() {
		if old.Tag == e.Tag && old.Sums != e.Sums {
			return Untrusted(ReasonReplaced, "this node has accepted other contents under this tag (SHA-256 of %s %s, now %s); a release must never change: publish a new one", SumsName, old.Sums, e.Sums)
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
	return Untrusted(ReasonRolledBack, "created %s, but this node has already %s the newer %s, created %s; if the rollback is intended, list it in release.accept or pass --unsafe-allow-rollback",
		day(e.CreatedAt), what, newest.Tag, day(newest.CreatedAt))
}

// remember adds e under a lock against other processes. e is checked again, against
// what they have accepted meanwhile. An accepted release never becomes one that was
// only seen.
func (m *Memory) remember(ctx context.Context, e Accepted, by wish) error {
	if m.look || m.has(e) {
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(m.dir, "."+memoryName+".lock"))
	if err != nil {
		return unwritten(m.failed(err))
	}
	defer unlock()
	state, err := m.load()
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
	data, err := json.Marshal(&state, jsontext.WithIndent("  "))
	if err != nil {
		return m.failed(err)
	}
	if err := renameio.WriteFile(filepath.Join(m.dir, memoryName), append(data, '\n'), 0o644); err != nil {
		return unwritten(m.failed(err))
	}
	if err := hostfile.SyncDir(m.dir); err != nil {
		return unwritten(m.failed(err))
	}
	m.set(state)
	return nil
}

// unwrittenError means that the state directory can't be written to. It does not
// affect the trust in the release.
type unwrittenError struct{ error }

func (e *unwrittenError) Unwrap() error { return e.error }

// unwritten wraps err as an *unwrittenError if the disk is full or not writable.
func unwritten(err error) error {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOTDIR} {
		if errors.Is(err, errno) {
			return &unwrittenError{err}
		}
	}
	return err
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

func (m *Memory) load() (memoryState, error) {
	path := filepath.Join(m.dir, memoryName)
	var state memoryState
	data, err := hostfile.ReadSmall(path, maxMemory)
	// Without a directory, nothing is or can be recorded.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		// A dangling link is a memory that can't be reached, not a new one.
		if _, linkErr := os.Lstat(path); errors.Is(linkErr, fs.ErrNotExist) || errors.Is(linkErr, unix.ENOTDIR) {
			return memoryState{SchemaVersion: memorySchema}, nil
		}
	}
	if err == nil {
		err = json.Unmarshal(data, &state, json.RejectUnknownMembers(true))
	}
	if err == nil && state.SchemaVersion != memorySchema {
		err = fmt.Errorf("schemaVersion is %d, this program reads %d", state.SchemaVersion, memorySchema)
	}
	if err == nil {
		err = state.check()
	}
	if err == nil && !slices.IsSortedFunc(state.Accepted, func(a, b Accepted) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		err = errors.New("its releases are out of order")
	}
	if errors.Is(err, fs.ErrPermission) {
		return state, m.failed(fmt.Errorf("%w; run as a user who may read it, or choose another directory with --state-dir", err))
	}
	if err != nil {
		return state, m.failed(fmt.Errorf("%w; to accept its loss, remove the file", err))
	}
	return state, nil
}

// check detects missing members, which the decoder accepts.
func (s memoryState) check() error {
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
	return nil
}

func (m *Memory) failed(err error) error {
	return &UnavailableError{"the memory of accepted releases", printable(filepath.Join(m.dir, memoryName)), err}
}
