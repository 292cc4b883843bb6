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
	// maxRefusal limits the remembered reason for refusing a list, in bytes.
	maxRefusal = 1000
)

// revokedState is what a node remembers of the lists of revoked releases: the newest one
// that it accepted, whatever happened to the key or the source since, so that no other or
// missing list makes a revoked release valid again.
type revokedState struct {
	SchemaVersion int `json:"schemaVersion"`
	// CreatedAt is the zero time if no list was ever seen.
	CreatedAt time.Time    `json:"createdAt"`
	Sums      string       `json:"sums"`
	Revoked   []Revocation `json:"revoked"`
	// Asked is when all sources have last given a list that is believed, or said that
	// they have none.
	Asked time.Time `json:"asked"`
	// Refused is why a list was refused at the last request; "" if none was.
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

// loadRevoked reads the state remembered in dir. A damaged file is an error: treating it
// as empty would make revoked releases valid again.
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

// Revoked returns the entry on a release in the newest list that this node accepted; nil
// if there is none.
func (m *Memory) Revoked(tag Tag) *Revocation {
	s := m.revokedState()
	return (&Revocations{Revoked: s.Revoked}).Find(tag)
}

// Revocations returns the newest list that this node accepted; its CreatedAt is the zero
// time if there was none.
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

// learn applies change to the remembered state under a lock against other processes, with
// what they have remembered meanwhile. If m is a look or keep is false, only m knows the
// result.
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
		// The new list counts even if it can't be written.
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
