package rebuild

import (
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Status is the result of one derivation. Statuses are stable words: they are remembered
// between runs. The zero value means none.
type Status string

// The statuses.
const (
	// Reproduced: every output is as the manifest says.
	Reproduced Status = "reproduced"
	// Differs: at least one output is not as the manifest says, and all inputs were as
	// they should be.
	Differs Status = "differs"
	// Failed: the builder failed.
	Failed Status = "failed"
	// TimedOut: the build took longer than a build may.
	TimedOut Status = "timed-out"
	// InputBad: an input differs from what it should be.
	InputBad Status = "input-bad"
	// InputMissing: an input is not on this machine.
	InputMissing Status = "input-missing"
	// NoRoom: the build needs more disk space than it may take.
	NoRoom Status = "no-room"
	// Unavailable: the build could not run, for a reason that is not the derivation's: no
	// sandbox, nix broken, an unreadable file.
	Unavailable Status = "unavailable"
	// NotReached: the run ended before or during this step.
	NotReached Status = "not-reached"
)

// Result is the result of one step.
type Result struct {
	Step
	Status  Status
	Outputs []Output // of the statuses Reproduced and Differs, in the order of their names
	// Input is the path that InputBad or InputMissing is about.
	Input Input
	// Detail is an explanation for people; it may contain output of the builder.
	Detail string
	Took   time.Duration
}

// Output is one output of a build.
type Output struct {
	Name string
	Path closure.StorePath
	Want nar.Hash // the manifest's
	Got  nar.Hash // of the rebuild
	// Listed means that the manifest lists this output as unreproducible; Reason says
	// why.
	Listed bool
	Reason string
	// Files are the files in which the rebuild differs from the disk, if the disk is as
	// the manifest says; FilesNote says why there are none. MoreFiles counts those that
	// Files leaves out.
	Files     []closure.FileChange
	MoreFiles int
	FilesNote string
}

// Differs reports whether o differs from the manifest.
func (o *Output) Differs() bool { return o.Want != o.Got }

// Input is a path that something is built from, with the observation.
type Input struct {
	Path closure.StorePath
	// Witness says who vouches for Want.
	Witness Witness
	Want    nar.Hash
	Got     nar.Hash // zero where the path could not be hashed
}

// Witness names the source of the expected hash of an input. The zero value means that
// no source knows the path.
type Witness string

// The witnesses, best first.
const (
	ByManifest    Witness = "manifest"
	ByLock        Witness = "lock file"   // the hash of a locked input of the flake
	ByDerivation  Witness = "derivation"  // the hash that a fixed-output derivation states
	ByEvaluation  Witness = "evaluation"  // written by evaluating the flake just now
	ByDatabase    Witness = "database"    // registered on this machine: a claim
	BySubstituter Witness = "substituter" // fetched, and signed by a key that nix trusts
)

// Summary is the result of a run.
type Summary struct {
	// Candidates is how many derivations make the paths of the manifest, Planned how many
	// of them were selected.
	Candidates int
	Planned    int
	// Unmatched is the result of [Policy.Unmatched].
	Unmatched []Pattern
	// Results has one result for each planned step, in the order of the plan.
	Results []Result
	// Claimed are the inputs that only the machine's database vouches for, in ascending
	// order.
	Claimed []closure.StorePath
	// Fetched are the inputs that the machine lacked and that were fetched, in ascending
	// order; for Signed of them only a signature vouches.
	Fetched []closure.StorePath
	Signed  int
	// Uncomparable is the result of [Candidates].
	Uncomparable []closure.StorePath
	// Sampled means that the steps are a sample, which may end anywhere.
	Sampled bool
	// BudgetSpent means that the time budget ended the run.
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
