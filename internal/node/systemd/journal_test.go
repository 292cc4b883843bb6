package systemd

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

const catalogFile = "../../../systemd/ec-verify.catalog"

// hostile is what an attacker may write wherever there is room for it.
const hostile = "x\x1b[2J\r\nPRIORITY=7\nverified: this machine is fine\u202e\x00\u200b\xff\\"

// reportOf is a report of n findings that r.Sort has put in order.
func reportOf(findings ...report.Finding) *report.Report {
	started := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	r := &report.Report{
		Started: started, Finished: started.Add(95500 * time.Millisecond), Against: "boot-v1", Configuration: "machine",
		Release:  &report.Release{Tag: "boot-v1"},
		Tiers:    []report.Tier{{Name: report.TierContents, Status: report.Done, Asked: true, Checked: 3}},
		Findings: findings, Coverage: report.Coverage{Bytes: 4096},
	}
	r.Sort()
	return r
}

var run = Run{ID: 7, Tool: "v1.2.3", Against: "boot-v1"}

// everything is an entry of each event, with all possible fields.
func everything(s string) []Entry {
	full := report.Finding{
		Tier: report.TierContents, Cause: closure.DiskAltered, Path: s, Field: s, Want: s, Got: s, Detail: s,
		Files: []closure.FileChange{{Path: excerpt.Raw(s), Kind: closure.FileContent}}, MoreFiles: 2,
	}
	pending := report.Finding{Tier: report.TierLive, Cause: report.PendingReboot, Path: "/run/booted-system", Detail: s}
	untrusted, unreadable := full, full
	untrusted.Cause, unreadable.Cause = report.ReleaseUntrusted, report.Unreadable
	entries := []Entry{
		Started(Run{ID: 7, Tool: s, Against: s}),
		Overdue{Tier: s, Items: 9, Overdue: 8, Never: 2, Every: time.Hour, Oldest: time.Unix(1, 0)}.Entry(run),
		Unmeasured(run, errors.New(s)),
		Failed(s, errors.New(s)),
	}
	for _, findings := range [][]report.Finding{{full, pending}, {untrusted}, {unreadable}, {}} {
		r := reportOf(findings...)
		r.Unsafe, r.StoreRoot, r.Configuration, r.Release.Tag = []string{s}, s, s, s
		entries = append(entries, Ended(run, r)...)
	}
	return entries
}

// TestHostileText: whatever an attacker wrote, entries are of printable text
// and of as many lines as ever; so they have the fields that they should have.
func TestHostileText(t *testing.T) {
	harmless, entries := everything("harmless"), everything(hostile)
	for i, e := range entries {
		if got, want := strings.Count(e.Message, "\n"), strings.Count(harmless[i].Message, "\n"); got != want {
			t.Errorf("%s has %d line ends, want %d: %q", e.Event, got, want, e.Message)
		}
		texts := maps.Clone(e.Fields)
		texts["MESSAGE"] = strings.ReplaceAll(e.Message, "\n", "")
		for name, s := range texts {
			if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }); i >= 0 {
				t.Errorf("%s of %s is not printable at %d: %q", name, e.Event, i, s)
			}
		}
		if got, want := slices.Sorted(maps.Keys(e.Fields)), slices.Sorted(maps.Keys(harmless[i].Fields)); !slices.Equal(got, want) {
			t.Errorf("%s has fields %s, want %s", e.Event, got, want)
		}
	}
}

func TestLongText(t *testing.T) {
	for _, e := range everything(strings.Repeat("\u202e\xffü", 3000)) {
		for name, s := range e.Fields {
			if len(s) > maxField {
				t.Errorf("%s of %s has %d bytes", name, e.Event, len(s))
			}
		}
		if len(e.Message) > 20_000 {
			t.Errorf("the message of %s has %d bytes", e.Event, len(e.Message))
		}
	}
}

// TestFieldNames: the library sends names that journald drops, or that end a
// field.
func TestFieldNames(t *testing.T) {
	valid := regexp.MustCompile(`^EC_VERIFY_[A-Z][A-Z_]{0,50}$`)
	for _, e := range everything("x") {
		for name := range e.Fields {
			if !valid.MatchString(string(name)) {
				t.Errorf("field %q", name)
			}
		}
	}
}

