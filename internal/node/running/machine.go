package running

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// FirstRoot is the root directory of the machine as its first process sees it.
// Opening it requires root, and in a unit CAP_SYS_PTRACE.
const FirstRoot = "/proc/1/root"

// Machine is a running machine and the system that it should be.
type Machine struct {
	// Store is the machine's, opened at [FirstRoot].
	Store *nixstore.Store
	// Toplevel is the accepted system, Paths its closure in ascending order.
	Toplevel closure.StorePath
	Paths    []closure.PathInfo
	// Expected is the release's description of a machine of Toplevel; nil if it has none.
	// It is then read from the system's files.
	Expected *expected.Machine
	// Hashed are the paths, in ascending order, of all accepted systems that the machine
	// may run: running code may come from a system that was booted before.
	Hashed []closure.PathInfo
	// LoadedUnits returns the units that the service manager has loaded.
	LoadedUnits func(context.Context) (*Units, error)
	// UnitsLoaded returns when it last began to load units, as in [Units].
	UnitsLoaded func(context.Context) (time.Time, error)
	// Registered yields the store paths that Nix has registered by now, or had when the
	// run began, or an error that is a [*nixstore.RowError] or the last.
	Registered func(ctx context.Context, now bool) iter.Seq2[closure.StorePath, error]
	// Linked has the files with several names in each path of the store that this run has
	// read. The first look takes them from there.
	Linked map[closure.StorePath][]Link
	// FirstMounts returns the mounts of the machine's first process.
	FirstMounts func() ([]nixstore.Mount, error)
	// Rules returns the kernel's rules for packets, those of nf_tables if nft.
	Rules func(ctx context.Context, nft bool) (*Ruleset, error)
	// Allow lists the accepted differences.
	Allow []Exception
	// Ended, if not nil, is called once for each part that was checked.
	Ended func()
	// Now is the time at which exceptions end or not.
	Now time.Time

	// read replaces Expected, once the system's files were read in a check.
	read    *expected.Machine
	reading sync.Mutex
}

// Policy selects the checks of a running machine. The zero value requests none.
type Policy struct {
	// Parts are the names of the requested parts, see [Parts].
	Parts []string
	Allow []Exception
}

// part is one kind of check. A new one is a file with its function, and a row in [parts].
type part struct {
	name  string
	check func(m *Machine, ctx context.Context, l *look) error
	// needs are the settings of systemd.exec(5) that a unit needs for it, besides those
	// for [FirstRoot].
	needs []string
}

// StorePart is the name of the part that looks for hard links into the store.
const StorePart = "store"

func parts() []part {
	return []part{
		{"etc", (*Machine).checkEtc, nil},
		{"units", (*Machine).checkUnits, nil},
		{"code", (*Machine).checkCode, []string{"CapabilityBoundingSet=CAP_CHECKPOINT_RESTORE"}},
		{StorePart, (*Machine).checkStore, nil},
		{"written", (*Machine).checkWritten, nil},
		{"sockets", (*Machine).checkSockets, nil},
		{"mounts", (*Machine).checkMounts, nil},
		{"firewall", (*Machine).checkRules, []string{"CapabilityBoundingSet=CAP_NET_ADMIN", "PrivateNetwork=no", "RestrictAddressFamilies=AF_NETLINK"}},
	}
}

// Parts returns the names of all parts.
func Parts() []string {
	var out []string
	for _, p := range parts() {
		out = append(out, p.name)
	}
	return out
}

// Needs returns the settings of systemd.exec(5) that a unit of root needs to check a part,
// each as NAME=VALUE; nil for what is not a part.
func Needs(name string) []string {
	for _, p := range parts() {
		if p.name == name {
			return append([]string{"CapabilityBoundingSet=CAP_SYS_PTRACE"}, p.needs...)
		}
	}
	return nil
}

// CheckPart reports whether there is a part called name.
func CheckPart(name string) error {
	if slices.Contains(Parts(), name) {
		return nil
	}
	return fmt.Errorf("%q is not a part of a machine: want one of %s", name, strings.Join(Parts(), ", "))
}

