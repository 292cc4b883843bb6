package running

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// Limits for one check of /etc and the other directories.
const (
	maxEntries  = 100_000   // of a directory, and of a tree
	maxEtcFile  = 16 << 20  // bytes of one file
	maxAccounts = 4 << 20   // bytes of a file with accounts
	etcDepth    = 64        // directories in one another
	maxLinkList = 1_000_000 // bytes of authorised keys
)

// checkEtc compares /etc with the accepted system, and checks a few other directories that
// programs search for programs to run.
func (m *Machine) checkEtc(ctx context.Context, l *look) error {
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	if want.EtcTree == "" {
		return errors.New("the accepted system has no etc")
	}
	l.checked++
	if got, _ := m.leadsIn("/etc/static"); got != want.EtcTree {
		l.find(report.Finding{Cause: report.EtcAltered, Path: "/etc/static", Want: want.EtcTree, Got: got})
	}
	e := &etc{look: l, wants: make(map[string]*expected.Entry, len(want.Etc)), seen: map[string]bool{}}
	for i := range want.Etc {
		e.wants[want.Etc[i].Path] = &want.Etc[i]
	}
	if err := e.walk(ctx, "", 0); err != nil {
		return err
	}
	for i := range want.Etc {
		if w := &want.Etc[i]; !w.Directory && !e.seen[w.Path] {
			l.find(report.Finding{Cause: report.EtcAltered, Path: "/etc/" + w.Path, Want: described(w), Got: "nothing"})
		}
	}
	m.checkAccounts(l, want.Users)
	if want.Users == nil {
		l.notSeen = append(l.notSeen, "the expected users, which the system does not state")
	}
	if err := m.checkLogin(ctx, l, want.Users); err != nil {
		return err
	}
	if err := m.checkLingering(ctx, l); err != nil {
		return err
	}
	if err := m.checkWrappers(ctx, l); err != nil {
		return err
	}
	return m.checkFixed(ctx, l)
}

// described describes what an entry of /etc should be.
func described(e *expected.Entry) string {
	switch {
	case e.Directory:
		return "a directory"
	case e.Copy != nil:
		return fmt.Sprintf("a copy of %s, mode %s", e.Copy.Source, e.Copy.Mode)
	}
	return "a link to " + e.Target
}

// etc is a walk through /etc.
type etc struct {
	*look
	wants map[string]*expected.Entry
	seen  map[string]bool
	count int
}

