package report

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// terminalReports are what is shown on a terminal beside [reports].
var terminalReports = map[string]func() *Report{
	"thousand": func() *Report {
		r := verified()
		for i := range 1000 {
			r.Findings = append(r.Findings, Finding{Tier: TierContents, Cause: closure.Missing, Path: string(object("b", fmt.Sprintf("lib-%03d", i)))})
		}
		return r
	},
	"thirteen": func() *Report {
		r := verified()
		for i := range 13 {
			file := nar.Entry{Path: "bin/program", Type: nar.Regular, Size: 3, SHA256: hashOf("abc")}
			other := file
			other.SHA256 = hashOf("abd")
			r.Findings = append(r.Findings, Finding{
				Tier: TierContents, Cause: closure.DiskAltered, Path: string(object("b", fmt.Sprintf("program-%02d", i))), Want: hashOf("x").String(), Got: hashOf("y").String(),
				Files: []closure.FileChange{{Path: "bin/program", Kind: closure.FileContent, Want: file, Got: other}},
			})
		}
		return r
	},
	"hostile": func() *Report {
		r := verified()
		name := string(object("b", "lib"))
		for _, file := range []string{
			"bell\a and \x1b]0;title\x07", "\u202eright to left", "<script>alert(1)</script>", "\x1b[2J\x1b[1;1Hverified: this machine is fine", strings.Repeat("x", 4000),
			"blank " + strings.Repeat("word ", 800), "line\nverified: all is well",
		} {
			r.Findings = append(r.Findings, Finding{
				Tier: TierContents, Cause: closure.DiskAltered, Path: name, Files: []closure.FileChange{{Path: excerpt.Raw(file), Kind: closure.FileAdded}},
			})
		}
		return r
	},
}

func TestTerminal(t *testing.T) {
	for _, width := range []int{60, 80, 200} {
		for name, make := range merged(reports, terminalReports) {
			for _, long := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/long=%v", name, width, long), func(t *testing.T) {
					r := make()
					r.Sort()
					var b bytes.Buffer
					if err := r.WriteText(&b, TextOptions{Width: width, Long: long}); err != nil {
						t.Fatal(err)
					}
					checkTerminal(t, r, b.String(), width)
					if !long && width != 200 && (terminalReports[name] != nil || name == "verified" || name == "drifted" || name == "untrusted" || name == "inconclusive") {
						checkGolden(t, fmt.Sprintf("%s.%d.golden", name, width), b.Bytes())
					}
				})
			}
		}
	}
}