// Result is the result of a check.
type Result struct {
	Checked  int // number of checked things
	Excused  int // differences that an exception allows
	Findings []report.Finding
	// NotSeen says, for each part, what could not be checked although nothing is wrong,
	// such as the modules of a kernel that a container shares.
	NotSeen []string
}

// confirmAfter is how long a difference must last to count: files that are being
// replaced, and processes that are being started, look wrong for a moment.
const confirmAfter = time.Second

// maxLooks limits the looks at a part whose differences have other names each time.
const maxLooks = 4

// Check checks the named parts, all at the same time. Its only error is that of ctx; a
// failed check is a finding.
func (m *Machine) Check(ctx context.Context, names []string) (*Result, error) {
	out := &Result{}
	m.read = nil
	asked := slices.DeleteFunc(parts(), func(p part) bool { return !slices.Contains(names, p.name) })
	looks := make([]*look, len(asked))
	var g errgroup.Group
	for i, p := range asked {
		g.Go(func() error {
			l, err := m.confirmed(ctx, p)
			if err == nil {
				looks[i] = l
				if m.Ended != nil {
					m.Ended()
				}
			}
			return err
		})
	}
	err := g.Wait()
	used := make([]int, len(m.Allow))
	for i, l := range looks {
		if l == nil {
			continue // the run ended first
		}
		out.Checked += l.checked
		out.NotSeen = append(out.NotSeen, l.notSeen...)
		for _, f := range l.findings {
			f.Part = asked[i].name
			out.Findings = append(out.Findings, f)
		}
		for k, n := range l.used {
			used[k] += n
			out.Excused += n
		}
		if l.more > 0 {
			out.Findings = append(out.Findings, report.Finding{
				Cause: report.MachineUnseen, Part: asked[i].name, Path: "part " + asked[i].name, Detail: fmt.Sprintf("%d more findings are not listed", l.more),
			})
		}
	}
	if err != nil {
		return out, err
	}
	whole := !slices.ContainsFunc(out.Findings, func(f report.Finding) bool { return f.Cause == report.MachineUnseen })
	out.Findings = append(out.Findings, m.exceptionNotes(used, whole)...)
	return out, nil
}

// maxFindings limits the findings of one part, because a machine with nothing in order
// need not be listed file by file.
const maxFindings = 1000

// maxTold limits the number of distinguished differences.
const maxTold = 20_000

// errChanging means that a whole part changed during each look.
var errChanging = errors.New("it kept changing while it was checked")

// maxAttempts limits how often such a look is repeated.
const maxAttempts = 6

// attemptPause is the wait before the second attempt. Each further attempt waits longer by
// the same time.
const attemptPause = 500 * time.Millisecond

// look is one look at one part.
type look struct {
	m        *Machine
	checked  int
	findings []report.Finding
	more     int // findings beyond maxFindings
	notSeen  []string
	used     []int // how often each exception was needed
	told     map[string]bool
	excused  map[string]bool // what was counted as used
}

func (m *Machine) newLook() *look {
	return &look{m: m, used: make([]int, len(m.Allow)), told: map[string]bool{}, excused: map[string]bool{}}
}

func (m *Machine) look(ctx context.Context, p part) (*look, error) {
	var l *look
	var err error
	for attempt := range maxAttempts {
		if attempt > 0 {
			select {
			case <-time.After(time.Duration(attempt) * attemptPause):
			case <-ctx.Done():
			}
		}
		l = m.newLook()
		if err = p.check(m, ctx, l); !errors.Is(err, errChanging) {
			break
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return l, ctx.Err()
		}
		l.unseen("part "+p.name, err)
	}
	slices.SortStableFunc(l.findings, func(a, b report.Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Field, b.Field))
	})
	return l, nil
}

// find adds a finding, once, unless an exception allows it.
func (l *look) find(f report.Finding) {
	key := string(f.Cause) + "\x00" + f.Path + "\x00" + f.Field
	// Two lines of a file may have the same name, and an exception may allow only one.
	about := key + "\x00" + lasting(&f)
	if l.told[key] || l.excused[about] {
		return
	}
	if i := l.m.excusedBy(f); i >= 0 {
		if l.used[i]++; len(l.excused) < maxTold {
			l.excused[about] = true
		}
		return
	}
	if len(l.told) < maxTold {
		l.told[key] = true
	}
	l.add(f)
}

