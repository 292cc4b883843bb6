package nixstore

import (
	"testing"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestHashFile(t *testing.T) {
	m := newMachine(t)
	flake, other, missing := object(1, "source"), object(2, "file"), object(3, "gone")
	m.dir(string(flake) + "/sub")
	m.file(string(flake)+"/flake.lock", "{}")
	m.link(string(flake)+"/link", "sub")
	m.file(string(flake)+"/sub/flake.lock", "{}")
	m.file(string(other), "")
	want, err := nar.HashPath(t.Context(), m.path(string(flake)+"/flake.lock"), nar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := m.open()
	for _, tc := range []struct {
		object closure.StorePath
		name   string
		want   nar.Hash
		fails  bool
	}{
		{flake, "flake.lock", want.Hash, false},
		{flake, "sub/flake.lock", want.Hash, false},
		{flake, "none/flake.lock", nar.Hash{}, false},
		{flake, "sub/none", nar.Hash{}, false},
		{flake, "link/flake.lock", nar.Hash{}, true},
		{other, "flake.lock", nar.Hash{}, false},
		{missing, "flake.lock", nar.Hash{}, true},
		{missing, "sub/flake.lock", nar.Hash{}, false},
	} {
		if got, err := s.HashFile(t.Context(), tc.object, tc.name); got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s of %s: %v, %v", tc.name, tc.object, got, err)
		}
	}
}