// checkTerminal holds a text to the width: no word of the report is broken, and
// the verdict is in the first line and in the last four.
func checkTerminal(t *testing.T, r *Report, got string, width int) {
	t.Helper()
	var plain bytes.Buffer
	if err := r.WriteText(&plain, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	var short bytes.Buffer
	r.writeShort(&short, shortForms[0], nil, TextOptions{})
	words := strings.Fields(plain.String() + short.String() + r.Brief() + " (more: --long) more: --long")
	for i := range r.Findings {
		words = append(words, fmt.Sprintf("[%s]", r.Findings[i].Cause))
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	counted := regexp.MustCompile(`^  (… and \d+ more|\d+ of them) \(--all shows them\)$`)
	for _, line := range lines {
		if counted.MatchString(line) {
			continue
		}
		if n := text.StringWidthWithoutEscSequences(line); n > width {
			t.Errorf("%d cells: %s", n, line)
		}
		for word := range strings.FieldsSeq(line) {
			if !strings.Contains(word, "…") && !slices.Contains(words, word) {
				t.Errorf("%q is no word of the report", word)
			}
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == '\u202e' || r == 0x7f }) {
			t.Errorf("a control character: %q", line)
		}
	}
	verdict := r.Verdict().String() + ": "
	last := lines[max(0, len(lines)-4):]
	if !strings.HasPrefix(lines[0], verdict) || !slices.ContainsFunc(last, func(s string) bool { return strings.HasPrefix(s, verdict) }) {
		t.Errorf("the verdict is not at both ends:\n%s", got)
	}
}

func merged(all ...map[string]func() *Report) map[string]func() *Report {
	out := make(map[string]func() *Report)
	for _, some := range all {
		for name, f := range some {
			out[name] = f
		}
	}
	return out
}

// Thirteen altered programs and what to do are eighteen lines of a screen of 80x24: the
// verdict at both ends, and one for each. Where there is room, each has its whole path.
func TestThirteenFitAScreen(t *testing.T) {
	for height, want := range map[int]int{13: 9, 15: 11, 0: 18, 24: 18, 60: 39} {
		var b bytes.Buffer
		r := terminalReports["thirteen"]()
		if err := r.WriteText(&b, TextOptions{Width: 80, Height: height}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "\n"); n != want || !strings.Contains(b.String(), "→") {
			t.Errorf("%d lines of %d, want %d:\n%s", n, height, want, b.String())
		}
	}
}

// What differs and what to do are not pushed out by what the policy allows.
func TestExceptionsAreCounted(t *testing.T) {
	r := verified()
	r.Tiers = append(r.Tiers, Tier{Name: TierName("machine"), Status: Done, Asked: true, Checked: 900})
	for i := range 24 {
		r.Findings = append(r.Findings, Finding{Tier: TierName("machine"), Cause: ExceptionUsed, Path: fmt.Sprintf("/etc/base-%d", i), Allowed: 27, Got: "27 allowed", Detail: "base"})
	}
	r.Findings = append(
		r.Findings, Finding{Tier: TierName("machine"), Cause: AccountAltered, Path: "/etc/passwd", Field: "user toor", Got: "number 0 (0:0:/root:/bin/sh)", Want: "another number"},
		Finding{Tier: TierName("machine"), Cause: UnitUnknown, Path: "/etc/systemd/system/rogue.service", Got: "a file of 77 bytes"},
		Finding{Tier: TierName("machine"), Cause: SocketUnknown, Path: "tcp 0.0.0.0:4444", Got: "process 77 (nc)"},
	)
	r.Sort()
	for _, height := range []int{24, 40} {
		var b bytes.Buffer
		if err := r.WriteText(&b, TextOptions{Width: 80, Height: height}); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		if n := strings.Count(got, "→"); n < 3 || strings.Count(got, "\n") > height-4 || strings.Contains(got, "/etc/base") || !strings.Contains(got, "\n  648 differences, by 24 exceptions (--all shows them)\n") {
			t.Errorf("on %d lines:\n%s", height, got)
		}
		if whole := strings.Contains(strings.Join(strings.Fields(got), " "), "number 0 (0:0:/root:/bin/sh), want another number"); !whole {
			t.Errorf("on %d lines:\n%s", height, got)
		}
	}
	for i := range r.Findings {
		r.Findings[i].Allowed = 0 // in a report of an earlier program
	}
	var earlier bytes.Buffer
	if err := r.WriteText(&earlier, TextOptions{Width: 80}); err != nil || !strings.Contains(earlier.String(), "\n  24 exceptions (--all shows them)\n") {
		t.Errorf("%v:\n%s", err, &earlier)
	}
	var all bytes.Buffer
	if err := r.WriteText(&all, TextOptions{Width: 80, All: true}); err != nil || !strings.Contains(all.String(), "/etc/base-23: base, got 27 allowed") {
		t.Errorf("%v:\n%s", err, &all)
	}
}

// However a line is shortened, got and want do not look alike.
func TestDifferenceIsNotCut(t *testing.T) {
	long := "/nix/store/" + strings.Repeat("b", 20)
	for _, sides := range [][2]string{
		{string(object("b", "etc")) + "/etc", string(object("c", "etc")) + "/etc"},
		{long + "bbbbbbbbbbb1-etc/etc", long + "bbbbbbbbbbb2-etc/etc"},
		{string(object("b", "nixos-system-testhost-26.05.1")), string(object("b", "nixos-system-testhost-26.05.2"))},
		{strings.Repeat("word ", 30) + "one", strings.Repeat("word ", 30) + "two"},
		{"2026-12-01T08:00:00Z", "1970-01-01T00:00:01Z"},
		{strings.Repeat("é", 70), strings.Repeat("é", 71)},
		{strings.Repeat("x", 300), "y"},
	} {
		f := Finding{Tier: TierContents, Cause: EtcAltered, Path: "/etc/" + strings.Repeat("static/", 5), Got: sides[0], Want: sides[1], Detail: "a detail"}
		for width := 60; width < 120; width++ {
			line := f.fit(hashesIn(sides[0]+" "+sides[1]), width)
			got, want, ok := strings.Cut(line[strings.Index(line, "got ")+4:], ", want ")
			if !ok || got == strings.TrimSuffix(want, " …") || cells(line) > width {
				t.Errorf("%d cells of %d: %s", cells(line), width, line)
			}
		}
		// The long form has each on a line.
		r := verified()
		r.Findings = []Finding{f}
		var b bytes.Buffer
		if err := r.WriteText(&b, TextOptions{Width: 40, Long: true}); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(b.String()), " ")
		want, got, _ := strings.Cut(text[strings.Index(text, " want ")+len(" want "):], " got ")
		if got, _, _ = strings.Cut(got, " →"); got == want && strings.HasPrefix(f.Got, "/nix/store/") {
			t.Errorf("got and want look alike:\n%s", &b)
		}
	}
}

