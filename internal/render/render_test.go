package render_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"every.channel/ec-verify/internal/render"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/report/reporttest"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

var update = flag.Bool("update", false, "write the screenshot anew")

var formats = func() map[string]func(io.Writer, *render.Document) error {
	m := make(map[string]func(io.Writer, *render.Document) error)
	for _, f := range render.Formats {
		m[f.Name] = f.Write
	}
	return m
}()

// verified returns the report of a run over that many paths.
func verified(paths int) *report.Report {
	r := reporttest.Verified()
	r.Closure = nil
	r.Coverage.Paths, r.Coverage.Hashed, r.Tiers[4].Checked = paths, paths, paths
	for i := range paths {
		name := fmt.Sprintf("%s-%d.%d", []string{"linux", "systemd", "glibc", "python3", "nix", "openssl", "unit-nginx.service", "perl"}[i%8], i, i%7)
		p := report.ClosurePath{Path: reporttest.Object(name), Size: int64(1<<30) / int64(i+2), State: report.Hashed, Checked: r.Started.Add(time.Minute)}
		if i%3 == 0 {
			p.State, p.Checked = report.Remembered, r.Started.AddDate(0, 0, -i%20)
		}
		r.Closure = append(r.Closure, p)
	}
	slices.SortFunc(r.Closure, func(a, b report.ClosurePath) int { return cmp.Compare(a.Path, b.Path) })
	return r
}

// drifted returns the report of a run over so many paths with so many findings in them,
// of several causes, and one more.
func drifted(paths, findings int) *report.Report {
	r := verified(paths)
	altered := reporttest.Altered(1).Findings[0]
	for i := range findings {
		f := altered
		if f.Cause = []report.Cause{closure.DiskAltered, closure.DatabaseAltered, closure.Missing, report.Unreadable, report.TimeAltered}[i%5]; f.Cause != closure.DiskAltered {
			f.Files = nil
		}
		f.Path = string(r.Closure[i*paths/findings].Path)
		r.Findings = append(r.Findings, f)
	}
	r.Findings = append(r.Findings, report.Finding{Tier: report.TierLive, Cause: report.OtherSystem, Path: "/run/current-system", Want: "/nix/store/a", Got: "/nix/store/b"})
	r.Sort()
	r.Standing = &report.Standing{Verdict: report.Drifted, Since: r.Started.AddDate(0, 0, -2)}
	return r
}

func refused() *report.Report {
	return reporttest.Untrusted(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseUntrusted, Path: "boot-v1", Detail: "no signature"})
}

