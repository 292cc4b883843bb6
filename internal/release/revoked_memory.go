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
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
)

const (
	revokedName      = "revoked.json"
	revokedSchema    = 1
	maxRevokedMemory = 2 << 20
	// maxRefusal bounds what is remembered of why a list was refused, in bytes.
	maxRefusal = 1000
)

// revokedState is what a node remembers of the lists of revoked releases: the newest
// that it has believed, whatever became of the key or the source since, so that no
// other list and no missing one makes a revoked release good again.
type revokedState struct {
	SchemaVersion int `json:"schemaVersion"`
	// CreatedAt is the zero time where no list was ever seen.
	CreatedAt time.Time    `json:"createdAt"`
	Sums      string       `json:"sums"`
	Revoked   []Revocation `json:"revoked"`
	// Asked is when all sources have last given a list that is believed, or said that
	// they have none.
	Asked time.Time `json:"asked"`
	// Refused is why a list was refused when they were last asked; "" where none was.
	Refused string `json:"refused"`
}

func (s *revokedState) check() error {
	if s.SchemaVersion != revokedSchema {
		return fmt.Errorf("schemaVersion is %d, this program reads %d", s.SchemaVersion, revokedSchema)
	}
	if s.Revoked == nil {
		return errors.New("its list of releases is missing")
	}
	if s.CreatedAt.IsZero() && len(s.Revoked) > 0 || !s.CreatedAt.IsZero() && len(s.Sums) != hex.EncodedLen(len(Digest{})) {
		return errors.New("its list is not whole")
	}
	return checkRevocations(s.Revoked)
}

// loadRevoked reads what is remembered in dir of lists. A damaged file is an error:
// taking it for an empty one would make revoked releases good again.
func loadRevoked(dir string) (revokedState, error) {
	path := filepath.Join(dir, revokedName)
	none := revokedState{SchemaVersion: revokedSchema, Revoked: []Revocation{}}
	data, err := hostfile.ReadSmall(path, maxRevokedMemory)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		// A link to nowhere is a memory that cannot be reached.
		if _, linkErr := os.Lstat(path); errors.Is(linkErr, fs.ErrNotExist) || errors.Is(linkErr, unix.ENOTDIR) {
			return none, nil
		}
	}
	var s revokedState
	if err == nil {
		err = json.Unmarshal(data, &s, json.RejectUnknownMembers(true))
	}
	if err == nil {
		err = s.check()
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; be a user who may read it, or name another directory with --state-dir", err)
	case err != nil:
		err = fmt.Errorf("%w; if its loss is accepted, remove the file", err)
	default:
		return s, nil
	}
	return none, revokedFailed(dir, err)
}

func revokedFailed(dir string, err error) error {
	return &UnavailableError{"the memory of revoked releases", printable(filepath.Join(dir, revokedName)), err}
}

// Revoked returns what the newest list that this node has believed says of a release,
// nil where that is nothing.
func (m *Memory) Revoked(tag Tag) *Revocation {
	s := m.revokedState()
	return (&Revocations{Revoked: s.Revoked}).Find(tag)
}

// Revocations returns the newest list that this node has believed; its CreatedAt is
// the zero time where there was none.
func (m *Memory) Revocations() Revocations {
	s := m.revokedState()
	return Revocations{s.CreatedAt, s.Sums, slices.Clone(s.Revoked)}
}

func (m *Memory) revokedState() revokedState {
	if m == nil {
		return revokedState{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked
}

// learn has change make of what is remembered of lists what it is to be, and remembers
// that, unless m is a look or keep is false: then it is known to m alone. Others who do
// the same are waited for, and what they have remembered meanwhile is what is changed.
func (m *Memory) learn(ctx context.Context, keep bool, change func(s *revokedState)) error {
	if m.look || !keep {
		s := m.revokedState()
		s.Revoked = slices.Clone(s.Revoked)
		change(&s)
		m.setRevoked(s)
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(m.dir, "."+memoryName+".lock"))
	if err != nil {
		// What is learnt counts, even where it can't be written.
		return errors.Join(unwritten(revokedFailed(m.dir, err)), m.learn(ctx, false, change))
	}
	defer unlock()
	s, err := loadRevoked(m.dir)
	if err != nil {
		return err
	}
	before, err := s.encode()
	if err != nil {
		return revokedFailed(m.dir, err)
	}
	change(&s)
	m.setRevoked(s)
	data, err := s.encode()
	if err != nil {
		return revokedFailed(m.dir, err)
	}
	if string(data) == string(before) {
		return nil
	}
	if err := renameio.WriteFile(filepath.Join(m.dir, revokedName), data, 0o644); err != nil {
		return unwritten(revokedFailed(m.dir, err))
	}
	if err := hostfile.SyncDir(m.dir); err != nil {
		return unwritten(revokedFailed(m.dir, err))
	}
	return nil
}

func (s *revokedState) encode() ([]byte, error) {
	data, err := json.Marshal(s, jsontext.WithIndent("  "))
	return append(data, '\n'), err
}

func (m *Memory) setRevoked(s revokedState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked = s
}
