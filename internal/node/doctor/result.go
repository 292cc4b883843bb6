package doctor

import "fmt"

// State is how one check ended.
type State string

// The states.
const (
	OK      State = "ok"
	Notice  State = "notice"  // a run works, and somebody should know this
	Problem State = "problem" // a run fails, or gives no good verdict
	Unknown State = "unknown" // it could not be found out
)

// Result is the result of one check.
type Result struct {
	// Check names the check: "keys", "sources" …
	Check string `json:"check"`
	State State  `json:"state"`
	// Key is the configuration key that it concerns; empty for none.
	Key string `json:"key,omitempty"`
	// Found says in one line what was found.
	Found string `json:"found"`
	// Remedy says what to do; empty if nothing.
	Remedy string `json:"remedy,omitempty"`
}

// results collects the results of the checks. They may contain untrusted file names:
// escape them when they are shown.
type results struct {
	check string
	all   []Result
}

func (r *results) add(state State, key, remedy, format string, args ...any) {
	r.all = append(r.all, Result{r.check, state, key, fmt.Sprintf(format, args...), remedy})
}

func (r *results) ok(format string, args ...any) { r.add(OK, "", "", format, args...) }

func (r *results) problem(key, remedy, format string, args ...any) {
	r.add(Problem, key, remedy, format, args...)
}

func (r *results) notice(key, remedy, format string, args ...any) {
	r.add(Notice, key, remedy, format, args...)
}

func (r *results) unknown(remedy, format string, args ...any) {
	r.add(Unknown, "", remedy, format, args...)
}

// quiet reports whether the current check found nothing wrong.
func (r *results) quiet() bool {
	for _, one := range r.all {
		if one.Check == r.check && one.State != OK {
			return false
		}
	}
	return true
}

// harmless reports whether the current check found no problem.
func (r *results) harmless() bool {
	for _, one := range r.all {
		if one.Check == r.check && one.State == Problem {
			return false
		}
	}
	return true
}

// Problems counts the results that prevent a good verdict.
func Problems(all []Result) int {
	n := 0
	for _, r := range all {
		if r.State == Problem {
			n++
		}
	}
	return n
}
