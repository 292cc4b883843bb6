package running

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"every.channel/ec-verify/internal/report"
)

// Exception is a difference that the operator has accepted.
type Exception struct {
	// Match is the path of a finding, or "PATH:FIELD" for one that has a field. It
	// may have the wildcards of [path.Match]; one that ends in a slash matches the
	// directory and everything beneath it, but nothing about a field.
	Match string `json:"match"`
	// Cause is the one cause that is allowed; empty for any cause that need not be named,
	// see [Exception.allows].
	Cause report.Cause `json:"cause,omitzero"`
	// Value is the only allowed value, in the form of [Machine.valueOf]; empty for any.
	Value string `json:"value,omitzero"`
	// Reason says why, in a line for people.
	Reason string `json:"reason"`
	// Until is the last day of the exception, as "2006-01-02" in UTC; empty for one
	// without an end.
	Until string `json:"until,omitzero"`
}

const (
	maxMatch  = 1024 // bytes
	maxReason = 400  // bytes
	maxValue  = 4096 // bytes
)

// Check returns an error if e is not valid.
func (e *Exception) Check() error {
	switch {
	case e.Match == "" || len(e.Match) > maxMatch:
		return fmt.Errorf("match: want a path, of at most %d bytes", maxMatch)
	case strings.TrimSpace(e.Reason) == "" || len(e.Reason) > maxReason:
		return fmt.Errorf("reason: want the reason for the exception, in at most %d bytes", maxReason)
	}
	if strings.HasPrefix(e.Reason, unreviewed) {
		return fmt.Errorf("reason: %.60q was learned from a machine: review it, and write the reason", e.Reason)
	}
	if strings.Trim(e.Match, "/*") == "" {
		return fmt.Errorf("match: %q would allow everything", e.Match)
	}
	if _, err := path.Match(e.Match, ""); err != nil {
		return fmt.Errorf("match: %q is not a pattern", e.Match)
	}
	if e.Cause != "" && !slices.Contains(report.Causes(), e.Cause) {
		return fmt.Errorf("cause: there is no %.60q", e.Cause)
	}
	if e.Value != "" && e.Cause == "" || len(e.Value) > maxValue {
		return fmt.Errorf("value: want at most %d bytes, together with a cause", maxValue)
	}
	if valued(e.Cause) && e.Value == "" {
		return fmt.Errorf("value: for %s want the allowed value, which a report has in \"got\"", e.Cause)
	}
	if _, err := e.end(); err != nil {
		return errors.New("until: want a day such as 2026-12-31")
	}
	return nil
}

// end returns the moment from which e is over; the zero time for never.
func (e *Exception) end() (time.Time, error) {
	if e.Until == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, e.Until)
	return day.AddDate(0, 0, 1), err
}

func (e *Exception) over(now time.Time) bool {
	end, err := e.end()
	return err != nil || !end.IsZero() && !now.Before(end)
}

// deleted ends the kernel's name for a file that was removed and is still in use.
const deleted = " (deleted)"

// matches reports whether e allows a finding about name.
func (e *Exception) matches(name string) bool {
	if dir, beneath := strings.CutSuffix(e.Match, "/"); beneath {
		// An exception for a directory does not allow files that were removed from it.
		return (name == dir || strings.HasPrefix(name, e.Match)) && !strings.HasSuffix(name, deleted)
	}
	ok, err := path.Match(e.Match, name)
	return ok && err == nil
}

// valued reports whether a cause is allowed only together with its value: an exception
// for something that grants rights must not apply to a name alone, whose contents may
// change.
func valued(c report.Cause) bool { return c == report.AccountAltered || c == report.UnitAltered }

// allows reports whether e allows the cause and the value of a finding that it matches.
// Findings that hide others, or that determine who may log in, must be allowed by cause.
func (e *Exception) allows(m *Machine, f *report.Finding) bool {
	named := valued(f.Cause) || f.Cause == report.ForeignMount || f.Cause == report.MountedOver
	switch {
	case e.Cause != f.Cause && (e.Cause != "" || named):
		return false
	case e.Value == "":
		return !valued(f.Cause)
	}
	return e.Value == m.valueOf(f)
}

// allowed reports whether an exception allows f whatever its value is.
func (m *Machine) allowed(f *report.Finding) bool {
	return slices.ContainsFunc(m.Allow, func(e Exception) bool {
		return e.Value == "" && !e.over(m.Now) && e.matches(f.Path) && e.allows(m, f)
	})
}

// excusedBy returns which exception allows f, -1 for none.
func (m *Machine) excusedBy(f report.Finding) int {
	name := f.Path
	if f.Field != "" {
		name += ":" + f.Field
	}
	for i := range m.Allow {
		e := &m.Allow[i]
		if !e.over(m.Now) && (f.Field == "" || !strings.HasSuffix(e.Match, "/")) && e.matches(name) && e.allows(m, &f) {
			return i
		}
	}
	return -1
}

// mayFold reports whether the contents of dir may be reported as one finding of a cause:
// no exception allows that cause for something in it.
func (m *Machine) mayFold(dir string, cause report.Cause) bool {
	for _, e := range m.Allow {
		if e.Cause != "" && e.Cause != cause {
			continue
		}
		literal := e.Match
		if i := strings.IndexAny(literal, `*?[\\`); i >= 0 {
			literal = literal[:i]
			if strings.HasPrefix(dir+"/", literal) {
				return false
			}
		}
		if strings.HasPrefix(literal, dir+"/") && e.Match != dir+"/" {
			return false
		}
	}
	return true
}

// exceptionNotes returns the findings about the use of each exception. whole means that
// everything was checked; otherwise an unused exception can't be recognized.
func (m *Machine) exceptionNotes(used []int, whole bool) []report.Finding {
	var out []report.Finding
	for i := range m.Allow {
		e := &m.Allow[i]
		f := report.Finding{Path: e.Match, Detail: e.Reason}
		switch {
		case e.over(m.Now):
			f.Cause, f.Detail = report.ExceptionOver, fmt.Sprintf("it ended after %s: %s", e.Until, e.Reason)
		case used[i] == 0 && !whole:
			continue
		case used[i] == 0:
			f.Cause = report.ExceptionUnused
		default:
			f.Cause, f.Allowed, f.Got = report.ExceptionUsed, used[i], fmt.Sprintf("%d allowed", used[i])
		}
		out = append(out, f)
	}
	return out
}
