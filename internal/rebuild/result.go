package rebuild

import (
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Status is what became of one derivation. Statuses are stable words: they are
// remembered between runs. The zero value is none.
type Status string

// The statuses.
const (
	// Reproduced: every output that the manifest holds came out as it says.
	Reproduced Status = "reproduced"
	// Differs: at least one output came out otherwise, and all inputs were what
	// they should be.
	Differs Status = "differs"
	// Failed: the builder failed.
	Failed Status = "failed"
	// TimedOut: the build took longer than a build may.
	TimedOut Status = "timed-out"
	// InputBad: a path that it is built from is not what it should be.
	InputBad Status = "input-bad"
	// InputMissing: a path that it is built from is not here.
	InputMissing Status = "input-missing"
	// NoRoom: the build needs more disk space than it may take.
	NoRoom Status = "no-room"
	// Unavailable: the build could not be had for a reason that does not lie in
	// the derivation: no sandbox, nix broken, a file that cannot be read.
	Unavailable Status = "unavailable"
	// NotReached: the run ended before it came to it, or in the midst of it.
	NotReached Status = "not-reached"
)

// Result is what became of one step.
type Result struct {
	Step
	Status  Status
	Outputs []Output // of the statuses Reproduced and Differs, in the order of their names
	// Input is the path that the statuses InputBad and InputMissing are about.
	Input Input
	// Detail says more for people; it may hold what a builder wrote.
	Detail string
	Took   time.Duration
}

// Output is one output as it came out.
type Output struct {
	Name string
	Path closure.StorePath
	Want nar.Hash // the manifest's
	Got  nar.Hash // of the rebuild
	// Listed says that the manifest lists this output as unreproducible, and
	// Reason why.
	Listed bool
	Reason string
	// Files are the files in which the rebuild differs from the disk, where the
	// disk holds what the manifest says; FilesNote says why there are none.
	// MoreFiles counts those that Files leaves out.
	Files     []closure.FileChange
	MoreFiles int
	FilesNote string
}

// Differs reports whether o is not what the manifest says.
func (o *Output) Differs() bool { return o.Want != o.Got }

// Input is a path that something is built from, and what was found of it.
type Input struct {
	Path closure.StorePath
	// Witness says by whom Want is known.
	Witness Witness
	Want    nar.Hash
	Got     nar.Hash // zero where the path could not be hashed
}

// Witness says by whom it is known what an input should be. The zero value
// stands for a path that nobody knows.
type Witness string

// The witnesses, the best first.
const (
	ByManifest    Witness = "manifest"
	ByLock        Witness = "lock file"   // the hash of a locked input of the flake
	ByDerivation  Witness = "derivation"  // the hash that a fixed-output derivation states
	ByEvaluation  Witness = "evaluation"  // written by evaluating the flake just now
	ByDatabase    Witness = "database"    // registered on this machine: a claim
	BySubstituter Witness = "substituter" // fetched, and signed by a key that nix trusts
)

// Summary is what a run gave.
type Summary struct {
	// Candidates is how many derivations make the paths of the manifest, Planned
	// how many of them were to be rebuilt.
	Candidates int
	Planned    int
	// Unmatched is as [Policy.Unmatched] returns it.
	Unmatched []Pattern
	// Results are in the order of the plan, one for each planned step.
	Results []Result
	// Claimed are the inputs whose hashes are known by the machine's database
	// alone, in ascending order.
	Claimed []closure.StorePath
	// Fetched are the inputs that the machine lacks and that were fetched, in
	// ascending order; of Signed of them only a signature tells what they should
	// be.
	Fetched []closure.StorePath
	Signed  int
	// Uncomparable is as [Candidates] returns it.
	Uncomparable []closure.StorePath
	// Sampled says that the steps are a sample, which may end anywhere.
	Sampled bool
	// BudgetSpent says that the time budget ended the run.
	BudgetSpent bool
}

// Count returns how many results have the status s.
func (s *Summary) Count(status Status) int {
	n := 0
	for i := range s.Results {
		if s.Results[i].Status == status {
			n++
		}
	}
	return n
}