func (e *etc) walk(ctx context.Context, rel string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := path.Join("/etc", rel)
	names, err := e.m.Store.List(dir, maxEntries)
	if err != nil {
		if isAbsent(err) {
			return nil
		}
		return err
	}
	for _, name := range names {
		at := path.Join(rel, name)
		if e.count++; e.count > maxEntries || depth > etcDepth {
			return fmt.Errorf("/etc has more than %d entries, or directories deeper than %d", maxEntries, etcDepth)
		}
		st, err := e.m.Store.Stat("/etc/" + at)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			e.unseen("/etc/"+at, err)
			continue
		}
		e.checked++
		e.seen[at] = true
		w, ours := e.wants[at]
		if ours {
			e.judge(at, w, &st)
		} else if !knownEtc(at) || slices.Contains(accountFiles, at) && st.Mode&unix.S_IFMT != unix.S_IFREG {
			if err := e.foreign(ctx, "/etc/"+at, &st); err != nil {
				return err
			}
			continue
		} else {
			e.judgeRights("/etc/"+at, &st)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR && !wholeEtc(at) {
			if err := e.walk(ctx, at, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// judgeRights finds a known file that gives whoever runs it the rights of others.
func (l *look) judgeRights(name string, st *unix.Stat_t) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	f := report.Finding{Cause: report.FileUnknown, Path: name, Want: "a file without rights of its own"}
	switch {
	case st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		f.Got = fmt.Sprintf("mode %04o, owner %d", st.Mode&0o7777, st.Uid)
	case l.m.Store.Attribute(name, "security.capability") != "":
		f.Got = "file capabilities"
	default:
		return
	}
	l.find(f)
}

// judge compares an entry of /etc with what the accepted system makes there.
func (e *etc) judge(at string, w *expected.Entry, st *unix.Stat_t) {
	name := "/etc/" + at
	f := report.Finding{Cause: report.EtcAltered, Path: name, Want: described(w)}
	kind := st.Mode & unix.S_IFMT
	switch {
	case w.Directory:
		if kind == unix.S_IFDIR {
			e.judgeOwner(name, st)
			return
		}
		f.Got = "another kind of file"
	case w.Copy != nil:
		if f.Got = e.copyDiffers(name, w.Copy, st); f.Got == "" {
			return
		}
	default:
		target, err := e.m.Store.Target(name)
		if kind == unix.S_IFLNK && err == nil && target == w.Target {
			return
		}
		f.Got = "another kind of file"
		if kind == unix.S_IFLNK {
			f.Got = "a link to " + target
		}
	}
	e.find(f)
}

// copyDiffers describes how a file differs from the expected copy; "" if it does not.
func (e *etc) copyDiffers(name string, w *expected.Copy, st *unix.Stat_t) string {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "another kind of file"
	}
	if got := fmt.Sprintf("%04o", st.Mode&0o7777); got != w.Mode {
		return "mode " + got
	}
	if !owns(w.User, st.Uid) || !owns(w.Group, st.Gid) {
		return fmt.Sprintf("owner %d, group %d", st.Uid, st.Gid)
	}
	got, _, err := e.m.Store.ReadOutside(name, maxEtcFile)
	if err != nil {
		e.unseen(name, err)
		return ""
	}
	if nar.Hash(sha256.Sum256(got)) != w.SHA256 {
		return "other contents"
	}
	return ""
}

// owns reports whether id may be the accepted system's name: a number after "+", or
// "root". The numbers of other names are unknown.
func owns(name string, id uint32) bool {
	if name == "root" || name == "" {
		return id == 0
	}
	number, isNumber := strings.CutPrefix(name, "+")
	return !isNumber || number == strconv.FormatUint(uint64(id), 10)
}

// judgeOwner finds a directory that others than root can write to.
func (l *look) judgeOwner(name string, st *unix.Stat_t) {
	if st.Uid != 0 || st.Mode&0o022 != 0 {
		l.find(report.Finding{
			Cause: report.EtcAltered, Path: name, Want: "owner 0, writable only by the owner",
			Got: fmt.Sprintf("owner %d, mode %04o", st.Uid, st.Mode&0o7777),
		})
	}
}

// foreign finds a file that the accepted system does not put there. A directory of such
// files is one finding, if exceptions allow that; a directory without files is none.
func (l *look) foreign(ctx context.Context, name string, st *unix.Stat_t) error {
	f := report.Finding{Cause: report.FileUnknown, Path: name}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if !l.m.mayFold(name, report.FileUnknown) {
			return l.eachForeign(ctx, name)
		}
		count := fold{any: l.m.allowed(&f)}
		if err := count.add(ctx, l.m, name); err != nil {
			return err
		}
		if count.files == 0 {
			return nil
		}
		f.Got = count.String()
	case unix.S_IFLNK:
		// If the file was removed meanwhile, the second look does not find it.
		target, _ := l.m.Store.Target(name)
		f.Got = "a link to " + target
	case unix.S_IFREG:
		f.Got = fmt.Sprintf("a file of %d bytes, mode %04o, owner %d", st.Size, st.Mode&0o7777, st.Uid)
	default:
		f.Got = "a special file"
	}
	f.Detail = notable(name)
	l.find(f)
	return nil
}

func (l *look) eachForeign(ctx context.Context, dir string) error {
	return l.entries(dir, func(name string, st *unix.Stat_t) error { return l.foreign(ctx, name, st) })
}

// entries calls do for each entry of a directory, and reports those that could not be
// examined. Entries that disappeared meanwhile are ignored.
func (l *look) entries(dir string, do func(name string, st *unix.Stat_t) error) error {
	names, err := l.m.Store.List(dir, maxEntries)
	if err != nil {
		if !isAbsent(err) {
			l.unseen(dir, err)
		}
		return nil
	}
	for _, base := range names {
		name := path.Join(dir, base)
		st, err := l.m.Store.Stat(name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			l.unseen(name, err)
			continue
		}
		l.checked++
		if err := do(name, &st); err != nil {
			return err
		}
	}
	return nil
}

// fold counts the contents of a directory.
type fold struct {
	any         bool // it only matters whether there is a file
	files, seen int
	bytes       int64
	cut         bool
}

// add counts the contents of a directory. An unreadable directory counts as not empty.
func (f *fold) add(ctx context.Context, m *Machine, dir string) error {
	err := m.Store.Walk(ctx, dir, func(e *nixstore.Entry) error {
		if f.seen++; f.seen > maxEntries {
			return errUncounted
		}
		switch {
		case e.Stat.Mode&unix.S_IFMT != unix.S_IFDIR:
			f.files++
			f.bytes += e.Stat.Size
			if f.any {
				return fs.SkipAll
			}
		case strings.Count(e.Name(), "/") >= etcDepth:
			return errUncounted
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !isAbsent(err) && !errors.Is(err, fs.SkipAll):
		f.files, f.cut = f.files+1, true
	}
	return nil
}

// errUncounted ends the counting of a directory with too much in it.
var errUncounted = errors.New("not counted")

func (f *fold) String() string { return "a directory with " + f.contents() }

func (f *fold) size() string {
	return report.Quantity(f.bytes, "byte") + " in " + report.Quantity(f.files, "file")
}

func (f *fold) contents() string {
	s := fmt.Sprintf("%s, %s", report.Quantity(f.files, "file"), report.Quantity(f.bytes, "byte"))
	if f.cut {
		s += ", and more that were not counted"
	}
	return s
}

// notable describes the use of a file that an intruder might put there.
func notable(name string) string {
	for _, n := range []struct{ at, what string }{
		{"/etc/ld.so.preload", "every program that starts loads the libraries that it names"},
		{"/etc/sudoers", "who may become root"},
		{"/etc/sudoers.d", "who may become root"},
		{"/etc/doas.conf", "who may become root"},
		{"/etc/crontab", "jobs that run on a schedule"},
		{"/etc/cron", "jobs that run on a schedule"},
		{"/etc/systemd/system", "units"},
		{"/etc/systemd/user", "units of users"},
		{"/etc/udev", "rules that run when a device appears"},
		{"/etc/profile", "what a login shell runs"},
		{"/etc/bash", "what a shell runs"},
		{"/etc/zsh", "what a shell runs"},
		{"/etc/pam", "who may log in"},
		{"/etc/ssh", "who may log in"},
		{"/etc/tmpfiles.d", "what systemd writes at boot"},
		{"/etc/modprobe.d", "commands that run when a kernel module is loaded"},
		{"/var/lib/systemd/linger/", "whose services are started at boot, without a login"},
		{"/root/", "what a login of root runs, or looks for programs in"},
		{"/nix/var/nix/profiles/", "programs that a login looks for"},
	} {
		if strings.HasPrefix(name, n.at) {
			return n.what
		}
	}
	return ""
}

// knownEtc reports whether an entry of /etc is one that a running NixOS has in addition to
// those of its configuration. The files that determine who may log in are checked
// elsewhere.
func knownEtc(at string) bool {
	for _, file := range accountFiles {
		// Also the copies that exist while and after it is written.
		if rest, ok := strings.CutPrefix(at, file); ok && (rest == "" || slices.Contains([]string{"-", "+", ".lock", ".tmp"}, rest) ||
			strings.HasPrefix(rest, ".") && strings.Trim(rest[1:], "0123456789") == "") {
			return true
		}
	}
	return wholeEtc(at) || slices.ContainsFunc(knownNames, func(pattern string) bool {
		ok, _ := path.Match(pattern, at)
		return ok
	})
}

var accountFiles = []string{"passwd", "group", "shadow", "gshadow", "subuid", "subgid"}

var knownNames = []string{
	"static", "NIXOS", ".clean", ".pwd.lock", ".updated", // of the activation
	"machine-id", "machine-info", "hostid", "hostname", "adjtime", "localtime", "mtab",
	"resolv.conf", "resolv.conf.bak", "resolv.conf.head",
	"ssh", "ssh/ssh_host_*_key", "ssh/ssh_host_*_key.pub",
	"NetworkManager", "lvm",
	"zfs/zpool.cache", // by the kernel
}

// wholeEtc reports whether a directory in /etc is known including all its contents:
// secrets, and data that no program runs.
func wholeEtc(at string) bool {
	return slices.Contains([]string{
		"nixos", // a configuration that nothing reads but who rebuilds by hand
		"credstore", "credstore.encrypted", "NetworkManager/system-connections", "lvm/archive", "lvm/backup",
	}, at)
}
