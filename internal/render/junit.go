package render

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The form that forges and CI servers read, by the strictest of its schemas, Windy Road's
// for Ant: all members, in its order.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Package    string      `xml:"package,attr"`
		ID         int         `xml:"id,attr"`
		Name       string      `xml:"name,attr"`
		Host       string      `xml:"hostname,attr"`
		Tests      int         `xml:"tests,attr"`
		Failures   int         `xml:"failures,attr"`
		Errors     int         `xml:"errors,attr"`
		Skipped    int         `xml:"skipped,attr"`
		Time       string      `xml:"time,attr"`
		Timestamp  string      `xml:"timestamp,attr"`
		Properties struct{}    `xml:"properties"`
		Cases      []junitCase `xml:"testcase"`
		Out        string      `xml:"system-out"`
		Err        string      `xml:"system-err"`

		out []string
	}
	junitCase struct {
		Name      string      `xml:"name,attr"`
		ClassName string      `xml:"classname,attr"`
		Time      string      `xml:"time,attr"`
		Skipped   *junitWhy   `xml:"skipped"`
		Error     *junitFault `xml:"error"`
		Failure   *junitFault `xml:"failure"`
	}
	junitWhy struct {
		Message string `xml:"message,attr"`
	}
	junitFault struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes d as test results: a suite for each step, with a case for the step itself
// and one for each finding. What could not be checked is an error, a difference is a
// failure, and a notice is a case that passes, with its text in the suite's output.
func JUnit(w io.Writer, d *Document) error {
	var out junitSuites
	steps := d.Steps
	if len(steps) == 0 {
		steps = []Step{{Name: "compare", Status: "done"}}
	}
	faults := 0
	for i, s := range steps {
		suite := d.junitSuite(s, func(g *Group) bool { return g.Step == s.Name || i == 0 && !hasStep(steps, g.Step) })
		suite.ID = i
		if i == 0 {
			d.junitUnlisted(&suite)
		}
		suite.count()
		faults += suite.Failures + suite.Errors
		out.Suites = append(out.Suites, suite)
	}
	// A bad verdict must look bad, whatever the findings are.
	if d.Tone != Good && faults == 0 {
		s := &out.Suites[0]
		s.Cases = append(s.Cases, junitCase{Name: "verdict", ClassName: "ec-verify", Time: secs(0), Error: &junitFault{Message: d.Headline, Type: d.Verdict}})
		s.Tests, s.Errors = s.Tests+1, s.Errors+1
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// junitSuite returns the suite of a step, with the groups that are of it.
func (d *Document) junitSuite(s Step, of func(*Group) bool) junitSuite {
	suite := junitSuite{Package: "ec-verify", Name: s.Name, Host: cmp.Or(d.Host, "localhost"), Timestamp: d.Finished.UTC().Format("2006-01-02T15:04:05"), Time: secs(s.Took)}
	itself := junitCase{Name: s.Name, ClassName: "ec-verify." + s.Name, Time: secs(s.Took)}
	switch s.Status {
	case "skipped":
		itself.Skipped = &junitWhy{s.Why}
	case "failed":
		itself.Error = &junitFault{Message: s.Why, Type: "failed"}
	default:
		suite.say(s.Why)
	}
	suite.Cases = append(suite.Cases, itself)
	for j := range d.Groups {
		if g := &d.Groups[j]; of(g) {
			g.junit(&suite)
		}
	}
	return suite
}

// count counts the cases, and ends the output.
func (s *junitSuite) count() {
	for i := range s.Cases {
		c := &s.Cases[i]
		s.Tests++
		switch {
		case c.Skipped != nil:
			s.Skipped++
		case c.Error != nil:
			s.Errors++
		case c.Failure != nil:
			s.Failures++
		}
	}
	s.Out = strings.Join(s.out, "\n")
}

// junitUnlisted adds a case for the findings without one: a failure, unless the verdict
// says that all of them are harmless.
func (d *Document) junitUnlisted(suite *junitSuite) {
	for _, text := range d.Unlisted() {
		c := junitCase{Name: "findings that are not listed", ClassName: "ec-verify", Time: secs(0)}
		if d.Tone == Good {
			suite.say(text)
		} else {
			c.Error = &junitFault{Message: text, Type: "unlisted"}
		}
		suite.Cases = append(suite.Cases, c)
	}
}

func hasStep(steps []Step, name string) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.Name == name })
}

func (s *junitSuite) say(text string) {
	if text != "" {
		s.out = append(s.out, text)
	}
}

// junit adds a case for each finding of g.
func (g *Group) junit(suite *junitSuite) {
	for _, it := range g.Items {
		c := junitCase{Name: g.Title + ": " + it.Name, ClassName: "ec-verify." + g.ID, Time: secs(0)}
		text := strings.Join(it.Lines, "\n")
		if g.Next != "" {
			text += "\n→ " + g.Next
		}
		fault := &junitFault{Message: g.Title, Type: g.ID, Text: text}
		switch g.Tone {
		case Bad:
			c.Failure = fault
		case Unknown:
			c.Error = fault
		default:
			suite.say(c.Name + "\n" + text)
		}
		suite.Cases = append(suite.Cases, c)
	}
}

func secs(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
