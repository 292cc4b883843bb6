package closure

import (
	"slices"
	"testing"

	"every.channel/ec-verify/pkg/nar"
)

// TestWitnesses is the table of docs/design.md for all combinations of equal and different
// hashes of disk, database and rebuild. A witness is "-" if it was not requested, "m" if it
// agrees with the manifest; x, y and z are other hashes.
func TestWitnesses(t *testing.T) {
	var (
		none       []Cause
		rebuild    = []Cause{UnreproducibleBuild}
		database   = []Cause{DatabaseAltered}
		disk       = []Cause{DiskAltered}
		both       = []Cause{DiskAndDatabaseAltered}
		and        = func(causes, more []Cause) []Cause { return slices.Concat(causes, more) }
		unexpected = map[string]bool{}
	)
	table := map[string][]Cause{ // disk, database, rebuild
		"---": none, "--m": none, "--x": rebuild,
		"-m-": none, "-mm": none, "-mx": rebuild,
		"-x-": database, "-xm": database, "-xx": and(database, rebuild), "-xy": and(database, rebuild),
		"m--": none, "m-m": none, "m-x": rebuild,
		"mm-": none, "mmm": none, "mmx": rebuild,
		"mx-": database, "mxm": database, "mxx": and(database, rebuild), "mxy": and(database, rebuild),
		"x--": disk, "x-m": disk, "x-x": and(disk, rebuild), "x-y": and(disk, rebuild),
		"xm-": disk, "xmm": disk, "xmx": and(disk, rebuild), "xmy": and(disk, rebuild),
		"xx-": {ReplacedUnexplained}, "xxm": {CoverUp}, "xxx": {OtherBuild}, "xxy": {ReplacedUnexplained, UnreproducibleBuild},
		"xy-": both, "xym": both, "xyx": and(both, rebuild), "xyy": and(both, rebuild), "xyz": and(both, rebuild),
	}
	for _, key := range witnessKeys() {
		want, ok := table[key]
		if !ok {
			unexpected[key] = true
		}
		if got := witnesses(key).Causes(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
		delete(table, key)
	}
	if len(unexpected)+len(table) > 0 {
		t.Errorf("the table lacks %v and has %v too many", unexpected, table)
	}
}

// A cause must not depend on a missing witness, and every difference has a cause.
func TestCausesNeedTheirWitnesses(t *testing.T) {
	needs := map[Cause]string{ // d: disk, b: database, r: rebuild
		DiskAltered: "d", DatabaseAltered: "b", UnreproducibleBuild: "r",
		ReplacedUnexplained: "db", DiskAndDatabaseAltered: "db",
		CoverUp: "dbr", OtherBuild: "dbr",
	}
	for _, key := range witnessKeys() {
		asked := map[rune]bool{'d': key[0] != '-', 'b': key[1] != '-', 'r': key[2] != '-'}
		causes := witnesses(key).Causes()
		for _, c := range causes {
			for _, witness := range needs[c] {
				if !asked[witness] {
					t.Errorf("%s: got %s, which rests on a witness that was not asked", key, c)
				}
			}
			if needs[c] == "" {
				t.Errorf("%s: got %s, which is not of the witnesses", key, c)
			}
		}
		if differs := slices.ContainsFunc([]byte(key), func(w byte) bool { return w >= 'x' }); differs != (len(causes) > 0) {
			t.Errorf("%s: got %q, want causes: %v", key, causes, differs)
		}
	}
}

func witnesses(key string) Witnesses {
	hashes := map[byte]nar.Hash{'-': {}, 'm': hashOf("m"), 'x': hashOf("x"), 'y': hashOf("y"), 'z': hashOf("z")}
	return Witnesses{Manifest: hashes['m'], Disk: hashes[key[0]], Database: hashes[key[1]], Rebuild: hashes[key[2]]}
}

// witnessKeys returns every combination, other hashes in order of appearance,
// so that "yx-" is "xy-".
func witnessKeys() []string {
	keys := []string{""}
	for range 3 {
		var longer []string
		for _, key := range keys {
			others := 0
			for _, w := range key {
				others = max(others, int(w-'x')+1)
			}
			for _, w := range "-mxyz"[:3+others] {
				longer = append(longer, key+string(w))
			}
		}
		keys = longer
	}
	return keys
}
