// Package forms holds every form of a report to golden files, and to showing nothing
// that misleads a reader or does something where it is shown.
package forms

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/render"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/report/reporttest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// forms are all that a report is shown as; check says what is wrong with one.
var forms = []struct {
	name  string
	write func(w io.Writer, r *report.Report) error
	check func(text string) error
}{
	{"brief", func(w io.Writer, r *report.Report) error {
		_, err := fmt.Fprintln(w, r.Brief())
		return err
	}, nil},
	{"terminal-60", terminal(60), nil},
	{"terminal-80", terminal(80), nil},
	{"terminal-200", terminal(200), nil},
	{"text", func(w io.Writer, r *report.Report) error { return r.WriteText(w, report.TextOptions{All: true}) }, nil},
	{"report.json", func(w io.Writer, r *report.Report) error { return r.WriteJSON(w) }, checkJSON},
	{"journal", journal, nil},
	{"html", rendered(render.HTML), checkHTML},
	{"md", rendered(render.Markdown), checkMarkdown},
	{"junit.xml", rendered(render.JUnit), checkXML},
	{"sarif", rendered(render.SARIF), checkJSON},
}

func terminal(width int) func(io.Writer, *report.Report) error {
	return func(w io.Writer, r *report.Report) error { return r.WriteText(w, report.TextOptions{Width: width}) }
}

func rendered(format func(io.Writer, *render.Document) error) func(io.Writer, *report.Report) error {
	return func(w io.Writer, r *report.Report) error { return format(w, render.FromReport(r)) }
}

// journal writes the entries of a run as journalctl shows them with all their fields,
// but for those that are of the run.
func journal(w io.Writer, r *report.Report) error {
	all := r.Findings
	for len(all) > systemd.MaxFindings { // of each finding, in as many runs as that takes
		part := *r
		part.Findings, all = all[:systemd.MaxFindings], all[systemd.MaxFindings:]
		entries := systemd.Ended(systemd.Run{ID: 7, Tool: r.Tool}, &part)
		writeEntries(w, entries[:len(entries)-1])
	}
	last := *r
	last.Findings = all
	writeEntries(w, systemd.Ended(systemd.Run{ID: 7, Tool: r.Tool}, &last))
	return nil
}

func writeEntries(w io.Writer, entries []systemd.Entry) {
	ofRun := []systemd.Field{systemd.FieldRun, systemd.FieldTool, systemd.FieldRelease, systemd.FieldConfiguration, systemd.FieldVerdict, systemd.FieldTier}
	for _, e := range entries {
		fmt.Fprintf(w, "%s <%d> %s\n", e.Event, e.Priority, e.Message)
		for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
			// The message has what it means and what to do.
			if value := e.Fields[field]; value != "" && !slices.Contains(ofRun, field) && !strings.Contains(e.Message, value) {
				fmt.Fprintf(w, "    %s=%s\n", field, value)
			}
		}
	}
}

// cases are the reports: those of reporttest, and a release refused for each reason.
func cases(t *testing.T) map[string]*report.Report {
	t.Helper()
	out := make(map[string]*report.Report)
	for name, make := range reporttest.Cases {
		out[name] = make()
	}
	var refused []report.Finding
	for _, reason := range reasons(t) {
		err := &release.UntrustedError{Reason: reason, Tag: "boot-v2026.02.28", Source: "/srv/releases", Detail: "what does not hold"}
		refused = append(refused, report.Finding{Tier: report.TierRelease, Cause: verify.RefusedFor(reason), Path: string(err.Tag), Detail: err.Error()})
	}
	out["untrusted"] = reporttest.Untrusted(refused...)
	return out
}

// reasons returns every reason for which a release is refused, from the source that
// declares them.
func reasons(t *testing.T) []release.Reason {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../release/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []release.Reason
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, release.Reason(text))
		}
		return true
	})
	if len(out) < 20 {
		t.Fatalf("found %d reasons, which cannot be all", len(out))
	}
	return out
}

// TestGolden: one file for each case holds all its forms, so that a change of what is
// shown is seen, and a new cause or reason has to be looked at in each of them.
func TestGolden(t *testing.T) {
	for name, r := range cases(t) {
		t.Run(name, func(t *testing.T) {
			got := new(txtar.Archive)
			for _, f := range forms {
				var b bytes.Buffer
				if err := f.write(&b, r); err != nil {
					t.Fatal(err)
				}
				got.Files = append(got.Files, txtar.File{Name: f.name, Data: shortened(name, f.name, b.String())})
			}
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range got.Files {
				if i >= len(want.Files) || want.Files[i].Name != f.Name {
					t.Fatalf("%s has no %s; -update writes it anew", file, f.Name)
				}
				if diff := cmp.Diff(string(want.Files[i].Data), string(f.Data)); diff != "" {
					t.Errorf("%s of %s (-want +got), -update writes it anew:\n%s", f.Name, file, diff)
				}
			}
		})
	}
}

var (
	style = regexp.MustCompile(`(?s)<style>.*</style>`)
	blank = regexp.MustCompile(`(?m)^ +`)
	long  = regexp.MustCompile(`x{90,}|(word ){18,}|(word%20){18,}`)
)

