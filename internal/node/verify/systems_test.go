package verify

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const nextTag release.Tag = "boot-v2026.03.15"

// The paths of the system of nextTag that the system of testTag does not share.
var (
	nextTop = object("x", "nixos-system-next")
	tool    = object("w", "tool")
)

// twoSystems is a machine with the systems of two accepted releases, that runs the
// first one.
type twoSystems struct {
	*machine
	next *closure.Manifest
	v    *Verifier
	// line is the kernel's command line, as far as a test has one.
	line string
	// menu are the leads of a boot menu.
	menu []lead
	// running is the system that runs.
	running closure.StorePath
}

func newTwoSystems(t *testing.T) *twoSystems {
	t.Helper()
	m := &twoSystems{machine: newMachine(t), running: top}
	m.write(string(tool), "a tool")
	m.write(string(nextTop)+"/init", "#!/bin/sh\nnext")
	m.chmod(string(nextTop)+"/init", 0o555)
	m.link(string(nextTop)+"/etc/every-channel/flake", string(src))
	first := m.manifest
	second := *first
	second.Toplevel = closure.Toplevel{DrvPath: object("v", "nixos-system-next.drv"), OutPath: nextTop}
	second.Paths = []closure.PathInfo{first.Paths[0], first.Paths[1], first.Paths[2], m.info(tool), m.info(nextTop, lib, src, tool)}
	m.next = &second
	m.remove("/nix/var/nix/db")
	m.register(append(slices.Clone(first.Paths), second.Paths[3:]...)...)
	m.manifest = m.next
	m.publish(nextTag)
	m.manifest = first
	m.v = m.verifier()
	m.v.Pinned = false
	m.v.Open = func(ctx context.Context) []Candidate {
		return []Candidate{m.open(ctx, testTag), m.open(ctx, nextTag)}
	}
	return m
}

// run is one of the tiers that look at the machine, where the places of a running
// machine lead to booted and next.
func (m *twoSystems) run(ctx context.Context, booted, next closure.StorePath) *report.Report {
	m.t.Helper()
	r := m.v.begin(nil)
	r.beginRemembering(ctx)
	r.tier(ctx, tiers()[0])
	r.tier(ctx, tier{name: report.TierLive, check: func(r *run, ctx context.Context, t *report.Tier) error {
		t.Checked++
		r.live.running = m.running
		r.judgeLink(ctx, liveLink{name: CurrentSystem, cause: report.OtherSystem, exact: true}, m.running, "")
		r.judgeLink(ctx, liveLink{name: BootedSystem, cause: report.OtherBoot}, booted, "")
		r.judgeLink(ctx, liveLink{name: SystemProfile, cause: report.OtherProfile, next: true}, next, "")
		r.live.leads = append(r.live.leads, m.menu...)
		return nil
	}})
	r.tier(ctx, tier{name: report.TierContents, check: (*run).checkContents})
	r.conclude()
	r.endRemembering(ctx)
	return r.end()
}

