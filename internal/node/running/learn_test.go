package running

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
)

// A list that was learned allows what was there, once it was reviewed, and no more.
func TestLearn(t *testing.T) {
	h := newHost(t)
	h.write("/etc/ld.so.preload", "", 0o644)
	h.write("/etc/w*ld [1]", "", 0o644)
	h.write("/etc/extra/a", "", 0o644)
	h.write("/etc/extra2/a", "one", 0o644)
	h.write("/etc/grouped", "", 0o2755)
	h.write("/etc/capable", "", 0o755)
	h.link("/etc/linked", "/var/linked")
	h.write("/var/linked", "one", 0o644)
	h.write("/etc/\xff", "", 0o644)
	h.write("/etc/a\nb", "", 0o644)
	h.write("/etc/group", "root:x:0:\nwheel0:x:0:\n", 0o644)
	found, err := h.m.Check(t.Context(), []string{"etc"})
	h.must(err)
	allow, left := h.m.Learn(found.Findings)
	var matches []string
	for i := range allow {
		e := &allow[i]
		matches = append(matches, e.Match)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), "reason") {
			t.Errorf("%+v is taken without a review: %v", e, err)
		}
		e.Reason = "reviewed"
		if err := e.Check(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
	want := []string{"/etc/capable", "/etc/extra", "/etc/extra2", "/etc/group:wheel0", "/etc/grouped", "/etc/ld.so.preload", "/etc/linked", `/etc/w\*ld \[1]`}
	if slices.Sort(matches); !slices.Equal(matches, want) || len(left) != 2 {
		t.Errorf("learned %q, and left %+v", matches, left)
	}
	h.m.Allow = allow
	h.must(os.Remove(path.Join(h.root, "/etc/\xff")))
	h.must(os.Remove(path.Join(h.root, "/etc/a\nb")))
	h.expect("etc")
	// What was learned of a file in a directory for another reason does not take it apart.
	h.m.Allow = append(allow, Exception{Match: "/etc/extra/a", Cause: report.CodeUnknown, Reason: "r"})
	h.expect("etc")
	h.write("/etc/wild 1", "", 0o644)
	h.expect("etc", "file-unknown /etc/wild 1")
	h.must(os.Remove(path.Join(h.root, "/etc/wild 1")))

	// The list changes the directory that it is put into.
	h.write("/etc/ec-verify/config.json", "{}", 0o644)
	found, err = h.m.Check(t.Context(), []string{"etc"})
	h.must(err)
	own, left := h.m.Learn(found.Findings, "/etc/ec-verify", "/etc/ec-verify/config.d")
	if len(own) != 1 || len(left) != 0 || own[0].Match != "/etc/ec-verify/" || own[0].Value != "" || !strings.HasSuffix(own[0].Reason, "everything in it: this list will be there") {
		t.Errorf("learned %+v, and left %+v", own, left)
	}
	own[0].Reason = "reviewed"
	h.m.Allow = append(h.m.Allow, own...)
	h.write("/etc/ec-verify/config.d/allow.json", "{}", 0o644)
	h.expect("etc")

	// What comes in the place of what was learned is no part of it.
	for name, do := range map[string]func(){
		"file-unknown /etc/ld.so.preload":     func() { h.write("/etc/ld.so.preload", "/evil", 0o644) },
		"file-unknown /etc/w*ld [1]":          func() { h.must(os.Chmod(path.Join(h.root, "/etc/w*ld [1]"), 0o4755)) },
		"account-altered /etc/group:wheel0":   func() { h.write("/etc/group", "root:x:0:\nwheel0:x:0:guest\n", 0o644) },
		"file-unknown /etc/extra":             func() { h.write("/etc/extra/b", "", 0o644) },
		"file-unknown /etc/extra2":            func() { h.write("/etc/extra2/a", "two", 0o644) },
		"file-unknown /etc/grouped":           func() { h.must(os.Chown(path.Join(h.root, "/etc/grouped"), 0, 42)) },
		"file-unknown /etc/capable":           func() { h.capable("/etc/capable") },
		"file-unknown /etc/linked":            func() { h.write("/var/linked", "two", 0o644) },
		"account-altered /etc/passwd:visitor": func() { h.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nvisitor:x:1001:100::/:/bin/sh\n", 0o644) },
	} {
		do()
		if got := h.found("etc"); !slices.Contains(got, name) {
			t.Errorf("%s: it finds %q", name, got)
		}
	}
}

// capable gives a file the capability to take any user's number.
func (h *host) capable(name string) {
	h.t.Helper()
	value := []byte{1, 0, 0, 2, 1 << unix.CAP_SETUID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	h.must(unix.Setxattr(path.Join(h.root, name), "security.capability", value, 0))
}

func TestLearnUnseen(t *testing.T) {
	allow, left := new(Machine).Learn([]report.Finding{{Cause: report.MachineUnseen, Path: "part code"}, {Cause: report.ExceptionUsed, Path: "/x"}})
	if len(allow) != 0 || len(left) != 1 {
		t.Errorf("learned %+v, and left %+v", allow, left)
	}
}

// Which exceptions are of no use is known only where all was looked at.
func TestUnusedAfterFullPass(t *testing.T) {
	h := newHost(t)
	h.m.Now = time.Now()
	h.m.Allow = []Exception{{Match: "/nothing", Reason: "r"}}
	h.link(string(top)+"/etc", "/elsewhere")
	got, err := h.m.Check(t.Context(), []string{"etc"})
	h.must(err)
	if !slices.ContainsFunc(got.Findings, func(f report.Finding) bool { return f.Cause == report.MachineUnseen }) ||
		slices.ContainsFunc(got.Findings, func(f report.Finding) bool { return f.Cause == report.ExceptionUnused }) {
		t.Errorf("found %+v", got.Findings)
	}
}
