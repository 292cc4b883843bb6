package release

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

const (
	revokedSchema = 1
	// maxRefusal limits the remembered reason for refusing a list, in bytes.
	maxRefusal = 1000
)

var revokedFile = memoryFile{"the memory of revoked releases", "revoked.json", 2 << 20}

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
		return errors.New("its list is incomplete")
	}
	return checkRevocations(s.Revoked)
}

func loadRevoked(dir string) (revokedState, error) {
	var s revokedState
	if found, err := revokedFile.load(dir, &s); !found {
		return revokedState{SchemaVersion: revokedSchema, Revoked: []Revocation{}}, err
	}
	return s, nil
}

// Revoked returns the entry on a release in the newest list that this machine accepted; nil
// if there is none.
func (m *Memory) Revoked(tag Tag) *Revocation {
	s := m.revokedState()
	return (&Revocations{Revoked: s.Revoked}).Find(tag)
}

// Revocations returns the newest list that this machine accepted; its CreatedAt is the zero
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
	unlock, err := lock(ctx, filepath.Join(m.dir, memoryLock))
	if err != nil {
		// The new list counts even if it can't be written.
		return errors.Join(unwritten(revokedFile.failed(m.dir, err)), m.learn(ctx, false, change))
	}
	defer unlock()
	s, err := loadRevoked(m.dir)
	if err != nil {
		return err
	}
	before := s
	before.Revoked = slices.Clone(s.Revoked)
	change(&s)
	m.setRevoked(s)
	if reflect.DeepEqual(s, before) {
		return nil
	}
	return revokedFile.store(m.dir, &s)
}

func (m *Memory) setRevoked(s revokedState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked = s
}
