package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
)

// TestInputsOnce: a source that many nodes of a lock file lock is hashed and
// evaluated with as one.
func TestInputsOnce(t *testing.T) {
	m := newMachine(t)
	m.unseal()
	m.write("/nix/store/new/file", "an input")
	sum := m.hash("/nix/store/new")
	input := m.manifest.StoreDir.SourcePath(sum.Hash, "source")
	m.write(string(input)+"/file", "an input")
	m.remove("/nix/store/new")
	var nodes, names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf(`"%d":"%d"`, i, i))
		nodes = append(nodes, fmt.Sprintf(`"%d":{"locked":{"type":"tarball","narHash":"%s"}}`, i, sum.Hash))
	}
	m.write(string(src)+"/flake.lock", `{"root":"root","version":7,"nodes":{"root":{"inputs":{`+strings.Join(names, ",")+`}},`+strings.Join(nodes, ",")+`}}`)
	m.seal()
	m.files = nil
	m.manifest.Source.NarHash = m.hash(string(src)).Hash
	m.manifest.Source.LockNarHash = m.hash(string(src) + "/flake.lock").Hash
	for i, p := range m.manifest.Paths {
		m.manifest.Paths[i] = m.info(p.Path, p.References...)
		m.sql(fmt.Sprintf("update ValidPaths set hash = 'sha256:%x', narSize = %d where path = '%s'", m.manifest.Paths[i].NarHash[:], m.manifest.Paths[i].NarSize, p.Path))
	}
	m.publish(testTag)
	expect(t, m.verifier().Verify(t.Context(), nil), report.Verified)
	if want := []string{input.Base()}; !slices.Equal(m.eval.given, want) {
		t.Errorf("evaluated with %q, want %q", m.eval.given, want)
	}
}
