package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/report/reporttest"
)

// A terminal is tmux: a real pseudo-terminal, and what is seen on it after all that was
// written has done what it does there.
type screen struct {
	t      *testing.T
	socket string
}

// newTerminal starts one of so many cells and lines, with a shell that reads commands.
func newTerminal(t *testing.T, width, height int) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux")
	}
	dir := t.TempDir()
	tt := &screen{t, filepath.Join(dir, "s")}
	settings := filepath.Join(dir, "conf")
	if err := os.WriteFile(settings, []byte("set -g history-limit 20000\nset -g status off\nset -g default-terminal screen-256color\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tt.tmux("-f", settings, "new-session", "-d", "-x", strconv.Itoa(width), "-y", strconv.Itoa(height), "sh")
	t.Cleanup(func() { exec.Command("tmux", "-S", tt.socket, "kill-server").Run() })
	return tt
}

func (tt *screen) tmux(args ...string) string {
	tt.t.Helper()
	cmd := exec.CommandContext(tt.t.Context(), "tmux", append([]string{"-S", tt.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMUX=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		tt.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// show runs a command and returns the lines that it leaves on the terminal, and whether
// the terminal broke one of them.
func (tt *screen) show(command string) (lines []string, broken bool) {
	tt.t.Helper()
	// The history first: what is on the screen goes when the pane starts anew.
	tt.tmux("clear-history")
	tt.tmux("respawn-pane", "-k", fmt.Sprintf("%s; tmux -S %s wait-for -S done; exec cat", command, tt.socket))
	tt.tmux("wait-for", "done")
	screen := tt.tmux("capture-pane", "-p", "-S", "-")
	joined := tt.tmux("capture-pane", "-p", "-J", "-S", "-")
	lines = strings.Split(strings.TrimRight(screen, "\n"), "\n")
	return lines, len(lines) != len(strings.Split(strings.TrimRight(joined, "\n"), "\n"))
}

// TestTerminal shows every kind of report on a real terminal: no line is wider than it,
// no word and no hash is broken, and the verdict is the first line and in the last four.
func TestTerminal(t *testing.T) {
	program, err := exec.LookPath("ec-verify")
	if err != nil {
		t.Fatal(err)
	}
	reports := map[string]*report.Report{
		"thirteen":  reporttest.Altered(13),
		"untrusted": reporttest.Untrusted(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseExpired, Path: "boot-v2026.02.28", Detail: "release boot-v2026.02.28 from /srv/releases is not trusted (expired): best before 2026-02-28T00:00:00Z"}),
	}
	for name, make := range reporttest.Cases {
		reports[name] = make()
	}
	dir := t.TempDir()
	words := make(map[string][]string)
	for name, r := range reports {
		f, err := os.Create(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.WriteJSON(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		// Where there is no end of a line, nothing is cut or folded.
		for _, args := range [][]string{{"--all"}, {"--brief"}} {
			out, _ := exec.Command(program, append([]string{"report", "show", f.Name()}, args...)...).Output() // the exit code is the verdict
			words[name] = append(words[name], strings.Fields(string(out))...)
		}
		// As it is read again: JSON has not all bytes that a name can have.
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		read, err := report.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, all := range []bool{false, true} {
			var wide strings.Builder
			if err := read.WriteText(&wide, report.TextOptions{Width: 100_000, Height: 100_000, All: all}); err != nil {
				t.Fatal(err)
			}
			words[name] = append(words[name], strings.Fields(wide.String()+" (more: --long) more: --long")...)
		}
	}
	// The lines that depend on the height.
	counted := regexp.MustCompile(`^  (… and \d+ more|\d+ of them) \(--all shows them\)$`)
	for _, width := range []int{60, 80, 200} {
		tt := newTerminal(t, width, 24)
		for name, r := range reports {
			for _, long := range []string{"", " --long"} {
				lines, broken := tt.show(fmt.Sprintf("%s report show %s/%s.json%s", program, dir, name, long))
				t.Run(fmt.Sprintf("%s/%d%s", name, width, long), func(t *testing.T) {
					if broken {
						t.Error("the terminal had to break a line")
					}
					for _, line := range lines {
						if counted.MatchString(line) {
							continue
						}
						for word := range strings.FieldsSeq(line) {
							cut := strings.Contains(word, "…")
							cause := slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return word == "["+string(f.Cause)+"]" })
							if !cut && !cause && !slices.Contains(words[name], word) {
								t.Errorf("%q is no word of the report", word)
							}
						}
					}
					verdict := r.Verdict().String() + ": "
					if !strings.HasPrefix(lines[0], verdict) || !slices.ContainsFunc(lines[max(0, len(lines)-4):], func(s string) bool { return strings.HasPrefix(s, verdict) }) {
						t.Errorf("the verdict is not at both ends:\n%s", strings.Join(lines, "\n"))
					}
					if name == "thirteen" && width >= 80 && long == "" && len(lines) > 20 {
						t.Errorf("%d lines, want at most 20", len(lines))
					}
					if t.Failed() {
						t.Log("\n" + strings.Join(lines[:min(len(lines), 60)], "\n"))
					}
				})
			}
		}
	}
}

// TestTerminalMessages: messages on stderr are folded as well.
func TestTerminalMessages(t *testing.T) {
	program, err := exec.LookPath("ec-verify")
	if err != nil {
		t.Fatal(err)
	}
	const command = " boot-v2026.02.28" // which is none
	out, _ := exec.Command(program, strings.TrimSpace(command)).CombinedOutput()
	for _, width := range []int{60, 80, 200} {
		lines, broken := newTerminal(t, width, 24).show(program + command)
		if got := strings.Fields(strings.Join(lines, " ")); broken || !slices.Equal(got, strings.Fields(string(out))) {
			t.Errorf("%d cells:\n%s\nwant the words of\n%s", width, strings.Join(lines, "\n"), out)
		}
	}
}
