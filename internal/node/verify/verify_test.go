package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

func TestVerified(t *testing.T) {
	m := newMachine(t)
	progress := new(Progress)
	r := m.verifier().Verify(t.Context(), progress)
	expect(t, r, report.Verified)
	if got, want := statuses(r), "release done 1, source done 2, eval done 1, live done 1, contents done 4"; got != want {
		t.Errorf("tiers: %s, want %s", got, want)
	}
	if c := r.Coverage; c.Paths != 4 || c.Hashed != 4 || c.Files != 7 || c.Bytes == 0 {
		t.Errorf("coverage: %+v, want 4 paths and 7 files", c)
	}
	if r.Configuration != testConfiguration || r.Against != string(testTag) || r.StoreRoot != m.root || r.Nix != "Nix 2.34.8" ||
		r.Release == nil || r.Release.OutPath != top || r.Release.Unsigned || r.Finished.Before(r.Started) {
		t.Errorf("the report does not say what it is of: %+v, release %+v", r, r.Release)
	}
	// What is evaluated is what was hashed, and no other source.
	if got, want := strings.Join(m.eval.asked, "; "), fmt.Sprint(src.Base(), " ", m.manifest.Source.NarHash, " ", testConfiguration); got != want {
		t.Errorf("evaluated: %s, want %s", got, want)
	}
	if s := progress.Snapshot(); s.Tier != report.TierContents || s.Paths != 4 || s.PathsTotal != 4 || s.Files != 7 || s.Bytes != r.Coverage.Bytes || s.BytesTotal <= s.Bytes || s.Hashing[0] != "" {
		t.Errorf("progress at the end: %+v", s)
	}
}

// A Verifier may be used again, and by several at once.
func TestVerifierIsReusable(t *testing.T) {
	m := newMachine(t)
	v := m.verifier()
	reports := make(chan *report.Report)
	for range 3 {
		go func() { reports <- v.Verify(context.Background(), nil) }()
	}
	for range 3 {
		expect(t, <-reports, report.Verified)
	}
}

// notEvaluated: a source of another machine that is not the release's is hashed
// and not evaluated.
const notEvaluated = "evaluation-failed source < source-altered"

