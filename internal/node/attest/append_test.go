package attest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// signer signs as far as the tests' signature goes, unless it has an error.
type signer struct{ err error }

func (s signer) Sign(_ context.Context, statement []byte) ([]byte, error) {
	return signed(statement), s.err
}

func (signer) Signed(bundle []byte) bool { return mine(bundle) }

// written reads the statement in a file that Append wrote.
func written(t *testing.T, file string) *Statement {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	payload, ok := Unverified(data)
	if !ok {
		t.Fatalf("%s has no statement", file)
	}
	s, err := Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppend(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "reports"), Keep: 10}
	previous := ""
	for i := range int64(3) {
		nonce := fmt.Sprintf("nonce-%d", i)
		file, err := d.Append(t.Context(), runOf(drift("/nix/store/a")), nonce, signer{})
		if err != nil {
			t.Fatal(err)
		}
		s := written(t, file)
		if s.Sequence != i+1 || s.Previous != previous || s.Nonce != nonce || len(s.Run) != 32 {
			t.Errorf("report %d is %+v, after %q", i+1, s.Place, previous)
		}
		if !strings.Contains(string(s.Report), string(closure.DiskAltered)) {
			t.Errorf("report %d lacks its finding: %s", i+1, s.Report)
		}
		previous = s.Digest
	}
}

// TestAppendForeign: a file of somebody else is set aside, and the report that is signed
// says so.
func TestAppendForeign(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "reports"), Keep: 10}
	if _, err := d.Append(t.Context(), runOf(), "", signer{}); err != nil {
		t.Fatal(err)
	}
	put(t, d, nameOf(7), bundle(encode(t, place(7, hash), runOf())))
	r := runOf(drift("/nix/store/a"))
	file, err := d.Append(t.Context(), r, "", signer{})
	if err != nil {
		t.Fatal(err)
	}
	s := written(t, file)
	if s.Sequence != 2 || len(r.Findings) != 2 {
		t.Errorf("report %d has the findings %v", s.Sequence, r.Findings)
	}
	for _, want := range []string{string(report.ForeignReport), nameOf(7) + ".foreign", string(closure.DiskAltered)} {
		if !strings.Contains(string(s.Report), want) {
			t.Errorf("what was signed lacks %s: %s", want, s.Report)
		}
	}
	if _, err := os.Stat(filepath.Join(d.Path, nameOf(7)+".foreign")); err != nil {
		t.Error(err)
	}
}

func TestAppendUnsigned(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "reports"), Keep: 10}
	failed := errors.New("no key")
	if file, err := d.Append(t.Context(), runOf(), "", signer{failed}); !errors.Is(err, failed) || file != "" {
		t.Errorf("Append = %q, %v", file, err)
	}
	if !d.Empty() {
		t.Error("a report that nobody signed was written")
	}
	if sequence, _ := next(t, d); sequence != 1 {
		t.Errorf("its number %d was used", sequence-1)
	}
}

// TestCheck: a report is refused for what it is, and only accepted ones count together.
func TestCheck(t *testing.T) {
	other := Place{Machine: hash[:32], Run: run, Sequence: 1, Nonce: "n"}
	answer := place(3, hash)
	answer.Nonce = "n"
	unsafe := runOf()
	whole := runOf()
	whole.Unsafe = nil
	for name, tc := range map[string]struct {
		check    Check
		bundle   []byte
		err      string
		verified bool
	}{
		"accepted":             {Check{}, signed(encode(t, place(3, hash), whole)), "", true},
		"with an option":       {Check{}, signed(encode(t, place(3, hash), unsafe)), "", false},
		"that drifted":         {Check{}, signed(encode(t, place(3, hash), runOf(drift("/nix/store/a")))), "", false},
		"of the machine":       {Check{Machine: machine, Nonce: "n"}, signed(encode(t, answer, whole)), "", true},
		"of another key":       {Check{}, bundle(encode(t, place(3, hash), whole)), "not signed", false},
		"malformed":            {Check{}, signed([]byte("{}")), "signed, but malformed", false},
		"of another machine":   {Check{Machine: machine}, signed(encode(t, other, whole)), "of machine " + hash[:32], false},
		"to another nonce":     {Check{Nonce: "m"}, signed(encode(t, answer, whole)), "does not answer", false},
		"to no nonce":          {Check{Nonce: "n"}, signed(encode(t, place(3, hash), whole)), "does not answer", false},
		"of a disk":            {Check{}, signed(encode(t, place(3, hash), func() *report.Report { r := *whole; r.StoreRoot = "/mnt"; return &r }())), "", false},
		"no bundle whatsoever": {Check{}, nil, "not signed", false},
	} {
		tc.check.Open = openMine
		got := tc.check.Add("file", tc.bundle)
		if got.File != "file" || (tc.err == "") != (got.Error == "") || !strings.Contains(got.Error, tc.err) || got.Verified() != tc.verified {
			t.Errorf("%s: %+v, verified %v; want the error %q, verified %v", name, got, got.Verified(), tc.err, tc.verified)
		}
		if tc.err == "" && (got.Key != "key" || got.Sequence != 3 || len(got.Digest) != 64) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCheckBreaks(t *testing.T) {
	check := Check{Open: openMine, Machine: machine}
	for _, p := range []Place{place(1, ""), place(4, hash), {Machine: hash[:32], Run: run, Sequence: 9}} {
		check.Add("file", signed(encode(t, p, runOf())))
	}
	if got := check.Breaks(); len(got) != 1 || got[0].After != 1 || got[0].Before != 4 {
		t.Errorf("breaks: %v; the report of another machine was refused", got)
	}
	check = Check{Open: openMine}
	for _, p := range []Place{place(1, ""), {Machine: hash[:32], Run: run, Sequence: 9}} {
		check.Add("file", signed(encode(t, p, runOf())))
	}
	if got := check.Breaks(); len(got) != 1 || got[0].Before != 9 {
		t.Errorf("a key of two machines: %v", got)
	}
}

// openMine is an [Opener] of this machine's key.
func openMine(data []byte) (statement []byte, key string, err error) {
	payload, ok := Unverified(data)
	if !ok && mine(data) {
		return nil, "key", nil
	}
	if !ok || !mine(data) {
		return nil, "", errors.New("not signed by a key given")
	}
	return payload, "key", nil
}