// unseen adds the finding that something could not be checked. No exception allows that.
func (l *look) unseen(name string, err error) {
	l.add(report.Finding{Cause: report.MachineUnseen, Path: name, Detail: err.Error()})
}

func (l *look) add(f report.Finding) {
	if len(l.findings) == maxFindings {
		l.more++
		return
	}
	l.findings = append(l.findings, f)
}

// confirmed repeats the check of a part until its differences are distinguished from files
// that are just being replaced. A difference counts if two looks find it, or if it has
// another name at each look, such as a program that somebody keeps renaming. A look that
// could not see everything does not confirm or refute the differences of another, so it is
// repeated.
func (m *Machine) confirmed(ctx context.Context, p part) (*look, error) {
	var earlier [][]report.Finding
	for {
		l, err := m.look(ctx, p)
		if err != nil {
			return l, err
		}
		last, all := len(earlier) == maxLooks-1, l.findings
		whole := 0                      // earlier looks that saw all that this one did
		moves := map[report.Cause]int{} // at how many of these one of that cause was there that is gone
		for _, was := range earlier {
			gone := map[report.Cause]bool{}
			for _, f := range was {
				if !has(all, f) {
					gone[f.Cause] = true
				}
			}
			if gone[report.MachineUnseen] {
				continue
			}
			whole++
			for cause := range gone {
				moves[cause]++
			}
		}
		moving := false
		l.findings = slices.DeleteFunc(slices.Clone(all), func(f report.Finding) bool {
			if slices.ContainsFunc(earlier, func(was []report.Finding) bool { return has(was, f) }) {
				return false
			}
			each := moves[f.Cause] == whole || f.Cause == report.MachineUnseen
			moving = moving || each
			return !each || !last
		})
		if !moving || last {
			return l, nil
		}
		earlier = append(earlier, all)
		select {
		case <-time.After(confirmAfter):
		case <-ctx.Done():
			return l, ctx.Err()
		}
	}
}

// has reports whether there is a finding about the same as f.
func has(findings []report.Finding, f report.Finding) bool {
	return slices.ContainsFunc(findings, func(e report.Finding) bool {
		return e.Cause == f.Cause && e.Path == f.Path && e.Field == f.Field
	})
}

// ofRelease reports whether p is a path of the accepted system.
func (m *Machine) ofRelease(p closure.StorePath) bool {
	_, ok := closure.Find(m.Paths, p)
	return ok
}

// hashed reports whether p is a path of an accepted system that may run.
func (m *Machine) hashed(p closure.StorePath) bool {
	_, ok := closure.Find(m.Hashed, p)
	return ok
}

// expected returns the expected state of the machine.
func (m *Machine) expected(ctx context.Context) (*expected.Machine, error) {
	if m.Expected != nil {
		return m.Expected, nil
	}
	return m.readExpected(ctx)
}

// readExpected returns the expected state of the machine according to the system's own
// files.
func (m *Machine) readExpected(ctx context.Context) (*expected.Machine, error) {
	m.reading.Lock()
	defer m.reading.Unlock()
	if m.read == nil {
		var err error
		if m.read, err = expected.Read(ctx, m.Store, "", m.Toplevel, m.Paths); err != nil {
			return nil, err
		}
	}
	return m.read, nil
}

// expectedWhole is expected with every member set, in the form of this program: the
// release may come from another one.
func (m *Machine) expectedWhole(ctx context.Context) (*expected.Machine, error) {
	want, err := m.expected(ctx)
	if err != nil || want.Firewall != nil && want.Firewall.Form == expected.FirewallForm {
		return want, err
	}
	return m.readExpected(ctx)
}

// leadsIn reports whether name leads, through links, to something that exists in a path
// of the accepted system, and where.
func (m *Machine) leadsIn(name string) (string, bool) {
	p, rest, err := m.Store.ResolveLink(name)
	if err != nil {
		return "", false
	}
	return string(p) + rest, m.ofRelease(p)
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