// Each kind of damage has its cause, and nothing else is found.
func TestDrift(t *testing.T) {
	of := func(p closure.StorePath) string { return fmt.Sprintf(" where path = '%s'", p) }
	for _, tc := range []struct {
		name     string
		do       func(m *machine)
		verdict  report.Verdict
		findings []string
	}{
		{"contents of a file", func(m *machine) { m.write(string(data)+"/a/file", "dota") }, report.Drifted,
			[]string{"disk-altered data a/file:content"}},
		{"a name that is not UTF-8", func(m *machine) { m.remove(string(data) + "/caf\xe9") }, report.Drifted,
			[]string{"disk-altered data caf\xe9:removed"}},
		{"an empty directory", func(m *machine) { m.mkdir(string(data) + "/empty/more") }, report.Drifted,
			[]string{"disk-altered data empty/more:added"}},
		{"executable bit", func(m *machine) { m.chmod(string(lib), 0o555) }, report.Drifted,
			[]string{"disk-altered lib :executable"}},
		{"target of a symlink", func(m *machine) { m.link(string(top)+"/sw", "/tmp") }, report.Drifted,
			[]string{"disk-altered nixos-system sw:target"}},
		{"type of a path", func(m *machine) { m.remove(string(lib)); m.link(string(lib), "/tmp") }, report.Drifted,
			[]string{"disk-altered lib :type"}},
		{"several paths", func(m *machine) { m.write(string(lib), "x"); m.write(string(data)+"/x", "x") }, report.Drifted,
			[]string{"disk-altered data x:added", "disk-altered lib :content"}},
		{"a FIFO", func(m *machine) {
			m.unseal()
			defer m.seal()
			m.must(syscall.Mkfifo(m.path(string(data)+"/fifo"), 0o644))
		}, report.Drifted,
			[]string{"disk-altered data"}},
		{"set-user-ID", func(m *machine) { m.must(syscall.Chmod(m.path(string(top)+"/init"), 0o4555)) }, report.Drifted,
			[]string{"permissions-altered nixos-system/init"}},
		{"a mode that Nix never sets", func(m *machine) { m.chmod(string(lib), 0o400) }, report.Drifted,
			[]string{"permissions-altered lib"}},
		{"writable by its owner", func(m *machine) { m.chmod(string(data), 0o755) }, report.Drifted,
			[]string{"permissions-altered data"}},
		{"written to and written back", func(m *machine) {
			m.must(os.Chtimes(m.path(string(data)+"/a/file"), time.Time{}, time.Unix(1790000000, 0)))
		}, report.Verified, []string{"time-altered data/a/file"}},
		{"writable by all", func(m *machine) { m.must(syscall.Chmod(m.path(string(data)), 0o777)) }, report.Drifted,
			[]string{"permissions-altered data"}},
		{"the store is writable by all", func(m *machine) { m.must(syscall.Chmod(m.path("/nix/store"), 0o777)) }, report.Drifted,
			[]string{"permissions-altered /nix/store"}},
		{"and may be added to", func(m *machine) { m.must(syscall.Chmod(m.path("/nix/store"), 0o1777)) }, report.Drifted,
			[]string{"permissions-altered /nix/store"}},
		{"the store as Nix makes it", func(m *machine) { m.must(syscall.Chmod(m.path("/nix/store"), 0o1775)) }, report.Verified, nil},
		{"builders can remove what others built", func(m *machine) { m.must(syscall.Chmod(m.path("/nix/store"), 0o775)) }, report.Drifted,
			[]string{"permissions-altered /nix/store"}},
		{"what is above the store is writable by all", func(m *machine) {
			m.must(errors.Join(syscall.Chmod(m.path("/nix"), 0o757), syscall.Chmod(m.root, 0o1777)))
		}, report.Drifted, []string{"permissions-altered /nix"}},
		{"a path removed", func(m *machine) { m.remove(string(lib)) }, report.Drifted,
			[]string{"missing lib"}},
		{"database follows the disk", func(m *machine) { m.write(string(lib), "b file by itself"); m.claim(lib) }, report.Drifted,
			[]string{"replaced-unexplained lib :content"}},
		{"database follows the disk, with a new size", func(m *machine) { m.write(string(lib), "much more than there was before"); m.claim(lib) }, report.Drifted,
			[]string{"database-altered lib narSize", "replaced-unexplained lib :content"}},
		{"disk and database, each its own way", func(m *machine) {
			m.write(string(lib), "x")
			m.sql("update ValidPaths set hash = '" + otherHash("x") + "'" + of(lib))
		}, report.Drifted, []string{"disk-and-database-altered lib :content"}},
		{"hash in the database", func(m *machine) { m.sql("update ValidPaths set hash = '" + otherHash("x") + "'" + of(lib)) }, report.Drifted,
			[]string{"database-altered lib narHash"}},
		{"size in the database", func(m *machine) { m.sql("update ValidPaths set narSize = 8" + of(lib)) }, report.Drifted,
			[]string{"database-altered lib narSize"}},
		{"no size in the database", func(m *machine) { m.sql("update ValidPaths set narSize = null" + of(lib)) }, report.Verified, nil},
		{"malformed hash in the database", func(m *machine) { m.sql("update ValidPaths set hash = 'md5:x'" + of(lib)) }, report.Drifted,
			[]string{"database-altered lib hash"}},
		{"malformed hash and an altered disk", func(m *machine) {
			m.sql("update ValidPaths set hash = 'md5:x'" + of(lib))
			m.write(string(lib), "x")
		}, report.Drifted, []string{"database-altered lib hash", "disk-altered lib :content"}},
		{"reference lost in the database", func(m *machine) { m.sql("delete from Refs where referrer = 2") }, report.Drifted,
			[]string{"database-altered lib references"}},
		{"another deriver in the database", func(m *machine) { m.sql("update ValidPaths set deriver = '" + string(drv) + "'" + of(top)) }, report.Verified, nil},
		{"path unregistered", func(m *machine) { m.sql("delete from ValidPaths" + of(data)) }, report.Drifted,
			[]string{"database-altered lib references", "database-altered nixos-system references", "unregistered data"}},
		{"system unregistered", func(m *machine) { m.sql("delete from ValidPaths" + of(top)) }, report.Drifted,
			[]string{"unregistered nixos-system"}},
		{"path added to the closure", func(m *machine) {
			m.sql("insert into ValidPaths (id, path, hash, registrationTime) values (9, '"+string(object("z", "evil"))+"', '"+otherHash("x")+"', 1)", "insert into Refs values (1, 9)")
		}, report.Drifted, []string{"database-altered data references", "extra evil"}},
		{"malformed path added to the closure", func(m *machine) {
			m.sql("insert into ValidPaths (id, path, hash, registrationTime) values (9, '"+string(object("z", "evil"))+"', 'x', 1)", "insert into Refs values (1, 9)")
		}, report.Drifted, []string{"database-altered data references", "database-altered evil hash"}},
		{"path unknown to the release and to the system", func(m *machine) { m.write(string(object("z", "evil")), "x") }, report.Verified, nil},
		{"no database", func(m *machine) { m.remove("/nix/var/nix/db") }, report.Unsettled,
			[]string{"database-unreadable"}},
		{"database of another schema", func(m *machine) { m.write("/nix/var/nix/db/schema", "11") }, report.Unsettled,
			[]string{"database-unreadable"}},
		{"no database and an altered disk", func(m *machine) { m.remove("/nix/var/nix/db"); m.write(string(lib), "x") }, report.Drifted,
			[]string{"disk-altered lib :content", "database-unreadable"}},

		{"flake altered", func(m *machine) { m.write(string(src)+"/flake.nix", "{}") }, report.Drifted,
			[]string{"source-altered source", "disk-altered source flake.nix:content", notEvaluated}},
		{"lock altered", func(m *machine) { m.write(string(src)+"/flake.lock", "{ }") }, report.Drifted,
			[]string{"lock-altered source/flake.lock", "source-altered source", "disk-altered source flake.lock:content", notEvaluated}},
		{"lock removed", func(m *machine) { m.remove(string(src) + "/flake.lock") }, report.Drifted,
			[]string{"lock-altered source/flake.lock", "source-altered source", "disk-altered source flake.lock:removed", notEvaluated}},
		{"evaluates to another derivation", func(m *machine) { m.eval.top.DrvPath = object("y", "other.drv") }, report.Drifted,
			[]string{"evaluation-drift source drvPath"}},
		{"evaluates to another path", func(m *machine) { m.eval.top.OutPath = object("y", "other") }, report.Drifted,
			[]string{"evaluation-drift source outPath"}},
		{"does not evaluate", func(m *machine) { m.eval.failing = errors.New("infinite recursion") }, report.Unsettled,
			[]string{"evaluation-failed source"}},
		{"no nix", func(m *machine) { m.eval.noVersion = errors.New("no nix program") }, report.Unsettled,
			[]string{"evaluation-failed"}},

		{"profile leads to another system", func(m *machine) {
			m.write(string(object("y", "other"))+"/init", "x")
			m.link("/nix/var/nix/profiles/system", string(object("y", "other")))
		}, report.Drifted, []string{"other-profile /nix/var/nix/profiles/system"}},
		{"profile leads into the system", func(m *machine) { m.link("/nix/var/nix/profiles/system", string(top)+"/init") }, report.Drifted,
			[]string{"other-profile /nix/var/nix/profiles/system"}},
		{"profile leads out of the store", func(m *machine) { m.mkdir("/evil"); m.link("/nix/var/nix/profiles/system", "/evil") }, report.Drifted,
			[]string{"other-profile /nix/var/nix/profiles/system"}},
		{"profile is a directory", func(m *machine) { m.remove("/nix/var/nix/profiles/system"); m.mkdir("/nix/var/nix/profiles/system") }, report.Drifted,
			[]string{"other-profile /nix/var/nix/profiles/system"}},
		{"no profile", func(m *machine) { m.remove("/nix/var/nix/profiles") }, report.Unsettled,
			[]string{"live-unknown /nix/var/nix/profiles/system"}},
		{"profile in a loop", func(m *machine) { m.link("/nix/var/nix/profiles/system-1-link", "system") }, report.Unsettled,
			[]string{"live-unknown /nix/var/nix/profiles/system"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			tc.do(m)
			r := m.verifier().Verify(t.Context(), nil)
			expect(t, r, tc.verdict, tc.findings...)
			for _, f := range r.Findings {
				if f.Class() == report.Drift && f.Want == "" && f.Got == "" && f.Detail == "" && f.Cause != closure.Unregistered {
					t.Errorf("%s says neither what was wanted nor what was got: %+v", f.Cause, f)
				}
			}
		})
	}
}