// shortened returns the part of a text that a golden file keeps. It drops the style of a page
// and the indentation of machine-readable formats, replaces a long name by its length, and
// keeps the first and the last lines of a thousand findings, with a sum of all.
func shortened(name, form, text string) []byte {
	if form == "report.json" || form == "sarif" || form == "junit.xml" {
		text = blank.ReplaceAllString(text, "")
	}
	text = strings.TrimRight(style.ReplaceAllString(text, "<style>…</style>"), "\n") + "\n"
	text = long.ReplaceAllStringFunc(text, func(s string) string { return fmt.Sprintf("%s… %d bytes …", s[:10], len(s)) })
	const first, last = 24, 8
	lines := strings.SplitAfter(text, "\n")
	if name != "thousand" || len(lines) < 3*(first+last) {
		return []byte(text)
	}
	return fmt.Appendf(nil, "%s… %d lines more, SHA-256 %x …\n%s", strings.Join(lines[:first], ""), len(lines)-first-last,
		sha256.Sum256([]byte(text)), strings.Join(lines[len(lines)-last-1:], ""))
}

// TestEveryCauseIsShown: a cause is in each form that has room for all.
func TestEveryCauseIsShown(t *testing.T) {
	r := reporttest.Cases["every-cause"]()
	for _, f := range forms {
		if strings.HasPrefix(f.name, "brief") {
			continue // the verdict and how many
		}
		var b bytes.Buffer
		if err := f.write(&b, r); err != nil {
			t.Fatal(err)
		}
		for _, c := range report.Causes() {
			if !regexp.MustCompile(`(^|[^a-z-])` + string(c) + `([^a-z-]|$)`).MatchString(b.String()) {
				t.Errorf("%s does not name %s", f.name, c)
			}
		}
	}
}

// TestHarmless: nothing in any form of any case can be more than text to read.
func TestHarmless(t *testing.T) {
	for name, r := range cases(t) {
		for _, f := range forms {
			var b bytes.Buffer
			if err := f.write(&b, r); err != nil {
				t.Fatal(err)
			}
			text := b.String()
			for _, c := range text {
				if c != '\n' && (!unicode.IsPrint(c) || c == unicode.ReplacementChar && f.name != "report.json" || unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)) {
					t.Errorf("%s as %s holds %+q", name, f.name, c)
					break
				}
			}
			// What an attacker would have begin a line.
			if regexp.MustCompile(`(?m)^\s*(verified: (this machine is fine|all is well)|::)`).MatchString(text) {
				t.Errorf("%s as %s has a line of an attacker's", name, f.name)
			}
			if f.check == nil {
				continue
			}
			if err := f.check(text); err != nil {
				t.Errorf("%s as %s: %v", name, f.name, err)
			}
		}
	}
}

// checkJSON: it can be read, and holds nothing that a page which holds it takes for a tag.
func checkJSON(text string) error {
	if strings.ContainsAny(text, "<>") {
		return errors.New("it holds '<' or '>'")
	}
	return json.Unmarshal([]byte(text), new(any))
}

// checkXML: it can be read, and all that an outsider wrote is text or a value.
func checkXML(text string) error {
	known := []string{"testsuites", "testsuite", "testcase", "failure", "error", "skipped", "properties", "system-out", "system-err"}
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if !slices.Contains(known, e.Name.Local) {
				return fmt.Errorf("an element %s", e.Name.Local)
			}
		case xml.Comment, xml.Directive:
			return fmt.Errorf("something that is no element: %v", e)
		}
	}
}

// checkHTML: there is no tag but those of the page's own template, and none that does
// or asks for something.
func checkHTML(text string) error {
	page, err := os.ReadFile("../../render/page.html")
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`^</?([a-z0-9]+)|^<!doctype`)
	own := make(map[string]bool)
	tags := regexp.MustCompile(`<[^>]*>?`)
	for _, tag := range tags.FindAllString(string(page), -1) {
		own[name.FindString(strings.Replace(tag, "</", "<", 1))] = true
	}
	text = style.ReplaceAllString(text, "")
	for _, tag := range tags.FindAllString(text, -1) {
		if !own[name.FindString(strings.Replace(tag, "</", "<", 1))] || !strings.HasSuffix(tag, ">") {
			return fmt.Errorf("a tag %s", tag)
		}
		if regexp.MustCompile(`(?i)[\s"']on[a-z]+\s*=|\ssrc\s*=|javascript:|http-equiv="refresh`).MatchString(tag) {
			return fmt.Errorf("a tag that does something: %s", tag)
		}
		if m := regexp.MustCompile(`href="([^"]*)"`).FindStringSubmatch(tag); m != nil && m[1] != "data:," {
			return fmt.Errorf("a link to %s", m[1])
		}
	}
	return nil
}

// checkMarkdown: outside of code spans there is nothing that is a tag, a link or a
// mention.
func checkMarkdown(text string) error {
	span := regexp.MustCompile("(^|[^`])(`+)([^`]|$)")
	for line := range strings.Lines(text) {
		bare := ""
		for line != "" {
			at := span.FindStringSubmatchIndex(line)
			if at == nil {
				bare += line
				break
			}
			bare += line[:at[4]]
			fence, rest := line[at[4]:at[5]], line[at[5]:]
			end := regexp.MustCompile("(?:^|[^`])(" + fence + ")(?:[^`]|$)").FindStringSubmatchIndex(rest)
			if end == nil {
				return fmt.Errorf("a code span without an end: %s", line)
			}
			line = rest[end[3]:]
		}
		if strings.ContainsAny(bare, "<>@[") {
			return fmt.Errorf("outside of code: %s", bare)
		}
	}
	return nil
}
