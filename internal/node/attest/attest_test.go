package attest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

var (
	run     = strings.Repeat("ab", 16)
	machine = strings.Repeat("cd", 16)
	hash    = strings.Repeat("ef", 32)
)

// runOf returns a report that ends with the verdict that its findings give.
func runOf(findings ...report.Finding) *report.Report {
	at := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	tier := func(name report.TierName) report.Tier {
		return report.Tier{Name: name, Status: report.Done, Asked: true, Checked: 3}
	}
	return &report.Report{
		Started: at, Finished: at.Add(time.Minute), Host: "runner-1", Tool: "v1", Against: "boot-v1", Configuration: "machine",
		Release: &report.Release{
			Tag: "boot-v1", Signer: "key", Sums: hash, Manifest: strings.Repeat("12", 32),
			DrvPath: closure.StorePath("/nix/store/" + strings.Repeat("d", 32) + "-s.drv"), OutPath: closure.StorePath("/nix/store/" + strings.Repeat("a", 32) + "-s"),
		},
		Tiers: []report.Tier{tier(report.TierRelease), tier(report.TierContents)}, Findings: findings,
		Unsafe: []string{"unsigned"},
	}
}

func drift(path string) report.Finding {
	return report.Finding{Tier: report.TierContents, Cause: closure.DiskAltered, Path: path, Detail: "\x1b[31m\xff"}
}

