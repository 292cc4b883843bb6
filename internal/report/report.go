package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// SchemaVersion is the version of the JSON form. It changes if a member changes its
// meaning or is removed; a new member does not change it.
const SchemaVersion = 1

// Report is the result of one run. It has no fields for verdict and counts: they follow
// from Tiers and Findings.
type Report struct {
	// Against is the requested release: a tag, or several separated by commas.
	// Configuration is empty if none was named or found.
	Against       string `json:"against"`
	Configuration string `json:"configuration"`
	// Release is the release that the machine was compared with: the requested one or,
	// with a finding of [OtherRelease], the one that it runs. It is nil if no release was
	// accepted.
	Release *Release `json:"release"`
	// Host is the machine's own host name.
	Host string `json:"host"`
	// StoreRoot is the directory below which the store was read; empty for this machine's
	// own.
	StoreRoot string `json:"storeRoot"`
	// Candidate is the store path of the system that was judged instead of the running
	// one, or the requested tag; empty if the machine was judged.
	Candidate string `json:"candidate,omitzero"`
	// GCRoot says whether the candidate is protected from garbage collection; nil if no
	// candidate was judged, or one that was protected until it turned out not to be
	// verified.
	GCRoot *GCRoot `json:"gcRoot,omitzero"`
	// Tool and Nix are the versions of ec-verify and of the nix that evaluated; Nix is
	// empty if none did.
	Tool     string    `json:"tool"`
	Nix      string    `json:"nix"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Unsafe names what weakened this run, as on the command line or in the
	// configuration.
	Unsafe []string `json:"unsafe"`
	Tiers  []Tier   `json:"tiers"`
	// Coverage says how much was checked.
	Coverage Coverage `json:"-"`
	// Standing is the machine's standing after this run; nil if none is kept.
	Standing *Standing `json:"standing"`
	Findings []Finding `json:"-"`
	// More counts, by class, the findings beyond Findings: a decoded report may list only
	// some.
	More map[Class]int `json:"-"`
	// Closure are the store paths of the release, and of other accepted releases that the
	// machine can come to run, in ascending order, if the contents tier ran. A path is
	// listed twice if two releases disagree about it.
	Closure []ClosurePath `json:"-"`
}

// GCRoot says whether a garbage collector root protects a candidate.
type GCRoot struct {
	// Path is the link that protects it, from before it was judged until a switch activates
	// it or another candidate is judged; empty if a garbage collection may remove it.
	Path string `json:"path"`
	// Why says why there is no root; empty if there is one.
	Why string `json:"why"`
}

// Standing is the combined result of all runs of a machine's policy.
type Standing struct {
	// Look is the reason why this run is a look, which changes no standing; empty for a
	// run of the policy.
	Look string `json:"look"`
	// Verdict is the machine's verdict, Since when it began; the zero time if no run of
	// the policy is known.
	Verdict Verdict   `json:"verdict"`
	Since   time.Time `json:"since"`
	// Dropped counts the findings of earlier runs that no longer count because the policy
	// no longer requests their tiers or parts.
	Dropped int `json:"dropped,omitzero"`
}

// ClosurePath is one store path of a system that was audited.
type ClosurePath struct {
	Path  closure.StorePath `json:"path"`
	Size  int64             `json:"narSize"` // of its NAR, in bytes
	State PathState         `json:"state"`
	// Checked is when its bytes were last hashed; zero if unknown.
	Checked time.Time `json:"checkedAt"`
	// Releases are as in a [Finding].
	Releases []string `json:"releases,omitempty"`
}

// PathState says whether a store path was hashed, in a stable word. The results are in
// the findings.
type PathState string

// The states of paths.
const (
	Hashed     PathState = "hashed"     // by this run
	Remembered PathState = "remembered" // by an earlier run, recently enough
	Overdue    PathState = "overdue"    // by no run that is recent enough
	Unread     PathState = "unread"     // this run ended before, or could not read it
)

// Release identifies the release that the machine was compared with.
type Release struct {
	Tag        string    `json:"tag"`
	Commit     string    `json:"commit"`
	Created    time.Time `json:"createdAt"`
	BestBefore time.Time `json:"bestBefore"` // zero where the release states none
	// RefusedAfter is BestBefore plus the grace period; KeyNotAfter is when its signature
	// stops being accepted; zero for never.
	RefusedAfter time.Time `json:"refusedAfter"`
	KeyNotAfter  time.Time `json:"keyNotAfter"`
	Source       string    `json:"source"` // where its bytes came from
	Signer       string    `json:"signer"` // who signed it, or that nobody did
	Unsigned     bool      `json:"unsigned"`
	// Sums and Manifest are the SHA-256, in hexadecimal, of the release's SHA256SUMS.txt
	// and of the configuration's manifest.
	Sums     string            `json:"sums"`
	Manifest string            `json:"manifest"`
	DrvPath  closure.StorePath `json:"drvPath"`
	OutPath  closure.StorePath `json:"outPath"`
	// Specialisation is the name of the release's specialisation that the machine runs;
	// "" if it runs the release's system itself.
	Specialisation string `json:"specialisation"`
}

// Coverage counts what the contents tier checked.
type Coverage struct {
	Paths     int          `json:"paths"`  // store paths in the manifest
	Hashed    int          `json:"hashed"` // of these, hashed from disk to the end
	Files     int64        `json:"files"`  // regular files read
	Bytes     int64        `json:"bytes"`  // bytes of file contents read
	Read      nar.ReadMode `json:"read"`
	FromCache int64        `json:"fromCache"` // files that --read disk could only get from the cache
	// Paused is how long the run paused for other programs.
	Paused time.Duration `json:"pausedSeconds"`
	// Remembered are the paths that this run did not hash because an earlier one did,
	// recently enough for the policy; Overdue those that no run hashed in time.
	Remembered int `json:"remembered"`
	Overdue    int `json:"overdue"`
	// DatabaseReadOnly means that the Nix database was on a mount that is read-only for
	// this program. Its write-ahead log was read as always.
	DatabaseReadOnly bool `json:"databaseReadOnly"`
	// Origins are the file systems from which the store, the database, the profiles and
	// /run were read.
	Origins []Origin `json:"origins"`
}

// Origin is the file system of a directory. Source, Root and Point are untrusted.
type Origin struct {
	Dir    string `json:"dir"`        // the machine's name of the directory
	Type   string `json:"type"`       // of the file system, "ext4"
	Source string `json:"source"`     // "/dev/sda1", "tmpfs"
	Device string `json:"device"`     // the device's number, "8:1"
	Root   string `json:"root"`       // the place of the directory in the file system
	Point  string `json:"mountPoint"` // where the file system is mounted
}

// TierName names one kind of check. Package verify defines the tiers and their order.
type TierName string

// The tiers that are used outside their own file.
const (
	TierRelease  TierName = "release"
	TierSource   TierName = "source"
	TierEval     TierName = "eval"
	TierLive     TierName = "live"
	TierContents TierName = "contents"
	TierRebuild  TierName = "rebuild"
)

// Status is how a tier ended. The zero value is no status.
type Status string

// The statuses.
const (
	Done    Status = "done"    // everything was checked
	Skipped Status = "skipped" // not run, and Why says why
	Failed  Status = "failed"  // not run to its end, and a finding says why
)

// Tier is how one tier ended.
type Tier struct {
	Name   TierName `json:"name"`
	Status Status   `json:"status"`
	// Asked means that the policy asks for this tier: the verdict is not verified without
	// it.
	Asked   bool          `json:"asked"`
	Why     string        `json:"why"`     // for people; empty where Status is Done and nothing was left out
	Checked int           `json:"checked"` // things checked: paths, links, hashes
	Took    time.Duration `json:"seconds"`
}

// Finding is one difference, or one thing that could not be checked.
type Finding struct {
	Cause Cause    `json:"cause"`
	Tier  TierName `json:"tier"`
	// Part is the part of the tier machine that found it; empty in other tiers, and in a
	// decoded report.
	Part string `json:"-"`
	// Path is the store path or link of the finding; empty if it concerns the whole run.
	Path string `json:"path"`
	// Field names the part of Path's registration that differs, e.g. "references"; empty
	// if the finding concerns Path itself.
	Field string `json:"field"`
	Want  string `json:"want"`
	Got   string `json:"got"`
	// Detail is one line for people. It may contain untrusted text; encoders escape it.
	Detail string `json:"detail"`
	// Release is the tag of Path's release, if that is not the one that the machine was
	// compared with but another that it can come to run.
	Release string `json:"release,omitzero"`
	// Releases are the tags of all releases that have Path so, the one compared with
	// first, if the systems of several were hashed; else nil.
	Releases []string `json:"releases,omitempty"`
	// ConsequenceOf is the cause of another finding that explains this one.
	ConsequenceOf Cause `json:"consequenceOf"`
	// Allowed counts the differences that an exception allowed, with ExceptionUsed.
	Allowed int `json:"allowed,omitzero"`
	// Files are the differing files of Path, if they are known: at most
	// [closure.MaxFileChanges]. MoreFiles counts the rest.
	Files     []closure.FileChange `json:"-"`
	MoreFiles int                  `json:"moreFiles"`

	class Class // of a cause that only a later program knows
}

// Class returns the class of the finding's cause.
func (f *Finding) Class() Class {
	if f.class != "" {
		return f.class
	}
	return ClassOf(f.Cause)
}

// Of names the releases of f's path where that says something: "release X", or
// "releases X and Y" for what they share; else "".
func (f *Finding) Of() string {
	tags := f.Releases
	if len(tags) == 0 && f.Release != "" {
		tags = []string{f.Release}
	}
	words := make([]string, len(tags))
	for i, tag := range tags {
		words[i] = escapeBounded(tag, maxShown)
	}
	switch len(words) {
	case 0:
		return ""
	case 1:
		return "release " + words[0]
	}
	return "releases " + strings.Join(words, " and ")
}

// Weakened reports whether part of the check was switched off, by an option or by
// accepting the release unsigned.
func (r *Report) Weakened() bool {
	return len(r.Unsafe) > 0 || r.Release != nil && r.Release.Unsigned
}

// Counts returns the number of findings by class.
func (r *Report) Counts() map[Class]int {
	counts := map[Class]int{Untrusted: r.More[Untrusted], Drift: r.More[Drift], Inconclusive: r.More[Inconclusive], Notice: r.More[Notice]}
	for i := range r.Findings {
		counts[r.Findings[i].Class()]++
	}
	return counts
}

// CompareGravity orders causes of one class where the order of their tiers does not:
// another release as a whole is less grave than an altered one.
func CompareGravity(a, b Cause) int {
	last := func(c Cause) int {
		if c == OtherRelease {
			return 1
		}
		return 0
	}
	return cmp.Compare(last(a), last(b))
}

// Sort sorts the findings for people: the gravest class first, causes before their
// consequences even if these are graver, then by tier as in r.Tiers, cause and path.
func (r *Report) Sort() {
	classes := []Class{Untrusted, Drift, Inconclusive, Notice}
	order := func(f *Finding) int {
		return slices.IndexFunc(r.Tiers, func(t Tier) bool { return t.Name == f.Tier })
	}
	// That another system runs says more than where else the machine is led to.
	other := func(f *Finding) int {
		if f.Cause == OtherSystem {
			return 0
		}
		return 1
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
			cmp.Compare(other(&a), other(&b)),
			cmp.Compare(a.Cause, b.Cause),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Field, b.Field),
		)
	})
}
