package report

import (
	"cmp"
	"slices"
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// SchemaVersion is the version of the JSON form. A member that changes its
// meaning or goes away makes a new version; a new member does not.
const SchemaVersion = 1

// Report is everything that one run has to say. Verdict and counts are not
// kept in it: they follow from Tiers and Findings.
type Report struct {
	Started  time.Time
	Finished time.Time
	// Host is the machine's host name as it calls itself.
	Host string
	// StoreRoot is the directory below which the store was read; empty for
	// this machine's own.
	StoreRoot string
	// Candidate is the store path of the system that was judged instead of what the
	// machine runs, or the tag that it was asked for by; empty for the machine.
	Candidate string
	// Tool and Nix are the versions of ec-verify and of the nix that evaluated;
	// Nix is empty where none was asked.
	Tool string
	Nix  string

	// Against is what the machine was to be compared with: a tag, or several
	// with commas. Configuration is empty where none was named or found out.
	Against       string
	Configuration string
	// Release is what the machine was compared with: what it was to be compared with
	// or, with a finding of [OtherRelease], what it runs. It is nil where no release was
	// accepted.
	Release  *Release
	Tiers    []Tier
	Findings []Finding
	// More counts the findings that there are beside Findings, by class: of a report
	// that was read and lists only some of them.
	More map[Class]int
	// Unsafe names, as given on the command line or in the configuration, what
	// weakened this run.
	Unsafe []string
	// Coverage says how much of what there is was looked at.
	Coverage Coverage
	// Standing is what is known of the machine after this run; nil where nobody keeps
	// that.
	Standing *Standing
	// Closure are the store paths of the release, in ascending order, where the
	// contents tier ran.
	Closure []ClosurePath
}

// Standing is what all runs of a machine's policy say together.
type Standing struct {
	// Look is why this run is a look, which changes no standing; empty for a run of
	// the policy.
	Look string
	// Verdict is the machine's, and Since when it came to be; the zero time where no
	// run of the policy is known.
	Verdict Verdict
	Since   time.Time
}

// ClosurePath is one store path of the release's system.
type ClosurePath struct {
	Path  closure.StorePath
	Size  int64 // of its NAR, in bytes
	State PathState
	// Checked is when its bytes were last hashed; zero where that is not known.
	Checked time.Time
}

// PathState says whether a store path was hashed, in a stable word. What was found
// is in the findings.
type PathState string

// The states of paths.
const (
	Hashed     PathState = "hashed"     // by this run
	Remembered PathState = "remembered" // by an earlier run, recently enough
	Overdue    PathState = "overdue"    // by no run that is recent enough
	Unread     PathState = "unread"     // this run ended before, or could not read it
)

// Release identifies the release that was compared with.
type Release struct {
	Tag        string
	Commit     string
	Created    time.Time
	BestBefore time.Time // zero where the release states none
	// RefusedAfter is BestBefore and the grace, and KeyNotAfter when its signature is
	// not believed any more; zero for never.
	RefusedAfter time.Time
	KeyNotAfter  time.Time
	Source       string // where its bytes came from
	Signer       string // who signed it, or that nobody did
	Unsigned     bool
	// Sums and Manifest are the SHA-256, in hexadecimal digits, of the release's
	// SHA256SUMS.txt and of the manifest of the configuration.
	Sums     string
	Manifest string
	DrvPath  closure.StorePath
	OutPath  closure.StorePath
	// Specialisation is the name of the release's specialisation that the machine
	// runs; "" where it runs the release's system itself.
	Specialisation string
}

// Coverage counts what the contents tier looked at.
type Coverage struct {
	Paths     int   // store paths in the manifest
	Hashed    int   // of these, hashed from disk to the end
	Files     int64 // regular files read
	Bytes     int64 // bytes of file contents read
	Read      nar.ReadMode
	FromCache int64 // files that --read disk could only get from the cache
	// Paused is how long the run gave way to the machine's other work.
	Paused time.Duration
	// Remembered are the paths that this run did not hash, since an earlier one
	// did, recently enough for the policy; Overdue those that nobody did.
	Remembered, Overdue int
	// DatabaseReadOnly says that the Nix database lay on a mount that is
	// read-only where this program sees it. Its write-ahead log was read as ever.
	DatabaseReadOnly bool
	// Origins say from which file systems store, database, profiles and what runs
	// were read.
	Origins []Origin
}

// Origin is the file system that a directory was read from. Source, Root and
// Point may be what somebody made up.
type Origin struct {
	Dir    string // the machine's name of the directory
	Type   string // of the file system, "ext4"
	Source string // "/dev/sda1", "tmpfs"
	Device string // the device's number, "8:1"
	Root   string // where in the file system the directory lies
	Point  string // where the file system is mounted
}

// TierName names one kind of check. Which there are, and in which order, is for
// package verify to say.
type TierName string

// The tiers that others than their own file know of.
const (
	TierRelease  TierName = "release"
	TierSource   TierName = "source"
	TierEval     TierName = "eval"
	TierLive     TierName = "live"
	TierContents TierName = "contents"
	TierRebuild  TierName = "rebuild"
)

// Status is how a tier ended. The zero value is not a status.
type Status string

// The statuses.
const (
	Done    Status = "done"    // everything that it looks at was looked at
	Skipped Status = "skipped" // not run, and Why says why
	Failed  Status = "failed"  // not run to its end, and a finding says why
)

// Tier is how one tier ended.
type Tier struct {
	Name    TierName
	Status  Status
	Why     string // for people; empty where Status is Done and nothing was left out
	Checked int    // things looked at: paths, links, hashes
	Took    time.Duration
	// Asked says that the policy asks for this tier: without it there is no
	// verified.
	Asked bool
}

// Finding is one difference, or one thing that could not be checked.
type Finding struct {
	Tier  TierName
	Cause Cause
	// Path is the store path or link that it is about; empty where it is about
	// the run as a whole.
	Path string
	// Field names the part of Path's registration that differs, e.g.
	// "references"; empty for the whole.
	Field string
	Want  string
	Got   string
	// Detail is one line for people. It may hold what an attacker wrote;
	// encoders escape it.
	Detail string
	// Files are the files of Path that differ, where that could be told, at
	// most [MaxFiles]; MoreFiles counts the rest.
	Files     []closure.FileChange
	MoreFiles int
	// Release is the tag of the release that Path is of, where that is another one
	// than the one compared with, which this machine can come to run.
	Release string
	// ConsequenceOf names the cause of another finding that explains this one.
	ConsequenceOf Cause

	class Class // of a cause that only a later program knows
}

// MaxFiles bounds the files that one finding names.
const MaxFiles = closure.MaxFileChanges

// Class returns the class of the finding's cause.
func (f *Finding) Class() Class {
	if f.class != "" {
		return f.class
	}
	return ClassOf(f.Cause)
}

// Weakened reports whether a part of the check was switched off, by an option or
// by taking the release unsigned.
func (r *Report) Weakened() bool {
	return len(r.Unsafe) > 0 || r.Release != nil && r.Release.Unsigned
}

// Counts returns how many findings there are of each class.
func (r *Report) Counts() map[Class]int {
	counts := map[Class]int{Untrusted: r.More[Untrusted], Drift: r.More[Drift], Inconclusive: r.More[Inconclusive], Notice: r.More[Notice]}
	for i := range r.Findings {
		counts[r.Findings[i].Class()]++
	}
	return counts
}

// CompareGravity orders the causes of one class where the order of their tiers does
// not: that a machine runs another release altogether is less than that it was altered.
func CompareGravity(a, b Cause) int {
	last := func(c Cause) int {
		if c == OtherRelease {
			return 1
		}
		return 0
	}
	return cmp.Compare(last(a), last(b))
}

// Sort puts the findings in the order in which people want them: the gravest
// class first, causes before their consequences, also where these are graver, then by
// tier as in r.Tiers, cause and path.
func (r *Report) Sort() {
	classes := []Class{Untrusted, Drift, Inconclusive, Notice}
	order := func(f *Finding) int {
		return slices.IndexFunc(r.Tiers, func(t Tier) bool { return t.Name == f.Tier })
	}
	class := func(f *Finding) int {
		own := slices.Index(classes, f.Class())
		if f.ConsequenceOf == "" {
			return own
		}
		return max(own, slices.Index(classes, ClassOf(f.ConsequenceOf)))
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(class(&a), class(&b)),
			cmp.Compare(min(len(a.ConsequenceOf), 1), min(len(b.ConsequenceOf), 1)),
			CompareGravity(a.Cause, b.Cause),
			cmp.Compare(order(&a), order(&b)),
			cmp.Compare(a.Cause, b.Cause),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Field, b.Field),
		)
	})
}