func TestPending(t *testing.T) {
	const pendingProfile, pendingBooted = " /nix/var/nix/profiles/system", " /run/booted-system"
	for _, test := range []struct {
		name         string
		do           func(m *twoSystems)
		booted, next closure.StorePath
		verdict      report.Verdict
		findings     []string
		hashed       int
	}{
		{"nothing pending", nil, top, top, report.Verified, nil, 4},
		{"nothing pending, the other system altered", func(m *twoSystems) { m.write(string(tool), "A tool") }, top, top, report.Verified, nil, 4},
		{"pending", nil, top, nextTop, report.Verified, []string{"pending-reboot" + pendingProfile}, 6},
		{"booted from the other", nil, nextTop, top, report.Verified, []string{"pending-reboot" + pendingBooted}, 6},
		{"a byte in the next system", func(m *twoSystems) { m.write(string(tool), "A tool") }, top, nextTop, report.Drifted,
			[]string{"disk-altered tool :content of boot-v2026.03.15", "pending-altered" + pendingProfile + " < disk-altered"}, 6},
		{"a byte in what was booted", func(m *twoSystems) { m.write(string(tool), "A tool") }, nextTop, top, report.Drifted,
			[]string{"disk-altered tool :content of boot-v2026.03.15", "booted-altered" + pendingBooted + " < disk-altered"}, 6},
		{"a byte in the running system", func(m *twoSystems) { m.write(string(top)+"/init", "#!/bin/SH") }, top, nextTop, report.Drifted,
			[]string{"disk-altered nixos-system init:content", "pending-reboot" + pendingProfile}, 6},
		{"a byte in what both have", func(m *twoSystems) { m.write(string(lib), "a File by itself") }, top, nextTop, report.Drifted,
			[]string{"disk-altered lib :content", "pending-altered" + pendingProfile + " < disk-altered"}, 6},
		{"the next system is gone", func(m *twoSystems) { m.remove(string(nextTop)) }, top, nextTop, report.Drifted,
			[]string{"missing nixos-system-next of boot-v2026.03.15", "pending-altered" + pendingProfile + " < missing"}, 5},
		{"the database lies about the next system", func(m *twoSystems) {
			m.sql(fmt.Sprintf("update ValidPaths set narSize = narSize + 8 where path = '%s'", tool))
		}, top, nextTop, report.Drifted,
			[]string{"database-altered tool narSize of boot-v2026.03.15", "pending-altered" + pendingProfile + " < database-altered"}, 6},
		{"rights in the next system", func(m *twoSystems) { m.chmod(string(tool), 0o666) }, top, nextTop, report.Drifted,
			[]string{"permissions-altered tool of boot-v2026.03.15", "pending-altered" + pendingProfile + " < permissions-altered"}, 6},
		{"booted from the other, and next something else", nil, nextTop, object("9", "evil"), report.Drifted,
			[]string{"other-profile" + pendingProfile}, 6},
		{"the profile leads to what is intact, and the boot menu to what is not", func(m *twoSystems) {
			m.menu = []lead{{next: true, odd: report.BootAltered, pending: report.Finding{Tier: report.TierLive, Path: "/boot/entry"}}}
		}, top, nextTop, report.Drifted, []string{"pending-altered /boot/entry < boot-altered"}, 6},
		{"contents left out", func(m *twoSystems) { m.v.Skip = []report.TierName{report.TierContents} }, top, nextTop, report.Unsettled,
			[]string{"pending-unchecked" + pendingProfile, "check-skipped"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newTwoSystems(t)
			if test.do != nil {
				test.do(m)
			}
			r := m.run(t.Context(), test.booted, test.next)
			if got := r.Verdict(); got != test.verdict {
				t.Errorf("verdict %s, want %s", got, test.verdict)
			}
			got := summary(r)
			for i, f := range r.Findings {
				if f.Release != "" {
					got[i] += " of " + f.Release
				}
			}
			if !slices.Equal(got, test.findings) {
				t.Errorf("findings\n\t%q\nwant\n\t%q", got, test.findings)
			}
			if r.Coverage.Hashed != test.hashed {
				t.Errorf("%d paths hashed, want %d", r.Coverage.Hashed, test.hashed)
			}
		})
	}
}

// Of what is altered, and of each path that was hashed, the report names the releases
// that have it.
func TestReleasesOfPaths(t *testing.T) {
	m := newTwoSystems(t)
	m.write(string(tool), "A tool")
	m.write(string(lib), "a File by itself")
	m.write(string(top)+"/init", "#!/bin/SH")
	both := string(testTag) + " " + string(nextTag)
	want := map[closure.StorePath]string{tool: string(nextTag), nextTop: string(nextTag), top: string(testTag), lib: both, data: both, src: both}
	r := m.run(t.Context(), top, nextTop)
	found := 0
	for _, f := range r.Findings {
		if f.Tier != report.TierContents {
			continue
		}
		found++
		if got := strings.Join(f.Releases, " "); got != want[closure.StorePath(f.Path)] {
			t.Errorf("%s is of %q, want %q", f.Path, got, want[closure.StorePath(f.Path)])
		}
	}
	if found != 3 || len(r.Closure) != len(want) {
		t.Errorf("%d paths differ, and %d are listed: %q", found, len(r.Closure), summary(r))
	}
	for _, p := range r.Closure {
		if got := strings.Join(p.Releases, " "); got != want[p.Path] || p.State != report.Hashed {
			t.Errorf("%+v, want it hashed, and of %q", p, want[p.Path])
		}
	}
	// One system needs no name.
	r = m.run(t.Context(), top, top)
	if f := r.Findings[0]; f.Releases != nil || r.Closure[0].Releases != nil || len(r.Closure) != 4 {
		t.Errorf("%+v, %+v", f, r.Closure)
	}
}