func rendered(t *testing.T, format string, r *report.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := formats[format](&b, render.FromReport(r)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEveryCause: each cause is rendered, and a report that is not verified has something in
// JUnit and SARIF that a forge shows as a problem.
func TestEveryCause(t *testing.T) {
	for _, c := range report.Causes() {
		r := verified(3)
		r.Findings = []report.Finding{{Tier: report.TierContents, Cause: c, Path: "/nix/store/x", Detail: "y"}}
		trouble := r.Verdict() != report.Verified
		if got := regexp.MustCompile(`<(failure|error) `).Match(rendered(t, "junit", r)); got != trouble {
			t.Errorf("%s: JUnit shows trouble: %v", c, got)
		}
		if got := regexp.MustCompile(`"level": "(error|warning)",\s+"message"`).Match(rendered(t, "sarif", r)); got != trouble {
			t.Errorf("%s: SARIF shows trouble: %v", c, got)
		}
		for format := range formats {
			if got := rendered(t, format, r); !bytes.Contains(got, []byte(c)) {
				t.Errorf("%s does not name %s", format, c)
			}
		}
	}
}

// hostile is what an attacker may write wherever there is room for it.
const hostile = "x\x1b[2J\r\n</pre></style></svg></title>--><script>alert(1)</script><img src=x onerror=alert(1)>]]>" +
	"\u202eevil\u2066\u200b\u009b31m\x00\xff`|**[a](javascript:alert(1))** @root {{.}} \" ' & "

// TestHostile: whatever an attacker writes wherever he can, nothing of it is more than
// text in any format.
func TestHostile(t *testing.T) {
	long := strings.Repeat("A", 4000)
	for _, text := range []string{hostile, long, hostile + long} {
		r := drifted(12, 6)
		r.Host, r.StoreRoot, r.Against, r.Configuration, r.Tool, r.Unsafe = text, text, text, text, text, []string{text}
		r.Release.Tag, r.Release.Signer, r.Release.Source, r.Release.Commit = text, text, text, text
		r.Standing.Look, r.GCRoot = text, &report.GCRoot{Why: text}
		r.Coverage.Origins[0] = report.Origin{Dir: text, Type: text, Source: text, Device: text, Point: text}
		for i := range r.Tiers {
			r.Tiers[i].Why = text
		}
		for i := range r.Findings {
			f := &r.Findings[i]
			f.Path, f.Field, f.Want, f.Got, f.Detail = text, text, text, text, text
			for j := range f.Files {
				f.Files[j].Path, f.Files[j].Got = excerpt.Raw(text), nar.Entry{Type: nar.Symlink, Target: text}
			}
		}
		for format := range formats {
			got := string(rendered(t, format, r))
			for _, c := range got {
				if c != '\n' && c != '\t' && (!unicode.IsPrint(c) || c == unicode.ReplacementChar) {
					t.Fatalf("%s holds %+q", format, c)
				}
			}
			if strings.Contains(got, strings.Repeat("A", 500)) {
				t.Errorf("%s shows more than it should of a long name", format)
			}
			switch format {
			case "html":
				for _, tag := range regexp.MustCompile(`<[a-zA-Z!/][^>]*>`).FindAllString(got, -1) {
					if regexp.MustCompile(`(?i)script|<img|onerror|javascript`).MatchString(tag) && !strings.HasPrefix(tag, "<meta") {
						t.Errorf("a tag %s", tag)
					}
				}
				if n := strings.Count(got, "</style>"); n != 1 {
					t.Errorf("%d ends of a style", n)
				}
			case "markdown":
				for line := range strings.Lines(got) {
					if bare := outsideCode(line); strings.ContainsAny(bare, "<>@[") || strings.Contains(bare, "javascript") {
						t.Errorf("outside of code: %q", bare)
					}
				}
			case "junit":
				checkXML(t, got)
			case "sarif":
				checkSARIF(t, []byte(got))
			}
		}
	}
}

// outsideCode returns a line of Markdown without its code spans, by the rule of
// CommonMark: a span ends with as many backticks as it begins with.
func outsideCode(line string) string {
	var out strings.Builder
	for i := 0; i < len(line); {
		if line[i] != '`' {
			out.WriteByte(line[i])
			i++
			continue
		}
		n := len(line[i:]) - len(strings.TrimLeft(line[i:], "`"))
		end := i + n
		for end < len(line) {
			if line[end] != '`' {
				end++
				continue
			}
			run := len(line[end:]) - len(strings.TrimLeft(line[end:], "`"))
			if run == n {
				break
			}
			end += run
		}
		if end == len(line) {
			out.WriteString(line[i : i+n])
			i += n
			continue
		}
		i = end + n
	}
	return out.String()
}

func checkXML(t *testing.T, text string) {
	t.Helper()
	type counted struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	var doc struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []struct {
			counted
			Name    string `xml:"name,attr"`
			Package string `xml:"package,attr"`
			ID      int    `xml:"id,attr"`
			Host    string `xml:"hostname,attr"`
			Seconds string `xml:"time,attr"`
			Time    string `xml:"timestamp,attr"`
			Inner   string `xml:",innerxml"`
			Cases   []struct {
				Name  string `xml:"name,attr"`
				Class string `xml:"classname,attr"`
				Inner string `xml:",innerxml"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for i, s := range doc.Suites {
		var c counted
		for _, k := range s.Cases {
			c.Tests++
			for what, n := range map[string]*int{"<failure": &c.Failures, "<error": &c.Errors, "<skipped": &c.Skipped} {
				if strings.HasPrefix(strings.TrimSpace(k.Inner), what) {
					*n++
				}
			}
			if k.Name == "" || k.Class == "" {
				t.Errorf("a case without a name in %s", s.Name)
			}
		}
		if c != s.counted {
			t.Errorf("suite %s counts %+v and has %+v", s.Name, s.counted, c)
		}
		if _, err := time.Parse("2006-01-02T15:04:05", s.Time); err != nil {
			t.Error(err)
		}
		if s.ID != i || s.Name == "" || s.Host == "" || s.Package == "" || s.Seconds == "" {
			t.Errorf("a suite %+v", s)
		}
		order := strings.NewReplacer("properties", "0", "testcase", "1", "system-out", "2", "system-err", "3")
		var have string
		for _, m := range regexp.MustCompile(`(?m)^    <(properties|testcase|system-out|system-err)\b`).FindAllStringSubmatch(s.Inner, -1) {
			have += order.Replace(m[1])
		}
		if !regexp.MustCompile(`^01+23$`).MatchString(have) {
			t.Errorf("suite %s has its members as %s", s.Name, have)
		}
	}
	d := xml.NewDecoder(strings.NewReader(text))
	known := []string{"testsuites", "testsuite", "testcase", "failure", "error", "skipped", "properties", "system-out", "system-err"}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && !slices.Contains(known, e.Name.Local) {
			t.Errorf("an element %s", e.Name.Local)
		}
	}
}

// checkSARIF holds a log to the rules of SARIF 2.1.0 that a part of it is held to which
// this package writes.
func checkSARIF(t *testing.T, data []byte) {
	t.Helper()
	var log struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct{ ID string }
				}
			}
			Results []struct {
				RuleID      string
				RuleIndex   int
				Kind, Level string
				Message     struct{ Text string }
				Locations   []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(data, &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || log.Runs[0].Tool.Driver.Name == "" {
		t.Fatalf("%+v", log)
	}
	run := log.Runs[0]
	uri := regexp.MustCompile(`^[A-Za-z0-9._~!$&'()*+,;=@%/-][A-Za-z0-9._~!$&'()*+,;=:@%/-]*$`)
	for _, r := range run.Results {
		if r.RuleIndex >= len(run.Tool.Driver.Rules) || run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID || r.Message.Text == "" || len(r.Locations) != 1 {
			t.Errorf("a result %+v", r)
		}
		if (r.Kind == "fail") == (r.Level == "none") || !slices.Contains([]string{"none", "note", "warning", "error"}, r.Level) {
			t.Errorf("kind %s, level %s", r.Kind, r.Level)
		}
		if at := r.Locations[0].PhysicalLocation; !uri.MatchString(at.ArtifactLocation.URI) || strings.HasPrefix(at.ArtifactLocation.URI, "//") || at.Region.StartLine != 1 {
			t.Errorf("a place %+v", at)
		}
	}
}

// TestForms: the ordinary reports are valid in each format as well.
func TestForms(t *testing.T) {
	for _, r := range []*report.Report{verified(3), drifted(12, 6), refused(), reporttest.Cases["inconclusive"]()} {
		checkXML(t, string(rendered(t, "junit", r)))
		checkSARIF(t, rendered(t, "sarif", r))
	}
}

// TestLarge: 3,000 paths with 500 findings fit in 3 MB and 200 MiB.
func TestLarge(t *testing.T) {
	r := drifted(3000, 500)
	for format := range formats {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		got := rendered(t, format, r)
		runtime.ReadMemStats(&after)
		// All that was ever allocated, so that it never took more at a time.
		allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%s: %d bytes, %d MiB allocated", format, len(got), allocated)
		if len(got) >= 3_000_000 || allocated > 200 {
			t.Errorf("%s: %d bytes, %d MiB allocated", format, len(got), allocated)
		}
		if format == "html" && bytes.Count(got, []byte("<rect ")) != 3003 {
			t.Errorf("%d rectangles", bytes.Count(got, []byte("<rect ")))
		}
	}
}

// TestBound: of very many findings, or of very large ones, as many are rendered as a
// forge takes, all formats say how many are left out, and what is trouble stays.
func TestBound(t *testing.T) {
	text := strings.Repeat(`"`, 400)
	for name, r := range map[string]*report.Report{"many": drifted(3, 100_000), "large": drifted(3, 1)} {
		if name == "large" {
			for i := range 20_000 {
				r.Findings = append(r.Findings, report.Finding{Tier: report.TierContents, Cause: closure.Missing, Path: fmt.Sprintf("%d%s", i, text), Want: text, Got: text, Detail: text})
			}
		}
		var notices []report.Finding
		for i := range 30_000 {
			notices = append(notices, report.Finding{Tier: report.TierLive, Cause: report.UnacceptedEntry, Path: fmt.Sprint(i)})
		}
		r.Findings = append(notices, r.Findings...)
		total := len(r.Findings)
		d := render.FromReport(r)
		listed := 0
		for _, g := range d.Groups {
			listed += len(g.Items)
			if g.Tone == render.Note && len(g.Items) > 20 { // which fit in what the rest leaves
				t.Errorf("%s: %d notices are kept before what is trouble", name, len(g.Items))
			}
		}
		if listed+d.Left != total || listed < 500 || d.Left == 0 || len(d.Groups) < 4 {
			t.Errorf("%s: %d findings in %d groups, and %d left out, of %d", name, listed, len(d.Groups), d.Left, total)
		}
		for format, write := range formats {
			var b bytes.Buffer
			if err := write(&b, d); err != nil {
				t.Fatal(err)
			}
			if b.Len() > 17<<20 || !bytes.Contains(b.Bytes(), fmt.Appendf(nil, "%d findings left out here", d.Left)) {
				t.Errorf("%s, %s: %d bytes, or it does not say what is left out", name, format, b.Len())
			}
		}
	}
}

// TestUnlistedNotices: notices that a verified report does not list are no trouble.
func TestUnlistedNotices(t *testing.T) {
	r := verified(3)
	r.More = map[report.Class]int{report.Notice: 7}
	if got := rendered(t, "junit", r); regexp.MustCompile(`<(failure|error) `).Match(got) || !bytes.Contains(got, []byte("7 findings")) {
		t.Errorf("JUnit shows notices as trouble, or not at all:\n%s", got)
	}
}

// TestMore: findings that a report counts and does not list are never forgotten.
func TestMore(t *testing.T) {
	r := verified(3)
	r.More = map[report.Class]int{report.Drift: 7}
	for format := range formats {
		if got := rendered(t, format, r); !bytes.Contains(got, []byte("7 findings")) {
			t.Errorf("%s does not say that there are more", format)
		}
	}
}