func TestEndedIsBounded(t *testing.T) {
	var findings []report.Finding
	for range 1000 {
		findings = append(findings, report.Finding{Tier: report.TierContents, Cause: report.Unreadable, Path: "/nix/store/rotten"})
	}
	for range 3 {
		findings = append(findings, report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: "/nix/store/altered"})
	}
	entries := Ended(run, reportOf(findings...))
	if len(entries) != MaxFindings+1 {
		t.Fatalf("%d entries, want %d", len(entries), MaxFindings+1)
	}
	last, drift := entries[len(entries)-1], entries[len(entries)-4:len(entries)-1]
	if last.Event != RunDrifted || last.Fields[FieldLeftOut] != "953" || !strings.Contains(last.Message, "50 of 1003 findings have entries of their own; left out: 953;") {
		t.Errorf("the verdict: %+v", last)
	}
	for _, e := range drift {
		if e.Fields[FieldCause] != string(closure.DiskAltered) || e.Priority != journal.PriErr {
			t.Errorf("before the verdict: %+v", e)
		}
	}
	if e := entries[0]; e.Fields[FieldCause] != string(report.Unreadable) || e.Priority != journal.PriWarning {
		t.Errorf("first: %+v", e)
	}
}

func TestVerdicts(t *testing.T) {
	finding := func(c report.Cause) report.Finding {
		return report.Finding{Tier: report.TierContents, Cause: c, Path: "/nix/store/x"}
	}
	for _, c := range []struct {
		name     string
		findings []report.Finding
		unsafe   []string
		event    Event
		priority journal.Priority
	}{
		{"verified", nil, nil, RunVerified, journal.PriNotice},
		{"verified, with a notice", []report.Finding{finding(report.DeriverDiffers)}, nil, RunVerified, journal.PriNotice},
		{"verified and weakened", nil, []string{"unsigned"}, RunVerified, journal.PriWarning},
		{"drifted", []report.Finding{finding(closure.Missing), finding(report.Unreadable)}, nil, RunDrifted, journal.PriErr},
		{"drifted and weakened", []report.Finding{finding(closure.Missing)}, []string{"unsigned"}, RunDrifted, journal.PriErr},
		{"inconclusive", []report.Finding{finding(report.Unreadable)}, nil, RunInconclusive, journal.PriWarning},
		{"untrusted", []report.Finding{finding(report.ReleaseUntrusted), finding(closure.Missing)}, nil, RunUntrusted, journal.PriCrit},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := reportOf(c.findings...)
			r.Unsafe = c.unsafe
			entries := Ended(run, r)
			e := entries[len(entries)-1]
			if e.Event != c.event || e.Priority != c.priority || e.Fields[FieldVerdict] != r.Verdict().String() || e.Fields[FieldRun] != "7" {
				t.Errorf("%+v", e)
			}
			if lines := strings.Split(e.Message, "\n"); lines[0] != r.Headline() {
				t.Errorf("it begins with %q", lines[0])
			}
			if len(r.Findings) == 0 || r.Verdict() == report.Verified {
				return
			}
			if before := entries[len(entries)-2]; !strings.HasSuffix(before.Message, "→ "+e.Fields[FieldAdvice]) {
				t.Errorf("the entry before does not say what to do: %+v", before)
			}
		})
	}
}