// The verdict says what differs: what runs, or what the machine can boot next.
func TestHeadlineOfPending(t *testing.T) {
	const runs, is = "drifted: this machine runs release ", "drifted: this machine is not release "
	for _, test := range []struct {
		name         string
		altered      closure.StorePath
		booted, next closure.StorePath
		want         string
	}{
		{"the next system", tool, top, nextTop, runs},
		{"the running one", top + "/init", top, nextTop, is},
		{"what both have", lib, top, nextTop, is},
		{"what was booted", tool, nextTop, top, is},
		{"a system of no release is next", "", top, object("9", "evil"), runs},
		{"a system of no release was booted", "", object("9", "evil"), top, is},
	} {
		m := newTwoSystems(t)
		if test.altered != "" {
			m.write(string(test.altered), "A tool")
		}
		r := m.run(t.Context(), test.booted, test.next)
		r.StoreRoot = "" // where the test has its machine
		if got := r.Headline(); !strings.HasPrefix(got, test.want) || r.Verdict() != report.Drifted {
			t.Errorf("%s: %s", test.name, got)
		}
	}
}

// A place that leads to a system which is not there says so.
func TestNextIsGone(t *testing.T) {
	m := newTwoSystems(t)
	r := m.run(t.Context(), top, object("9", "evil"))
	if f := r.Findings[0]; f.Cause != report.OtherProfile || f.Detail != "it is not in the store" {
		t.Errorf("%+v", f)
	}
	// One that is there says that it is no accepted release's, or which release's it is.
	m.write(string(object("9", "evil"))+"/init", "#!/bin/sh\nevil")
	r = m.run(t.Context(), top, object("9", "evil"))
	if f := r.Findings[0]; f.Cause != report.OtherProfile || f.Detail != "no release that is accepted has this system; accepted: boot-v2026.02.28, boot-v2026.03.15" {
		t.Errorf("%+v", f)
	}
	m.v.Open = func(ctx context.Context) []Candidate { return []Candidate{m.open(ctx, testTag)} }
	m.v.Identify = func(ctx context.Context, _ closure.StorePath) (*release.Release, *closure.Manifest) {
		return m.open(ctx, nextTag).Release, m.next
	}
	r = m.run(t.Context(), top, nextTop)
	if f := r.Findings[0]; f.Cause != report.OtherProfile || f.Detail != "it is release boot-v2026.03.15, which is not accepted; accepted: boot-v2026.02.28" {
		t.Errorf("%+v", f)
	}
}

// Where a third system runs, which nobody accepts, nothing that is shown says that what
// runs is accepted: text, JSON, journal, nor what the catalog says to its entries.
func TestPendingBesideAThirdSystem(t *testing.T) {
	catalog, err := os.ReadFile("../../../systemd/ec-verify.catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ booted, next closure.StorePath }{{nextTop, nextTop}, {top, nextTop}, {nextTop, top}, {top, top}} {
		m := newTwoSystems(t)
		m.running = object("9", "evil")
		r := m.run(t.Context(), test.booted, test.next)
		if got := summary(r); r.Verdict() != report.Drifted || !slices.Contains(got, "other-system /run/current-system") {
			t.Errorf("%s, %q", r.Verdict(), got)
		}
		var shown bytes.Buffer
		m.must(r.WriteText(&shown, report.TextOptions{All: true}))
		m.must(r.WriteText(&shown, report.TextOptions{All: true, Width: 80}))
		m.must(r.WriteJSON(&shown))
		for _, e := range systemd.Ended(systemd.Run{ID: 1}, r) {
			_, text, _ := strings.Cut(string(catalog), string(e.Event))
			text, _, _ = strings.Cut(text, "\n-- ")
			fmt.Fprintln(&shown, e.Message, e.Fields, text)
		}
		for _, wrong := range []string{"both are accepted", "other accepted release than the one that runs", "the running system is accepted"} {
			if text := strings.Join(strings.Fields(strings.ToLower(shown.String())), " "); strings.Contains(text, wrong) {
				t.Errorf("booted %s, next %s: it says %q", test.booted, test.next, wrong)
			}
		}
	}
}