// Where there is no path, the detail says why, and is not cut.
func TestDetailOfARunIsNotCut(t *testing.T) {
	detail := "release boot-v2026.02.82: not found in /srv/releases; it contains neither a directory boot-v2026.02.82 nor a SHA256SUMS.txt"
	r := verified()
	r.Findings = []Finding{{Tier: TierRelease, Cause: ReleaseUnavailable, Path: "boot-v2026.02.82", Detail: detail}}
	var b bytes.Buffer
	if err := r.WriteText(&b, TextOptions{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(got, detail) {
		t.Errorf("the detail is cut:\n%s", b.String())
	}
}

// Even the short form of a candidate's report says that its boot files were not checked.
func TestCandidateNamesUncheckedParts(t *testing.T) {
	r := verified()
	r.Candidate = string(object("a", "nixos-system"))
	fail(r, TierLive, Skipped, "its boot files are left out")
	for i := range r.Tiers {
		r.Tiers[i].Asked = r.Tiers[i].Asked && r.Tiers[i].Name != TierLive
	}
	var b bytes.Buffer
	if err := r.WriteText(&b, TextOptions{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if r.Verdict() != Verified || !strings.Contains(b.String(), "\nskipped   live: its boot files are left out\n") {
		t.Errorf("%s", b.String())
	}
}

// Whether a garbage collection may remove a candidate is said in every form but one line.
func TestCandidateSaysWhatProtectsIt(t *testing.T) {
	for want, root := range map[string]*GCRoot{
		"GC root: /nix/var/nix/gcroots/ec-verify-candidate protects the candidate until ec-verify switch activates it or the next candidate replaces it": {Path: "/nix/var/nix/gcroots/ec-verify-candidate"},
		`no GC root: a garbage collection may remove the candidate: \x1b[2J`:                                                                             {Why: "\x1b[2J"},
	} {
		r := verified()
		r.Candidate, r.GCRoot = string(object("a", "nixos-system")), root
		r.Standing = &Standing{Look: "it is about a candidate, which does not run"}
		for _, opts := range []TextOptions{{}, {Width: 80}, {Width: 80, Long: true}, {Width: 80, Height: 10}} {
			var b bytes.Buffer
			if err := r.WriteText(&b, opts); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(got, want) {
				t.Errorf("%+v: no %q in\n%s", opts, want, b.String())
			}
		}
		var b bytes.Buffer
		if err := r.WriteText(&b, TextOptions{Width: 160, Height: 60}); err != nil || strings.Contains(b.String(), "more: --long") {
			t.Errorf("%v: nothing is cut:\n%s", err, b.String())
		}
		b.Reset()
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if again, err := Parse(b.Bytes()); err != nil || again.GCRoot == nil || *again.GCRoot != *root {
			t.Errorf("%v: %v\n%s", again, err, b.String())
		}
	}
}

func TestBrief(t *testing.T) {
	for name, want := range map[string]string{
		"verified":     "verified: boot-v2026.02.28 (ec-runner-x86_64)",
		"drifted":      "drifted: boot-v2026.02.28 (ec-runner-x86_64), 5 differences, 1 thing not checked",
		"untrusted":    "untrusted: boot-v2026.02.28",
		"inconclusive": "inconclusive: boot-v2026.02.28, 1 thing not checked",
		"unsigned":     "verified: boot-v2026.02.28 (ec-runner-x86_64), not all of eval, UNSIGNED",
	} {
		if got := reports[name]().Brief(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	candidate := verified()
	candidate.Candidate = string(object("a", "nixos-system"))
	absent := verified()
	absent.Candidate = string(object("a", "nixos-system"))
	absent.Findings = []Finding{{Tier: TierContents, Cause: CandidateAbsent, Path: absent.Candidate}}
	if got, want := absent.Brief(), "inconclusive: candidate for boot-v2026.02.28 (ec-runner-x86_64), not in the store, so nothing was compared"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := absent.Headline(), "inconclusive: nothing was compared with release boot-v2026.02.28 (ec-runner-x86_64): the candidate is not in the store"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := candidate.Brief(), "verified: candidate for boot-v2026.02.28 (ec-runner-x86_64), its boot files left out"; got != want {
		t.Errorf("a candidate: %q, want %q", got, want)
	}
	other := verified()
	other.Against = "boot-v2026.03.07, boot-v2026.03.01"
	other.Findings = []Finding{{Tier: TierLive, Cause: OtherRelease}}
	if got, want := other.Brief(), "drifted: runs boot-v2026.02.28 (ec-runner-x86_64), not boot-v2026.03.07 or boot-v2026.03.01, 1 difference"; got != want {
		t.Errorf("another release: %q, want %q", got, want)
	}
}

// A screen says how to see more only where it lacks something, and not for an ellipsis that
// the report itself has.
func TestMoreIsShownWhereSomethingIsCut(t *testing.T) {
	r := verified()
	r.Findings = []Finding{{Tier: TierEval, Cause: EvaluationFailed, Detail: "error: … while evaluating"}}
	r.Standing = &Standing{Verdict: Drifted, Since: r.Finished}
	for name, c := range map[string]struct {
		detail string
		more   bool
	}{
		"an ellipsis of its own":  {"error: … while evaluating", false},
		"a word that is too long": {strings.Repeat("x", 100), true},
		"a long detail":           {strings.Repeat("word ", 200) + "end", false},
	} {
		r.Findings[0].Detail = c.detail
		var b bytes.Buffer
		if err := r.WriteText(&b, TextOptions{Width: 80, Height: 60}); err != nil || strings.Contains(b.String(), "more: --long") != c.more || !c.more && !strings.Contains(strings.Join(strings.Fields(b.String()), " "), c.detail) {
			t.Errorf("%s: %v:\n%s", name, err, &b)
		}
	}
}