func encode(t testing.TB, p Place, r *report.Report) []byte {
	t.Helper()
	data, err := Encode(p, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func place(sequence int64, previous string) Place {
	return Place{Machine: machine, Run: run, Sequence: sequence, Previous: previous}
}

// What is written is read back, whatever the verdict.
func TestRoundTrip(t *testing.T) {
	unopened := runOf(report.Finding{Tier: report.TierRelease, Cause: report.ReleaseUntrusted})
	unopened.Release = nil
	for want, r := range map[report.Verdict]*report.Report{
		report.Verified: runOf(), report.Drifted: runOf(drift("/nix/store/x")), report.Refused: unopened,
		report.Unsettled: runOf(report.Finding{Tier: report.TierContents, Cause: report.Unreadable}),
	} {
		p := place(7, hash)
		p.Nonce = "ünïque"
		data := encode(t, p, r)
		s, err := Decode(data)
		if err != nil {
			t.Errorf("%s: %v\n%s", want, err, data)
			continue
		}
		if s.Place != p || s.Summary.Verdict != want || s.Summary.Host != "runner-1" || s.Digest != sum(data) {
			t.Errorf("%s: read back as %+v, %+v", want, s.Place, s.Summary)
		}
		if again := encode(t, p, r); !bytes.Equal(again, data) {
			t.Errorf("%s: encoded differently the second time", want)
		}
	}
}

// Of a report that is too large the gravest findings stay, and the counts.
func TestLargeReport(t *testing.T) {
	findings := []report.Finding{drift("/nix/store/first")}
	for i := range 40_000 {
		findings = append(findings, report.Finding{Tier: report.TierContents, Cause: report.DeriverDiffers, Path: fmt.Sprint(i), Detail: strings.Repeat("x", 100)})
	}
	data := encode(t, place(1, ""), runOf(findings...))
	if len(data) > MaxReport+10_000 {
		t.Errorf("the statement has %d bytes", len(data))
	}
	s, err := Decode(data)
	if err != nil || s.Summary.Verdict != report.Drifted || s.Summary.Counts[report.Notice] != 40_000 {
		t.Fatalf("read back: %+v, %v", s, err)
	}
	if !bytes.Contains(data, []byte("/nix/store/first")) || !bytes.Contains(data, []byte(`"moreFindings":`)) {
		t.Error("the gravest finding, or how many more there are, is missing")
	}
}

// Each part that is tampered with is noticed, also by who could sign it.
func TestDecodeRefuses(t *testing.T) {
	good := string(encode(t, place(2, hash), runOf(drift("/nix/store/x"), report.Finding{Tier: report.TierContents, Cause: report.DeriverDiffers})))
	if _, err := Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	// Where the report itself is changed, its digest follows: that is caught by
	// the next test. Here the subject is made to match.
	for _, tc := range []struct{ old, new, want string }{
		{StatementType, "https://in-toto.io/Statement/v0.1", "the statement is of type"},
		{PredicateType, PredicateType + "x", "its predicateType is"},
		{`"machine":"cd`, `"machine":"CD`, "machine "},
		{`"run":"ab`, `"run":"`, "run "},
		{`"sequence":2`, `"sequence":0`, "sequence 0: want at least 1"},
		{`"sequence":2`, `"sequence":1`, "the first report names a previous one"},
		{`"sequence":2`, `"sequence":1e30`, "it is not a statement"},
		{`"previous":"ef`, `"previous":"e`, "previous "},
		{`"nonce":""`, `"nonce":"\n"`, "want printable text"},
		{`"nonce":""`, `"nonce":"` + strings.Repeat("n", MaxNonce+1) + `"`, "at most 128 bytes"},
		{`"verdict":"drifted"`, `"verdict":"verified"`, "it says verified, but its contents make drifted"},
		{`"verdict":"drifted"`, `"verdict":"fine"`, `"fine" is no verdict`},
		{`"class":"drift"`, `"class":"notice"`, "a finding with the cause disk-altered is of the class drift, not notice"},
		{`"class":"drift"`, `"class":"mild"`, `a finding is of the class "mild"`},
		{`"drift":1`, `"drift":0`, "it counts 0 findings of class drift and lists 1"},
		{`"drift":1`, `"drift":2`, "it counts 1 findings more than it lists, not 0"},
		{`"notice":1,`, ``, "it counts 3 classes"},
		{`"kind":"ec-verify-report"`, `"kind":"x"`, `it is of kind "x"`},
		{`"schemaVersion":1`, `"schemaVersion":2`, "its schemaVersion is 2"},
		{`"started":"2026-03-01T04:05:06Z"`, `"started":"0001-01-01T00:00:00Z"`, "it does not say when"},
		{`"host":`, `"host":"x","host":`, "duplicate"},
	} {
		if !strings.Contains(good, tc.old) {
			t.Errorf("%q is not in the statement", tc.old)
			continue
		}
		bad := resubject(strings.Replace(good, tc.old, tc.new, 1))
		if s, err := Decode([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want the error %q", tc.new, s, err, tc.want)
		}
	}
	for _, tc := range []struct{ old, new, want string }{
		{`"host":"runner-1"`, `"host":"runner-2"`, "subject 1 is"},
		{`"sha256":"` + hash, `"sha256":"` + strings.Repeat("0", 64), "subject 2 is"},
		{`"name":"closure-machine.json"`, `"name":"closure-other.json"`, "subject 3 is"},
		{`{"name":"SHA256SUMS.txt"`, `{"name":"x","digest":{"sha256":""}},{"name":"SHA256SUMS.txt"`, "about 4 subjects"},
	} {
		if s, err := Decode([]byte(strings.Replace(good, tc.old, tc.new, 1))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want the error %q", tc.new, s, err, tc.want)
		}
	}
	for _, bad := range []string{"", "[]", "{}", good[:len(good)-1], good + "x", strings.Repeat(" ", maxStatement+1)} {
		if s, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%d bytes are read as %+v", len(bad), s)
		}
	}
}

// resubject makes the digest of the report's subject match.
func resubject(s string) string {
	_, after, found := strings.Cut(s, `"report":`)
	if !found {
		return s
	}
	text := strings.TrimSuffix(after, "}}")
	before, rest, _ := strings.Cut(s, `"sha256":"`)
	return before + `"sha256":"` + sum([]byte(text)) + rest[64:]
}

// A cause of a later version is accepted, and its class counts.
func TestUnknownCause(t *testing.T) {
	good := string(encode(t, place(1, ""), runOf(drift("/x"))))
	s, err := Decode([]byte(resubject(strings.Replace(good, `"cause":"disk-altered"`, `"cause":"flooded","new":{"member":1}`, 1))))
	if err != nil || s.Summary.Verdict != report.Drifted {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, p := range []Place{{}, {Machine: "x", Run: run, Sequence: 1}, {Run: run, Sequence: 1, Nonce: "a\x00"}} {
		if data, err := Encode(p, runOf()); err == nil {
			t.Errorf("%+v gives %s", p, data)
		}
	}
}

func TestNewRun(t *testing.T) {
	t.Setenv("INVOCATION_ID", run)
	if NewRun() != run {
		t.Error("the invocation of the unit is not the run")
	}
	t.Setenv("INVOCATION_ID", "../x")
	if a, b := NewRun(), NewRun(); a == b || !hex32().MatchString(a) {
		t.Errorf("runs %s, %s", a, b)
	}
}

func TestMachine(t *testing.T) {
	id := "30d1b2b3b6d1446ea0f6d4d5b4a3f2c1"
	got, err := Machine(id + "\n")
	if err != nil || !hex32().MatchString(got) || got == id {
		t.Fatalf("Machine = %s, %v", got, err)
	}
	for _, bad := range []string{"", "uninitialized", id[:30], id + "00", strings.Repeat("x", 1000)} {
		if got, err := Machine(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("%q is machine %s, %v", clip(bad), got, err)
		}
	}
	// As systemd-id128 machine-id --app-specific= says on a machine of that name.
	if got, err := Machine("93be1d73df7044d8b79ce15dfe435dec"); err != nil || got != "0790527542034c6a88a209130df75b64" {
		t.Errorf("Machine = %s, %v", got, err)
	}
}

// bundle is a bundle as far as the directory looks at it.
func bundle(statement []byte) []byte {
	return fmt.Appendf(nil, `{"dsseEnvelope":{"payload":%q}}`, base64.StdEncoding.EncodeToString(statement))
}

// signed is a bundle of this machine's key, as far as the tests' signature goes.
func signed(statement []byte) []byte { return append(bundle(statement), "\n"...) }

func mine(bundle []byte) bool { return bytes.HasSuffix(bundle, []byte("\n")) }

// next is Next for a directory in which nothing is foreign.
func next(t *testing.T, d Dir) (sequence int64, previous string) {
	t.Helper()
	end, err := d.Next(machine, mine)
	if err != nil || len(end.Foreign) > 0 {
		t.Fatalf("Next = %+v, %v", end, err)
	}
	return end.Sequence, end.Previous
}

// grow adds reports to d, each at the end, and returns the digest of the last.
func grow(t *testing.T, d Dir, n int, sign func([]byte) []byte) (previous string) {
	t.Helper()
	for range n {
		sequence, before := next(t, d)
		statement := encode(t, place(sequence, before), runOf())
		name, err := d.Add(sequence, sign(statement))
		if err != nil || filepath.Base(name) != fmt.Sprintf("report-%010d.sigstore.json", sequence) {
			t.Fatalf("Add = %s, %v", name, err)
		}
		previous = sum(statement)
	}
	return previous
}

func put(t *testing.T, d Dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.Path, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDir(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "a", "reports"), Keep: 3}
	if !d.Empty() {
		t.Error("a directory that is not there is not empty")
	}
	previous := grow(t, d, 5, signed)
	if sequence, before := next(t, d); sequence != 6 || before != previous {
		t.Fatalf("Next = %d, %q; want 6, %q", sequence, before, previous)
	}
	if got, err := d.list(); err != nil || !slices.Equal(got, []int64{3, 4, 5}) || d.Empty() {
		t.Errorf("kept: %v, %v", got, err)
	}
	// None is written over, and nothing is left of the try.
	if name, err := d.Add(5, []byte("other")); err == nil {
		t.Errorf("report 5 was written over: %s", name)
	}
	if all, _ := os.ReadDir(d.Path); len(all) != 3 {
		t.Errorf("left over: %v", all)
	}
	// Names of others do not count.
	for _, name := range []string{"report-99.sigstore.json", "report-0000000009.sigstore.json.bak", "report-00000000009.sigstore.json", "x"} {
		put(t, d, name, nil)
	}
	if sequence, before := next(t, d); sequence != 6 || before != previous {
		t.Errorf("Next = %d, %q", sequence, before)
	}
}

// What is damaged, or was planted, is set aside; the chain goes on, and has a gap
// where it cannot be told whether a number was given already.
func TestDirForeign(t *testing.T) {
	const far = 999_999_999_999_999_999 // the greatest number of a name
	forged := func(n int64) []byte { return bundle(encode(t, place(n, hash), runOf())) }
	for name, tc := range map[string]struct {
		n        int64 // where it lies
		data     []byte
		sequence int64
		gap      bool
	}{
		"the newest is empty":              {3, nil, 4, true},
		"the newest is cut off":            {3, []byte("{"), 4, true},
		"the newest has no payload":        {3, []byte(`{"dsseEnvelope":{"payload":"?"}}`), 4, true},
		"far beyond":                       {far, nil, 4, false},
		"far beyond, and well-formed":      {far, forged(far), 4, false},
		"far beyond, a copy of the newest": {far, forged(3), 4, false},
		"the next one":                     {4, []byte("x"), 5, true},
		"the next one, well-formed":        {4, forged(4), 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := Dir{Path: t.TempDir(), Keep: 10}
			previous := grow(t, d, 3, signed)
			put(t, d, nameOf(tc.n), tc.data)
			end, err := d.Next(machine, mine)
			if err != nil || end.Sequence != tc.sequence || (end.Previous == "") != tc.gap || !tc.gap && end.Previous != previous {
				t.Errorf("Next = %+v, %v", end, err)
			}
			if want := []string{nameOf(tc.n) + ".foreign"}; !slices.Equal(end.Foreign, want) {
				t.Errorf("set aside: %q, want %q", end.Foreign, want)
			}
			if data, err := os.ReadFile(filepath.Join(d.Path, nameOf(tc.n)+".foreign")); err != nil || !bytes.Equal(data, tc.data) {
				t.Errorf("what was found is not kept: %v", err)
			}
			if _, err := d.Add(end.Sequence, signed(encode(t, place(end.Sequence, end.Previous), runOf()))); err != nil {
				t.Error(err)
			}
			// From then on all is as ever, and the same again is set aside again.
			previous = grow(t, d, 2, signed)
			put(t, d, nameOf(far), tc.data)
			if end, err := d.Next(machine, mine); err != nil || end.Sequence != tc.sequence+3 || end.Previous != previous || len(end.Foreign) != 1 {
				t.Errorf("Next = %+v, %v", end, err)
			}
		})
	}
	t.Run("before the first", func(t *testing.T) {
		d := Dir{Path: t.TempDir(), Keep: 10}
		put(t, d, nameOf(far), []byte("{}"))
		if !d.Empty() {
			t.Error("what is no report passes for one")
		}
		if end, err := d.Next(machine, mine); err != nil || end.Sequence != 1 || end.Previous != "" || len(end.Foreign) != 1 {
			t.Errorf("Next = %+v, %v", end, err)
		}
	})
	t.Run("many", func(t *testing.T) {
		d := Dir{Path: t.TempDir(), Keep: 10}
		previous := grow(t, d, 3, signed)
		for n := range int64(2 * maxLook) {
			put(t, d, nameOf(1000+n), []byte("x"))
		}
		if end, err := d.Next(machine, mine); err != nil || end.Sequence != 4 || end.Previous != previous || len(end.Foreign) != 2*maxLook {
			t.Errorf("Next = %+v, %v", end, err)
		}
	})
}

// The chain goes on with another key of the machine, and back.
func TestDirKeys(t *testing.T) {
	d := Dir{Path: t.TempDir(), Keep: 10}
	grow(t, d, 3, bundle)
	previous := grow(t, d, 1, signed)
	if sequence, before := next(t, d); sequence != 5 || before != previous {
		t.Errorf("a new key: %d, %q", sequence, before)
	}
	previous = grow(t, d, 3, bundle)
	if sequence, before := next(t, d); sequence != 8 || before != previous {
		t.Errorf("back to the old one: %d, %q", sequence, before)
	}
	// None of the key, and one planted that follows nothing.
	d = Dir{Path: t.TempDir(), Keep: 10}
	previous = grow(t, d, 3, bundle)
	put(t, d, nameOf(50), bundle(encode(t, place(50, hash), runOf())))
	if end, err := d.Next(machine, mine); err != nil || end.Sequence != 4 || end.Previous != previous || len(end.Foreign) != 1 {
		t.Errorf("none of the key: %+v, %v", end, err)
	}
	// Of another machine, as on a disk that was copied: not this one's chain.
	if end, err := d.Next(strings.Repeat("00", 16), mine); err != nil || len(end.Foreign) != 3 {
		t.Errorf("of another machine: %+v, %v", end, err)
	}
}

// What others put among the reports holds up nobody, and is no reason to say that
// a report was not written which is there.
func TestDirHostile(t *testing.T) {
	d := Dir{Path: t.TempDir(), Keep: 1}
	// A directory that can't be removed in place of one that is to go.
	if err := os.MkdirAll(filepath.Join(d.Path, nameOf(1), "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	end, err := d.Next(machine, mine)
	if err != nil || end.Sequence != 2 || len(end.Foreign) != 1 {
		t.Fatalf("Next = %+v, %v", end, err)
	}
	if _, err := d.Add(2, signed(encode(t, place(2, ""), runOf()))); err != nil {
		t.Fatal(err)
	}
	// A named pipe that somebody keeps open in place of the newest one.
	pipe := filepath.Join(d.Path, nameOf(3))
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if end, err := d.Next(machine, mine); end.Sequence != 4 || end.Previous != "" || len(end.Foreign) != 1 || err != nil {
			t.Errorf("Next = %+v, %v", end, err)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("a named pipe is waited for")
	}
	held.Close()
	<-done
	// What a killed run left goes with the next report.
	f, err := renameio.TempFile(d.Path, filepath.Join(d.Path, tempPrefix))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	grow(t, d, 1, signed)
	if _, err := os.Stat(f.Name()); err == nil {
		t.Errorf("%s stays", f.Name())
	}
}

func TestDirNotWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := Dir{Path: file, Keep: 1}
	if _, err := d.Next(machine, mine); err == nil {
		t.Error("a file is a directory of reports")
	}
	if _, err := d.Add(1, nil); err == nil {
		t.Error("something is written below a file")
	}
}

func TestBreaks(t *testing.T) {
	var row []*Statement
	previous := ""
	for i := range int64(5) {
		s, err := Decode(encode(t, place(i+1, previous), runOf()))
		if err != nil {
			t.Fatal(err)
		}
		row, previous = append(row, s), s.Digest
	}
	with := func(change func(s *Statement)) *Statement {
		s := *row[3]
		change(&s)
		return &s
	}
	other := &Statement{Place: Place{Machine: strings.Repeat("00", 16), Sequence: 9, Previous: hash}, Digest: "x"}
	for name, tc := range map[string]struct {
		all  []*Statement
		want string
	}{
		"none":                {},
		"one":                 {all: row[2:3]},
		"all":                 {all: row},
		"in another order":    {all: []*Statement{row[4], row[0], row[2], row[1], row[3]}},
		"one twice":           {all: append(slices.Clone(row), row[1])},
		"of several machines": {all: append(slices.Clone(row), other)},
		"one missing":         {[]*Statement{row[0], row[2]}, "report 2 is missing"},
		"several missing":     {[]*Statement{row[0], row[4]}, "reports 2 to 4 are missing"},
		"two with one number": {append(slices.Clone(row[:4]), with(func(s *Statement) { s.Digest = "x" })), "two reports with one number"},
		"another predecessor": {[]*Statement{row[2], with(func(s *Statement) { s.Previous = hash })}, "names another one before it"},
		"no predecessor":      {[]*Statement{row[2], with(func(s *Statement) { s.Previous = "" })}, "names none before it"},
	} {
		var got []string
		for _, b := range Breaks(slices.Clone(tc.all)) {
			got = append(got, b.String())
		}
		if all := strings.Join(got, "\n"); (tc.want == "") != (all == "") || !strings.Contains(all, tc.want) {
			t.Errorf("%s: breaks %q, want %q", name, got, tc.want)
		}
	}
}

func TestShared(t *testing.T) {
	of := func(machine, key string, sequence int64) *Statement {
		return &Statement{Place: Place{Machine: machine, Sequence: sequence}, Key: key}
	}
	for name, tc := range map[string]struct {
		all  []*Statement
		want int
	}{
		"a key each":        {[]*Statement{of("a", "k1", 1), of("b", "k2", 1), of("a", "k1", 2)}, 0},
		"a new key":         {[]*Statement{of("a", "k1", 1), of("a", "k2", 2)}, 0},
		"not looked at":     {[]*Statement{of("a", "", 1), of("b", "", 1)}, 0},
		"another's machine": {[]*Statement{of("a", "k1", 1), of("b", "k2", 1), of("b", "k1", 2)}, 1},
		"without a name":    {[]*Statement{of("a", "k1", 1), of("", "k1", 1)}, 1},
	} {
		if got := Shared(tc.all); len(got) != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, place(1, ""), runOf()))
	f.Add(encode(f, place(2, hash), runOf(drift("/x"))))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			return
		}
		// Whatever is believed is the verdict of its own findings.
		if again, err := report.Decode(s.Report); err != nil || again.Verdict != s.Summary.Verdict || s.Sequence < 1 {
			t.Errorf("%+v: %v", s, err)
		}
	})
}
