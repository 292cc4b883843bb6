package rebuild

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// storePath returns a store path whose digest is n in decimal.
func storePath(n int, name string) closure.StorePath {
	return closure.StorePath(fmt.Sprintf("/nix/store/%032d-%s", n, name))
}

// planned is a graph of n derivations, all in the manifest but for those that
// alter takes out or changes.
func planned(n int, alter func(i int, d *nixstore.Derivation, info *closure.PathInfo)) (nixstore.Graph, *closure.Manifest) {
	graph, m := make(nixstore.Graph), &closure.Manifest{}
	for i := range n {
		name := fmt.Sprintf("part-%03d", i)
		d := &nixstore.Derivation{
			Path: storePath(i, name+".drv"), Env: map[string]string{},
			Outputs: map[string]nixstore.Output{"out": {Path: storePath(1000+i, name)}},
		}
		info := closure.PathInfo{Path: d.Outputs["out"].Path, NarHash: nar.Hash{byte(i + 1)}, Deriver: d.Path}
		if alter != nil {
			alter(i, d, &info)
		}
		graph[d.Path] = d
		if info.Path != "" {
			m.Paths = append(m.Paths, info)
		}
	}
	return graph, m
}

func namesOf(steps []Step) []string {
	out := make([]string, 0, len(steps))
	for _, s := range steps {
		out = append(out, strings.TrimSuffix(s.Derivation.Name(), ".drv"))
	}
	return out
}

func TestCandidates(t *testing.T) {
	graph, m := planned(6, func(i int, d *nixstore.Derivation, info *closure.PathInfo) {
		switch i {
		case 1: // needed for building only
			*info = closure.PathInfo{}
		case 2: // of two outputs one
			d.Outputs["dev"] = nixstore.Output{Path: storePath(2000, "dev")}
		case 3:
			d.Outputs["out"] = nixstore.Output{Path: info.Path, HashAlgo: "sha256", Hash: "00"}
		case 4: // its place is not known beforehand
			d.Outputs["out"] = nixstore.Output{}
		case 5: // a source
			d.Outputs["out"], info.Deriver = nixstore.Output{}, ""
		}
	})
	candidates, uncomparable := Candidates(graph, m)
	var got []string
	for _, c := range candidates {
		got = append(got, fmt.Sprintf("%s %d %v", c.Derivation.Name(), len(c.Outputs), c.Fixed))
	}
	if want := []string{"part-000.drv 1 false", "part-002.drv 1 false", "part-003.drv 1 true"}; !slices.Equal(got, want) {
		t.Errorf("candidates: got %q, want %q", got, want)
	}
	if want := []closure.StorePath{storePath(1004, "part-004")}; !slices.Equal(uncomparable, want) {
		t.Errorf("uncomparable: got %q, want %q", uncomparable, want)
	}
	if got := candidates[0].Outputs["out"]; got != (Wanted{storePath(1000, "part-000"), nar.Hash{1}}) {
		t.Errorf("wanted of part-000: %+v", got)
	}
}

func TestChoose(t *testing.T) {
	graph, m := planned(10, func(i int, d *nixstore.Derivation, _ *closure.PathInfo) {
		switch i {
		case 1:
			d.Env["preferLocalBuild"] = "1"
		case 8: // a download, which says so too
			d.Env["preferLocalBuild"] = "1"
			out := d.Outputs["out"]
			out.HashAlgo, out.Hash = "sha256", strings.Repeat("0", 64)
			d.Outputs["out"] = out
		case 9:
			d.Env["__json"] = `{"preferLocalBuild":true,"wrapperName":"CC_WRAPPER"}`
		case 2:
			d.Env["allowSubstitutes"] = ""
		case 3:
			d.Env["preferLocalBuild"], d.Env["allowSubstitutes"] = "", "1"
		case 4:
			d.Env["__json"] = `{"preferLocalBuild":true}`
		case 5:
			d.Env["__json"] = `{"allowSubstitutes":false}`
		case 6:
			d.Env["__json"] = `{"preferLocalBuild":false,"allowSubstitutes":true}`
			d.Env["src"] = "/nix/store/00000000000000000000000000000000-every-channel-source"
		case 7:
			d.Env["__json"] = `{"preferLocal`
		}
	})
	candidates, _ := Candidates(graph, m)
	for _, c := range []struct {
		policy Policy
		want   string
	}{
		{Policy{}, ""},
		{Policy{Choice: None}, ""},
		{Policy{Choice: Config}, "1 2 4 5"},
		{Policy{Choice: FirstParty}, ""},
		{Policy{Choice: FirstParty, FirstParty: []Pattern{"part-00[37]", "src=*-every-channel-source"}}, "3 6 7"},
		{Policy{Choice: FirstParty, FirstParty: []Pattern{"src=x", "nothing"}}, ""},
		{Policy{Choice: All}, "0 1 2 3 4 5 6 7 8 9"},
		{Policy{Choice: Sample}, "0 1 2 3 4 5 6 7 8 9"},
	} {
		got := strings.ReplaceAll(strings.Join(namesOf(c.policy.Choose(graph, candidates)), " "), "part-00", "")
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c.policy, got, c.want)
		}
	}
}

