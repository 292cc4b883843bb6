package report

import (
	"bytes"
	"fmt"
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
// the verdict is in the first line and in the last three.
func checkTerminal(t *testing.T, r *Report, got string, width int) {
	t.Helper()
	var plain bytes.Buffer
	if err := r.WriteText(&plain, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	var short bytes.Buffer
	r.writeShort(&short, TextOptions{})
	words := strings.Fields(plain.String() + short.String() + r.Brief() + " (more: --long) more: --long")
	for i := range r.Findings {
		words = append(words, fmt.Sprintf("[%s]", r.Findings[i].Cause))
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	for _, line := range lines {
		if n := text.StringWidthWithoutEscSequences(line); n > width {
			t.Errorf("%d cells: %s", n, line)
		}
		for word := range strings.FieldsSeq(line) {
			if !strings.HasSuffix(word, "…") && !strings.Contains(word, "/…-") && !slices.Contains(words, word) {
				t.Errorf("%q is no word of the report", word)
			}
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == '\u202e' || r == 0x7f }) {
			t.Errorf("a control character: %q", line)
		}
	}
	verdict := r.Verdict().String() + ": "
	last := lines[max(0, len(lines)-3):]
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

// Thirteen altered programs are fifteen lines of a screen of 80x24: the verdict at both
// ends, and one for each. Where there is room, it also says what to do.
func TestThirteenFitAScreen(t *testing.T) {
	for height, want := range map[int]int{0: 15, 24: 15, 27: 15, 28: 24, 60: 24} {
		var b bytes.Buffer
		r := terminalReports["thirteen"]()
		if err := r.WriteText(&b, TextOptions{Width: 80, Height: height}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "\n"); n != want || strings.Contains(b.String(), "→") != (want == 24) {
			t.Errorf("%d lines of %d, want %d:\n%s", n, height, want, b.String())
		}
	}
}

// Where there is no path, the detail says why, and is not cut.
func TestDetailOfARunIsNotCut(t *testing.T) {
	detail := "release boot-v2026.02.82: not found in /srv/releases; it contains neither that directory nor a SHA256SUMS.txt"
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
