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

// Memory is what a node remembers of the releases that it accepted, so that it
// cannot be taken back to an older one. It is one file in the state directory
// and safe for concurrent use, by several processes too. A nil *Memory
// remembers nothing and refuses nothing.
type Memory struct {
	dir  string
	look bool // nothing is added

	mu    sync.Mutex
	state memoryState
}

// Accepted is one release in a [Memory].
type Accepted struct {
	Tag       Tag       `json:"tag"`
	CreatedAt time.Time `json:"createdAt"`
	// Sums is the SHA-256 of its SHA256SUMS.txt in hexadecimal.
	Sums string `json:"sums"`
	// Seen says that the release was compared with, and no more: this node was
	// never shown to run it. A release that is asked for by its name may be older
	// than one that was only seen; what the sources call the newest may not.
	Seen bool `json:"seen,omitzero"`
}

type memoryState struct {
	SchemaVersion int `json:"schemaVersion"`
	// Accepted is in ascending order of CreatedAt.
	Accepted []Accepted `json:"accepted"`
}

// OpenMemory returns the memory in dir, which is made if it does not exist. A
// damaged memory is an error: taking it for an empty one would open the way
// back.
func OpenMemory(dir string) (*Memory, error) {
	// Where it can't be made, it is empty, and to remember something will fail.
	_ = os.MkdirAll(dir, 0o755)
	m := &Memory{dir: dir}
	state, err := m.load()
	if err != nil {
		return nil, err
	}
	m.state = state
	return m, nil
}

// ReadMemory returns the memory in dir as it is, for a look at a release: it
// refuses what it would refuse, and nothing is ever added to it. A directory that
// is not there is not made.
func ReadMemory(dir string) (*Memory, error) {
	m := &Memory{dir: dir, look: true}
	state, err := m.load()
	if err != nil {
		return nil, err
	}
	m.state = state
	return m, nil
}

// Accepted returns what m remembers, in ascending order of creation.
func (m *Memory) Accepted() []Accepted {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.Accepted)
}

// newest returns the release that was created last of those accepted, or also of
// those that were only seen.
func (m *Memory) newest(seen bool) Accepted {
	for _, e := range slices.Backward(m.Accepted()) {
		if seen || !e.Seen {
			return e
		}
	}
	return Accepted{}
}

// A wish says by whose word a release is asked for.
type wish uint8

const (
	named   wish = iota // by its name, by whoever runs the program
	listed              // by its name, by the policy
	offered             // as the newest that the sources have, by them
)

// check refuses e where accepting it would be a step back. What the sources offer
// must not be older than anything that is known to exist: who withholds the newest
// would hide it. Who names a release can't be taken in by them, so that only what
// this node has run counts then. A release that the policy lists may be older than
// any, but like all it must be the one that was accepted under its name.
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
	return Untrusted(ReasonRolledBack, "created %s, but this node has already %s the newer %s, created %s; if the way back is meant, name it in release.accept or pass --unsafe-allow-rollback",
		day(e.CreatedAt), what, newest.Tag, day(newest.CreatedAt))
}

// remember adds e, and waits for others who do the same. What they have
// accepted meanwhile counts: e is checked again. One that was accepted does not
// become one that was only seen.
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

// unwrittenError says that the state directory can't be written to. The release
// is as good as before.
type unwrittenError struct{ error }

func (e *unwrittenError) Unwrap() error { return e.error }

// unwritten returns err as an *unwrittenError where the disk is full or may not be
// written to.
func unwritten(err error) error {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOTDIR} {
		if errors.Is(err, errno) {
			return &unwrittenError{err}
		}
	}
	return err
}

// has reports whether m remembers e, or that it was accepted.
func (m *Memory) has(e Accepted) bool {
	return slices.ContainsFunc(m.Accepted(), func(old Accepted) bool {
		accepted := old
		accepted.Seen = e.Seen
		return accepted == e && (e.Seen || !old.Seen)
	})
}

// bounded drops the oldest beyond the bound, but never the newest one that was
// accepted, however many newer ones were only seen.
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
	// Where the directory is none, nothing is or can be remembered.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		// A link to nowhere is a memory that cannot be reached, not one that is
		// not there yet.
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
		return state, m.failed(fmt.Errorf("%w; be a user who may read it, or name another directory with --state-dir", err))
	}
	if err != nil {
		return state, m.failed(fmt.Errorf("%w; if its loss is accepted, remove the file", err))
	}
	return state, nil
}

// check finds what a decoder lets pass because it is not there.
func (s memoryState) check() error {
	if s.Accepted == nil {
		return errors.New("its list of releases is missing")
	}
	for _, a := range s.Accepted {
		if _, err := ParseTag(string(a.Tag)); err != nil {
			return err
		}
		if a.CreatedAt.IsZero() || len(a.Sums) != hex.EncodedLen(len(Digest{})) {
			return fmt.Errorf("its entry of %s is not whole", a.Tag)
		}
	}
	return nil
}

func (m *Memory) failed(err error) error {
	return &UnavailableError{"the memory of accepted releases", printable(filepath.Join(m.dir, memoryName)), err}
}
