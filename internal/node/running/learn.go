package running

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"every.channel/ec-verify/internal/report"
)

// unreviewed starts the reason of an exception that was learned from a machine. No
// configuration accepts it: whoever reviews the list writes the reason.
const unreviewed = "TODO"

// Learn makes a first list of exceptions from the findings on m, a machine that is known
// to be good. Each allows the present state and no replacement of it; if it can't
// distinguish the two, its reason says so. The list itself will be a file in one of the
// directories holders, so it can't state their contents: it allows all of these. Learn
// also returns the findings that no exception can allow.
func (m *Machine) Learn(findings []report.Finding, holders ...string) (allow []Exception, left []report.Finding) {
	allow = []Exception{}
	for _, f := range findings {
		if report.ClassOf(f.Cause) == report.Notice {
			continue
		}
		e := Exception{Match: literal(f.Path), Cause: f.Cause, Value: m.valueOf(&f)}
		if slices.Contains(holders, f.Path) && f.Field == "" {
			e = Exception{Match: literal(f.Path) + "/", Cause: f.Cause}
		}
		if f.Field != "" {
			e.Match += ":" + literal(f.Field)
		}
		// The operator must be able to read what is written into the configuration.
		if f.Cause == report.MachineUnseen || len(e.Match) > maxMatch || len(e.Value) > maxValue || unreadable(e.Match) || unreadable(e.Value) {
			left = append(left, f)
			continue
		}
		what := strings.ToValidUTF8(f.Got, "\uFFFD")
		e.Reason = fmt.Sprintf("%s: %s, %.200s", unreviewed, f.Cause, strings.Map(printed, what))
		if e.Value == "" {
			if e.Reason += "; it allows whatever has this name"; strings.HasSuffix(e.Match, "/") {
				e.Reason += ", and everything in it: this list will be there"
			}
		}
		allow = append(allow, e)
	}
	return allow, left
}

func unreadable(s string) bool { return !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func printed(r rune) rune {
	if isControl(r) {
		return '?'
	}
	return r
}

// literal returns the pattern that matches name and nothing else.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