// TestObservation is of what a disk gives seldom.
func TestObservation(t *testing.T) {
	at := func(rel string, err error) error {
		return &nar.PathError{Path: lib.Base() + rel, Op: "read", Err: err}
	}
	changed := fmt.Errorf("%w: %w", nar.ErrChanged, syscall.ENOENT)
	m := newMachine(t)
	for _, tc := range []struct {
		name string
		err  error
		want report.Cause
	}{
		{"I/O error", at("/x", syscall.EIO), report.Unreadable},
		{"I/O error of the path itself", at("", syscall.EIO), report.Unreadable},
		{"no permission", at("", syscall.EACCES), report.Unreadable},
		{"absent", at("", syscall.ENOENT), closure.Missing},
		{"a part absent", at("/x", syscall.ENOENT), report.Unreadable},
		{"gone while it was read", at("", changed), report.ChangedWhileRead},
		{"changed", at("/x", nar.ErrChanged), report.ChangedWhileRead},
		{"a device", at("/x", nar.ErrUnsupported), closure.DiskAltered},
		{"something else", errors.New("?"), report.Unreadable},
	} {
		r := m.verifier().begin(nil)
		r.manifest = m.manifest
		want := m.manifest.Paths[1]
		claim := want // to be reported all the same, but for a path that is not there
		claim.NarHash, claim.NarSize = m.manifest.Paths[0].NarHash, want.NarSize+8
		r.chosen = &candidate{manifest: m.manifest}
		c := r.newContentsCheck()
		c.claims = &claims{known: true, running: nixstore.Registrations{lib: &claim}}
		if c.judgePath(want, &observation{err: tc.err}) {
			t.Errorf("%s: the files are to be named, and cannot be read", tc.name)
		}
		r.report.Sort()
		wants := []string{"database-altered lib narHash", "database-altered lib narSize", string(tc.want) + " lib"}
		if tc.want == closure.Missing {
			wants = wants[2:]
		}
		if got := summary(r.report); !slices.Equal(got, wants) {
			t.Errorf("%s: got %q, want %q", tc.name, got, wants)
		}
	}
}