func TestParseChoice(t *testing.T) {
	for _, c := range Choices() {
		if got, err := ParseChoice(string(c)); err != nil || got != c {
			t.Errorf("%q: got %q, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "ALL", "some"} {
		if _, err := ParseChoice(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// Ten runs of a tenth cover everything once, and the eleventh begins again with
// what the first one did. What fails has no more turns than the rest.
func TestPlanTakesTurns(t *testing.T) {
	graph, m := planned(95, nil)
	candidates, _ := Candidates(graph, m)
	policy := Policy{Choice: Sample, Share: 10}
	last := make(map[closure.StorePath]Last)
	count := make(map[string]int)
	var first []string
	for run := int64(1); run <= 11; run++ {
		steps := policy.Plan(policy.Choose(graph, candidates), last, 0)
		if run == 1 {
			first = namesOf(steps)
		}
		if run == 11 {
			if got := namesOf(steps); !slices.Equal(got[:5], first[5:]) {
				t.Errorf("the eleventh run begins with %q, want what the first one had last: %q", got, first)
			}
			break
		}
		for _, s := range steps {
			count[string(s.Derivation)]++
			last[s.Derivation] = Last{Run: run}
		}
	}
	more := 0
	for drv, n := range count {
		if n > 1 {
			more++
		}
		if n > 2 {
			t.Errorf("%s was taken %d times", drv, n)
		}
	}
	// 10 runs of 10 have five more to take than there are.
	if len(count) != 95 || more != 5 {
		t.Errorf("%d of 95 derivations were taken, %d twice", len(count), more)
	}
}

// A budget ends a run at any point; the next run continues there.
func TestPlanGoesOn(t *testing.T) {
	graph, m := planned(30, nil)
	candidates, _ := Candidates(graph, m)
	policy := Policy{Choice: All}
	last := make(map[closure.StorePath]Last)
	var order []string
	for run, n := range []int{1, 7, 12, 3, 7, 4} {
		steps := policy.Plan(policy.Choose(graph, candidates), last, 0)
		if len(steps) != 30 {
			t.Fatalf("%d steps", len(steps))
		}
		for _, s := range steps[:n] {
			last[s.Derivation] = Last{Run: int64(run + 1)}
		}
		order = append(order, namesOf(steps[:n])...)
	}
	for i, name := range order {
		if want := fmt.Sprintf("part-%03d", i%30); name != want {
			t.Fatalf("step %d is %s, want %s", i, name, want)
		}
	}
}

// What drifted is built again by each run, whatever its budget or share, and the
// others have their turns nevertheless.
func TestPlanForgetsNoDrift(t *testing.T) {
	graph, m := planned(20, nil)
	candidates, _ := Candidates(graph, m)
	sample := Policy{Choice: Sample, Share: 10}
	last := make(map[closure.StorePath]Last)
	for i, c := range candidates {
		last[c.Derivation] = Last{Run: int64(100 - i), Drifted: i >= 4 && i < 9}
	}
	want := []string{"part-004", "part-005", "part-006", "part-007", "part-008", "part-019", "part-018"}
	steps := sample.Plan(sample.Choose(graph, candidates), last, 0)
	if got := namesOf(steps); !slices.Equal(got, want) {
		t.Errorf("the sample: got %q, want %q", got, want)
	}
	b := budget{limit: 1, begin: time.Now().Add(-time.Hour)}
	var begun []string
	for _, s := range (Policy{Choice: All}).Plan(sample.Choose(graph, candidates), last, 0) {
		if b.begins(&s) {
			begun = append(begun, namesOf([]Step{s})...)
		}
	}
	if !slices.Equal(begun, want[:6]) || !b.spent {
		t.Errorf("without time: begun %q, want %q; spent %t", begun, want[:6], b.spent)
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit time.Duration
		took  time.Duration // by each step
		want  int           // begun, of 10
	}{
		{"no bound", 0, time.Hour, 10},
		{"time for all", 11 * time.Hour, time.Hour, 10},
		{"the last one goes beyond it", 150 * time.Minute, time.Hour, 3},
		{"used up to the end", 3 * time.Hour, time.Hour, 3},
		{"too short for one", 1, time.Hour, 1},
	} {
		b := budget{limit: c.limit, begin: time.Now()}
		got := 0
		for range 10 {
			if b.begins(&Step{}) {
				got++
				b.begin = b.begin.Add(-c.took)
			}
		}
		if got != c.want || b.spent != (c.want < 10) {
			t.Errorf("%s: %d begun, spent: %t; want %d", c.name, got, b.spent, c.want)
		}
	}
}

// With a budget of a tenth of what everything takes, ten runs build everything,
// and the eleventh begins again with the oldest, however unlike the builds are.
func TestBudgetOfATenth(t *testing.T) {
	graph, m := planned(97, nil)
	candidates, _ := Candidates(graph, m)
	cost, all := make(map[closure.StorePath]time.Duration), time.Duration(0)
	for i, c := range candidates {
		cost[c.Derivation] = time.Duration(1+i*i%101) * time.Second
		if i == 50 {
			cost[c.Derivation] = time.Hour // a third of all
		}
		all += cost[c.Derivation]
	}
	last := make(map[closure.StorePath]Last)
	for run := int64(1); run <= 11; run++ {
		steps := Policy{Choice: All}.Plan(Policy{Choice: All}.Choose(graph, candidates), last, 0)
		if run == 11 {
			if len(last) != len(candidates) {
				t.Errorf("ten runs built %d of %d", len(last), len(candidates))
			}
			for _, was := range last {
				if was.Run < steps[0].Last.Run {
					t.Errorf("the eleventh run begins with what run %d built, and there is something of run %d", steps[0].Last.Run, was.Run)
				}
			}
		}
		b := budget{limit: (all + 9) / 10, begin: time.Now()}
		for i := range steps {
			if b.begins(&steps[i]) {
				last[steps[i].Derivation] = Last{Run: run}
				b.begin = b.begin.Add(-cost[steps[i].Derivation])
			}
		}
	}
}

// Without memory, every derivation is chosen once in as many runs as there are shares.
func TestPlanWithoutMemory(t *testing.T) {
	graph, m := planned(23, nil)
	candidates, _ := Candidates(graph, m)
	policy := Policy{Choice: Sample, Share: 4}
	seen := make(map[string]bool)
	for turn := 19_001; turn < 19_005; turn++ {
		for _, name := range namesOf(policy.Plan(policy.Choose(graph, candidates), nil, turn)) {
			seen[name] = true
		}
	}
	if len(seen) != 23 {
		t.Errorf("%d of 23 derivations had a turn", len(seen))
	}
	if steps := policy.Plan(nil, nil, 3); len(steps) != 0 {
		t.Errorf("of nothing, the sample is %d", len(steps))
	}
}

// A pattern counts as matching if it names a derivation that builds a path of the system.
func TestUnmatched(t *testing.T) {
	graph, m := planned(3, func(i int, d *nixstore.Derivation, info *closure.PathInfo) {
		if i == 2 { // needed for building only
			*info = closure.PathInfo{}
		}
		d.Env["src"] = fmt.Sprintf("/nix/store/x-source-%d", i)
	})
	candidates, _ := Candidates(graph, m)
	p := Policy{Choice: FirstParty, FirstParty: []Pattern{"part-000", "prat-*", "src=*-source-1", "part-002", "src=*-source-2"}}
	if got, want := p.Unmatched(graph, candidates), []Pattern{"prat-*", "part-002", "src=*-source-2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Choice = All
	if got := p.Unmatched(graph, candidates); got != nil {
		t.Errorf("where no pattern counts: %q", got)
	}
}