// With a budget, a system is taken for what its release says as soon as this run
// and those before it hashed all of it, and not before.
func TestPendingWithinBudget(t *testing.T) {
	m := newTwoSystems(t)
	l, err := ledger.Open(t.Context(), t.TempDir(), ledger.Options{})
	m.must(err)
	t.Cleanup(func() { l.Close() })
	m.v.Ledger, m.v.Tool, m.v.ContentsBudget, m.v.Policy = &testLedger{Ledger: l}, "v1.2.3", 1, ledger.DefaultPolicy()
	time.Sleep(2 * tick) // what was written just now may have been written after it was hashed
	for n := 1; n <= 6; n++ {
		r := m.run(t.Context(), top, nextTop)
		want := report.PendingUnchecked
		if n == 6 {
			want = report.PendingReboot
		}
		if !slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return f.Cause == want }) || r.Coverage.Hashed != 1 || r.Coverage.Paths != 6 {
			t.Errorf("run %d: want %s, got %q, %+v", n, want, summary(r), r.Coverage)
		}
		states := make(map[report.PathState]int)
		for _, p := range r.Closure {
			states[p.State]++
		}
		if c := r.Coverage; len(r.Closure) != c.Paths || states[report.Hashed] != c.Hashed || states[report.Remembered] != c.Remembered || states[report.Overdue] != c.Overdue {
			t.Errorf("run %d: %+v, and of the closure %v", n, c, states)
		}
	}
	// What was touched since is hashed, whatever the budget: nobody is told to reboot into
	// bytes that changed.
	m.write(string(tool), "A tool")
	m.write(string(lib), "a file by ITSELF")
	r := m.run(t.Context(), top, nextTop)
	if got := summary(r); r.Verdict() != report.Drifted || !slices.Contains(got, "disk-altered tool :content") || !slices.Contains(got, "disk-altered lib :content") {
		t.Errorf("after bytes changed: %s, %q", r.Verdict(), got)
	}
}

// Two accepted systems that share 95 % of their paths cost no more than 1.1 times
// what one does.
func TestSharedPathsAreHashedOnce(t *testing.T) {
	m := newTwoSystems(t)
	const shared = 38
	var common []closure.PathInfo
	for i := range shared {
		p := closure.StorePath(fmt.Sprintf("/nix/store/%032d-shared-%d", i, i))
		m.write(string(p), fmt.Sprintf("%8d", i))
		common = append(common, m.info(p))
	}
	publish := func(manifest *closure.Manifest, tag release.Tag, own closure.PathInfo) {
		manifest.Paths = append(slices.Clone(common), own)
		for i := range manifest.Paths {
			if p := &manifest.Paths[i]; p.Path == manifest.Toplevel.OutPath {
				for _, c := range common {
					p.References = append(p.References, c.Path)
				}
			}
		}
		was := m.manifest
		m.files, m.manifest = nil, manifest
		m.publish(tag)
		m.manifest = was
	}
	publish(m.manifest, testTag, m.info(top))
	publish(m.next, nextTag, m.info(nextTop))
	m.remove("/nix/var/nix/db")
	m.register(append(slices.Clone(m.manifest.Paths), m.next.Paths[shared])...)
	one, both := m.run(t.Context(), top, top), m.run(t.Context(), top, nextTop)
	if one.Verdict() != report.Verified || both.Verdict() != report.Verified {
		t.Fatalf("verdicts %s and %s: %q, %q", one.Verdict(), both.Verdict(), summary(one), summary(both))
	}
	a, b := one.Coverage, both.Coverage
	if a.Hashed != shared+1 || b.Hashed != shared+2 || b.Hashed*10 > a.Hashed*11 || b.Bytes*10 > a.Bytes*11 {
		t.Errorf("%d paths and %d bytes for one, %d and %d for two", a.Hashed, a.Bytes, b.Hashed, b.Bytes)
	}
}

// Of a path that two releases do not say the same of, the disk can be but one's. What
// was found for each is remembered, and the system of which it is not stays altered in
// runs that look at little.
func TestDisputedPath(t *testing.T) {
	m := newTwoSystems(t)
	m.write(string(lib), "a file by itself, built anew")
	other := m.info(lib, data)
	m.write(string(lib), "a file by itself")
	was := m.manifest
	m.files, m.manifest = nil, m.next
	m.next.Paths[1] = other
	m.publish(nextTag)
	m.manifest = was
	l, err := ledger.Open(t.Context(), t.TempDir(), ledger.Options{})
	m.must(err)
	t.Cleanup(func() { l.Close() })
	m.v.Ledger, m.v.Policy = &testLedger{Ledger: l}, ledger.DefaultPolicy()
	found := []string{"database-altered lib narSize", "replaced-unexplained lib", "pending-altered /nix/var/nix/profiles/system < replaced-unexplained"}
	expect(t, m.run(t.Context(), top, nextTop), report.Drifted, found...)
	records, err := l.Records(t.Context(), ledger.Contents)
	m.must(err)
	for hash, want := range map[nar.Hash]ledger.Result{was.Paths[1].NarHash: ledger.Verified, other.NarHash: ledger.Drifted} {
		if got := records[ledger.Key{Path: lib, Want: hash}].Last.Result; got != want {
			t.Errorf("of %s the ledger has %q, want %q", hash, got, want)
		}
	}
	m.v.ContentsBudget = 1
	expect(t, m.run(t.Context(), top, nextTop), report.Drifted, found...)
}