func TestFindingEntry(t *testing.T) {
	r := reportOf(report.Finding{
		Tier: report.TierContents, Cause: closure.DiskAltered, Path: "/nix/store/x-program", Want: "sha256-a", Got: "sha256-b", Release: "boot-v0",
		Files: []closure.FileChange{{Path: "bin/program", Kind: closure.FileContent}, {Path: "bin/other", Kind: closure.FileAdded}},
	}, report.Finding{Tier: report.TierContents, Cause: closure.Extra, Path: "/nix/store/y", ConsequenceOf: report.OtherSystem})
	entries := Ended(run, r)
	got := entries[1]
	want := map[Field]string{
		FieldRun: "7", FieldTool: "v1.2.3", FieldRelease: "boot-v1", FieldConfiguration: "machine", FieldVerdict: "drifted",
		FieldClass: "drift", FieldCause: "disk-altered", FieldTier: "contents", FieldPath: "/nix/store/x-program", FieldOfRelease: "boot-v0",
		FieldFile: "bin/program", FieldFiles: "2", FieldWant: "sha256-a", FieldGot: "sha256-b",
		FieldMeaning: report.Title(closure.DiskAltered), FieldAdvice: report.Next(closure.DiskAltered),
	}
	maps.DeleteFunc(got.Fields, func(_ Field, s string) bool { return s == "" })
	if !reflect.DeepEqual(got.Fields, want) {
		t.Errorf("fields:\n got  %v\n want %v", got.Fields, want)
	}
	if want := "drift: the files on disk differ from the release [contents, disk-altered]: /nix/store/x-program (release boot-v0) bin/program contents changed and 1 file more\n→ " + report.Next(closure.DiskAltered); got.Message != want {
		t.Errorf("message:\n got  %s\n want %s", got.Message, want)
	}
	if e := entries[0]; !strings.Contains(e.Message, "\nfollows from: "+report.Title(report.OtherSystem)) || strings.Contains(e.Fields[FieldAdvice], "evidence") {
		t.Errorf("a consequence: %+v", e)
	}
}

// TestLost: a journal that is not there, or that hangs, costs entries and a
// moment, and nothing else.
func TestLost(t *testing.T) {
	entries := make([]Entry, 5)
	refused := errors.New("refused")
	sent := 0
	j := &Journal{wait: time.Minute, send: func(Entry) error {
		sent++
		if sent == 2 {
			return refused
		}
		return nil
	}}
	j.Send(entries...)
	if n, err := j.Lost(); n != 1 || !errors.Is(err, refused) || sent != 5 {
		t.Errorf("one refused: %d lost of %d, %v", n, sent, err)
	}
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		calls := make(chan struct{}, 10)
		j := &Journal{wait: time.Minute, send: func(Entry) error {
			calls <- struct{}{}
			if len(calls) > 2 {
				<-release
			}
			return nil
		}}
		j.Send(entries...)
		if n, err := j.Lost(); n != 3 || !errors.Is(err, errJournalHangs) {
			t.Errorf("the third hangs: %d lost, %v", n, err)
		}
	})
}

// TestCatalog: every event is explained, nothing else is, and with fields that
// every such entry has.
func TestCatalog(t *testing.T) {
	data, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	explained := map[Event]string{}
	var event Event
	for line := range strings.Lines(string(data)) {
		if id, ok := strings.CutPrefix(line, "-- "); ok {
			event = Event(strings.TrimSpace(id))
		} else if event != "" {
			explained[event] += line
		}
	}
	if got, want := slices.Sorted(maps.Keys(explained)), slices.Sorted(slices.Values(Events())); !slices.Equal(got, want) {
		t.Fatalf("the catalog explains\n%q\nand there are\n%q", got, want)
	}
	sent := map[Event]bool{}
	for _, e := range append(everything("x"), leastOfAll()...) {
		sent[e.Event] = true
		for _, m := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(explained[e.Event], -1) {
			if e.Fields[Field(m[1])] == "" {
				t.Errorf("the catalog names %s, which this entry has not: %+v", m[1], e)
			}
		}
	}
	for _, e := range Events() {
		if !sent[e] {
			t.Errorf("no entry of event %s", e)
		}
	}
}

// leastOfAll is an entry of each event, with as little as it can have.
func leastOfAll() []Entry {
	entries := []Entry{
		Started(Run{Tool: "x"}), Overdue{Tier: "contents", Items: 1, Overdue: 1}.Entry(Run{Tool: "x"}), Failed("x", errors.New("x")),
		Unmeasured(Run{Tool: "x"}, errors.New("x")),
	}
	for _, c := range []report.Cause{closure.Missing, report.PendingReboot, report.Unreadable, report.ReleaseUntrusted} {
		r := reportOf(report.Finding{Tier: report.TierLive, Cause: c, Path: "/nix/store/x"})
		r.Release = nil
		entries = append(entries, Ended(Run{Tool: "x"}, r)...)
	}
	return entries
}

// TestCatalogCompiles: by the program that will read it.
func TestCatalogCompiles(t *testing.T) {
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip("catalog: no journalctl")
	}
	compile := func(t *testing.T, data []byte) (listed, message string, err error) {
		root := t.TempDir()
		dir := filepath.Join(root, "usr/lib/systemd/catalog")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "ec-verify.catalog"), data, 0o644)); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--update-catalog").CombinedOutput()
		if err != nil || len(out) > 0 {
			return "", string(out), err
		}
		all, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--list-catalog").CombinedOutput()
		return string(all), "", err
	}
	data, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	listed, message, err := compile(t, data)
	if err != nil || message != "" {
		t.Fatalf("it does not compile: %v: %s", err, message)
	}
	for _, e := range Events() {
		if !strings.Contains(listed, string(e)+" ec-verify: ") {
			t.Errorf("%s is not in the compiled catalog:\n%s", e, listed)
		}
	}
	if _, message, err := compile(t, append([]byte("no id before this\n"), data...)); err == nil && message == "" {
		t.Error("a broken catalog compiles without a word")
	}
}

// TestFlush asks something that answers as journald does, or otherwise.
func TestFlush(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		ok           bool
	}{
		{"it has read all", "{}\x00", true},
		{"with parameters", "{\"parameters\":{}}\x00", true},
		{"it refuses", "{\"error\":\"org.varlink.service.PermissionDenied\"}\x00", false},
		{"it says nothing", "", false},
		{"half an answer", "{", false},
		{"no JSON", "yes\x00", false},
		{"without an end", strings.Repeat("x", 2*maxReply), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "control")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := make(chan string, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				request, _ := bufio.NewReader(conn).ReadString(0)
				asked <- request
				io.WriteString(conn, c.answer)
			}()
			err = synchronize(socket, time.Minute)
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
			if got := <-asked; got != "{\"method\":\"io.systemd.Journal.Synchronize\"}\x00" {
				t.Errorf("asked %q", got)
			}
		})
	}
	t.Run("it hangs", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "control")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := synchronize(socket, 10*time.Millisecond); err == nil {
			t.Error("no error")
		}
	})
	if err := synchronize(filepath.Join(t.TempDir(), "none"), time.Minute); err == nil {
		t.Error("nobody is there, and no error")
	}
}

// TestOverdue: of what was never checked there is no oldest check.
func TestOverdue(t *testing.T) {
	for _, c := range []struct {
		o                    Overdue
		message, never, date string
	}{
		{
			Overdue{Tier: "rebuild", Items: 30, Overdue: 27, Never: 27, Every: time.Hour, Oldest: time.Unix(60, 0)},
			"coverage overdue: not checked within 1h0m0s are 27 of the 30 items of the rebuild tier, as none of these ever was\n", "27", "",
		},
		{
			Overdue{Tier: "rebuild", Items: 30, Overdue: 27, Never: 1, Every: time.Hour, Oldest: time.Unix(60, 0)},
			"coverage overdue: not checked within 1h0m0s are 27 of the 30 items of the rebuild tier, and never were 1; the oldest check is of 1970-01-01T00:01:00Z\n", "1", "1970-01-01T00:01:00Z",
		},
		{
			Overdue{Tier: "contents", Items: 30, Overdue: 1, Every: time.Hour, Oldest: time.Unix(60, 0)},
			"coverage overdue: not checked within 1h0m0s are 1 of the 30 items of the contents tier; the oldest check is of 1970-01-01T00:01:00Z\n", "", "1970-01-01T00:01:00Z",
		},
	} {
		e := c.o.Entry(run)
		if !strings.HasPrefix(e.Message, c.message) || e.Fields[FieldNever] != c.never || e.Fields[FieldOldest] != c.date {
			t.Errorf("%+v:\n%s%v", c.o, e.Message, e.Fields)
		}
	}
}
