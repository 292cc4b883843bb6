package running

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/report"
)

const (
	proc = "/proc"
	// Limits for one check of all processes.
	maxProcesses = 100_000
	maxMapped    = 200_000  // distinct files with mapped code
	maxMaps      = 64 << 20 // bytes of one process's list of mappings
	maxArguments = 64 << 10 // bytes of one process's arguments that are read
)

// fileID identifies a file, whatever its name is.
type fileID struct{ dev, ino uint64 }

// code is the state of one check of the running code.
type code struct {
	*look
	builders map[string]bool  // users of Nix builds, by number
	users    string           // the user namespace of the first process
	builds   int              // processes of theirs
	judged   map[string]bool  // checked mappings, by the kernel's line for them
	programs map[program]bool // checked programs, and whether they are the release's
}

// program is the file that a process runs, and the kernel's name for it.
type program struct {
	fileID
	name string
}

// checkCode checks the files of the running programs.
func (m *Machine) checkCode(ctx context.Context, l *look) error {
	want, err := m.expected(ctx)
	if err != nil {
		return err
	}
	c := &code{look: l, builders: m.builders(want.Users), judged: map[string]bool{}, programs: map[program]bool{}}
	if c.users, err = namespaceOf(firstProcess, "user"); err != nil {
		return err
	}
	pids, err := processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.process(pid); err != nil {
			return err
		}
	}
	if c.builds > 0 {
		l.notSeen = append(l.notSeen, fmt.Sprintf("%d processes of Nix builds", c.builds))
	}
	m.checkSecurity(l)
	return errors.Join(m.checkKernel(ctx, l), m.checkModules(l), m.checkBPF(ctx, l, pids))
}

// processes returns the names in /proc of the running processes. If the first thread of a
// process has ended, /proc shows nothing for it, and the name is that of another thread.
func processes() ([]string, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.Trim(name, "0123456789") != "" })
	if len(names) > maxProcesses {
		return nil, fmt.Errorf("more than %d processes run", maxProcesses)
	}
	for i, pid := range names {
		names[i] = livingThread(pid)
	}
	return names, nil
}

// livingThread returns pid, or a thread of it with a program if pid itself has none.
func livingThread(pid string) string {
	runs := func(id string) bool {
		_, err := os.Readlink(path.Join(proc, id, "exe"))
		return !isOver(err)
	}
	if runs(pid) {
		return pid
	}
	tasks, err := os.Open(path.Join(proc, pid, "task"))
	if err != nil {
		return pid
	}
	defer tasks.Close()
	threads, _ := tasks.Readdirnames(maxProcesses) // none where it has ended
	if i := slices.IndexFunc(threads, runs); i >= 0 {
		return threads[i]
	}
	return pid
}

// builders returns the users that run Nix's builds, whose programs are not the release's.
// If the configuration names such users, these are the only ones.
func (m *Machine) builders(want *expected.Users) map[string]bool {
	configured := want.Group("nixbld")
	members := map[string]bool{}
	group, _, _ := m.Store.ReadOutside("/etc/group", maxAccounts)
	for line := range strings.Lines(string(group)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 4 && f[0] == "nixbld" {
			for _, name := range strings.Split(f[3], ",") {
				members[name] = configured == nil || len(configured.Members) == 0 || slices.Contains(configured.Members, name)
			}
		}
	}
	out := map[string]bool{}
	passwd, _, _ := m.Store.ReadOutside("/etc/passwd", maxAccounts)
	for line := range strings.Lines(string(passwd)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 7 && members[f[0]] && f[2] != "0" {
			out[f[2]] = true
		}
	}
	return out
}

// isOver reports whether a process has ended meanwhile.
func isOver(err error) bool { return isAbsent(err) || errors.Is(err, unix.ESRCH) }

// needsPtrace is an error about another process, with what it requires to see it.
func needsPtrace(err error) error {
	return fmt.Errorf("%w; this requires root, and in a unit CAP_SYS_PTRACE and ProtectProc=default", err)
}

// process checks one process. An error means that no process can be examined.
func (c *code) process(pid string) error {
	dir := path.Join(proc, pid)
	exe, err := os.Readlink(dir + "/exe")
	switch {
	case isOver(err):
		return nil // ended, or a thread of the kernel, which has none
	case errors.Is(err, os.ErrPermission):
		return needsPtrace(err)
	case err != nil:
		return err
	}
	if c.builder(dir) {
		c.builds++
		return nil
	}
	c.checked++
	id, err := identify(dir + "/exe")
	if isOver(err) {
		return nil
	}
	ours, known := c.programs[program{id, exe}]
	if err != nil || !known {
		ours = c.judgeFile(exe, id, err, "runs as process "+pid)
	}
	if err == nil && len(c.programs) < maxMapped {
		c.programs[program{id, exe}] = ours
	}
	if ours {
		c.script(dir, exe, pid)
	}
	return c.mappings(dir, pid)
}

// builder reports whether a process belongs to a Nix build: all its user numbers are those
// of builders, and it has no further rights, except in its own user namespace.
func (c *code) builder(dir string) bool {
	var st unix.Stat_t
	// Its directory belongs to the effective user, and the owner is cheaper to read.
	if err := unix.Stat(dir, &st); err != nil || !c.builders[strconv.FormatUint(uint64(st.Uid), 10)] {
		return false
	}
	data, err := os.ReadFile(dir + "/status")
	if err != nil {
		return false
	}
	built, capable := false, true
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(string(line), ":")
		switch fields := strings.Fields(value); key {
		case "Uid":
			built = len(fields) > 0 && !slices.ContainsFunc(fields, func(id string) bool { return !c.builders[id] })
		case "CapPrm":
			capable = strings.Trim(value, "0 \t\n") != ""
		}
	}
	return built && (!capable || !inNamespace(dir, "user", c.users))
}

// identify returns the identity of the file that a link in /proc leads to.
func identify(name string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return fileID{}, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return fileID{st.Dev, st.Ino}, nil
}

// judgeFile is judge with the error of [identify].
func (c *code) judgeFile(name string, id fileID, err error, what string) bool {
	switch {
	case errors.Is(err, unix.EACCES):
		// A FUSE file system of a user denies access to everybody else, including root.
		c.find(report.Finding{Cause: report.CodeUnknown, Path: name, Want: "a file of the release", Got: what + ", from a file system that keeps root out"})
		return false
	case err != nil:
		c.unseen(name, err)
		return false
	}
	return c.judge(name, id, what)
}

// judge checks that the file of running code belongs to the accepted system, and reports
// whether it does. name is the kernel's name for the file. The file must have that name
// now, because a name alone may belong to another file.
func (c *code) judge(name string, id fileID, what string) bool {
	f := report.Finding{Cause: report.CodeUnknown, Path: name, Got: what}
	if !strings.HasPrefix(name, "/") || strings.HasSuffix(name, deleted) {
		f.Want = "an existing file"
		c.find(f)
		return false
	}
	if at := c.lies(name, id); at != "" {
		name, f.Path = at, at
	} else {
		// The exception for that name does not cover this.
		f.Field, f.Want = "replaced", "the file that now has this name"
		c.find(f)
		return false
	}
	p, _, err := c.m.Store.Dir().Within(name)
	if err == nil && c.m.hashed(p) {
		return true
	}
	f.Want = "a file of the release"
	c.find(f)
	return false
}

// maxNames limits the names that are tried for a file.
const maxNames = 16

// lies returns the name of a file in the machine's root, "" for none. The kernel's name
// for a file of a process with mounts of its own may start with a directory of these,
// such as the one where a sandbox has its former root.
func (c *code) lies(name string, id fileID) string {
	for range maxNames {
		if st, err := c.m.Store.Stat(name); err == nil && (fileID{st.Dev, st.Ino}) == id {
			return name
		}
		next := strings.IndexByte(name[1:], '/')
		if next < 0 {
			return ""
		}
		name = name[1+next:]
	}
	return ""
}

// mappings checks the files that a process has mapped as code.
func (c *code) mappings(dir, pid string) error {
	f, err := os.Open(dir + "/maps")
	if isOver(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for read := 0; lines.Scan(); {
		if read += len(lines.Bytes()); read > maxMaps {
			c.unseen(dir+"/maps", fmt.Errorf("more than %d bytes", maxMaps))
			return nil
		}
		if _, rights, _ := bytes.Cut(lines.Bytes(), []byte{' '}); !bytes.Contains(rights[:min(4, len(rights))], []byte{'x'}) {
			continue
		}
		line := lines.Text()
		// "7f00-7f01 r-xp 00000000 08:01 1234   /path": six fields, the last of which may
		// contain any byte but a line end, which is written as \012.
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] == "0" {
			continue
		}
		name := strings.ReplaceAll(strings.TrimLeft(line[strings.Index(line, " "+fields[4]+" ")+len(fields[4])+2:], " "), `\012`, "\n")
		key := fields[3] + " " + fields[4] + " " + name
		if c.judged[key] {
			continue
		}
		if len(c.judged) == maxMapped {
			return fmt.Errorf("code is mapped from more than %d files", maxMapped)
		}
		id, err := identify(dir + "/map_files/" + fields[0])
		switch {
		case isOver(err):
			continue // ended, or mapped anew
		case errors.Is(err, unix.EPERM):
			return fmt.Errorf("%w; this requires root, and in a unit CAP_CHECKPOINT_RESTORE", err)
		}
		c.judged[key] = true
		c.checked++
		c.judgeFile(name, id, err, "is mapped as code by process "+pid)
	}
	if err := lines.Err(); err != nil && !isOver(err) {
		c.unseen(dir+"/maps", err)
	}
	return nil
}

// interpreters run what their arguments name. For each, the letters of the options after
// which the program is an argument itself, or a module by name.
var interpreters = map[string]string{
	"sh": "cs", "bash": "cs", "dash": "cs", "ash": "cs", "zsh": "cs", "ksh": "cs", "fish": "cC", "busybox": "cs",
	"perl": "eE", "ruby": "e", "lua": "e", "node": "ep", "php": "r", "python": "cm",
}

// script checks the script that an interpreter of the accepted system runs, as far as its
// arguments show.
func (c *code) script(dir, exe, pid string) {
	base := strings.TrimSuffix(strings.TrimPrefix(path.Base(exe), "."), "-wrapped")
	inline, ok := interpreters[strings.TrimRight(base, "0123456789.")]
	if !ok {
		return
	}
	f, err := os.Open(dir + "/cmdline")
	if err != nil {
		return
	}
	defer f.Close()
	data := make([]byte, maxArguments)
	n, _ := f.Read(data)
	arguments := strings.Split(string(data[:n]), "\x00")
	if base == "busybox" {
		if path.Base(arguments[0]) == base {
			arguments = arguments[1:]
		}
		if len(arguments) == 0 || !slices.Contains([]string{"sh", "ash", "hush"}, strings.TrimPrefix(path.Base(arguments[0]), "-")) {
			return
		}
	}
	for _, a := range arguments[min(1, len(arguments)):] {
		if strings.HasPrefix(a, "-") {
			if !strings.HasPrefix(a, "--") && strings.ContainsAny(a, inline) {
				return // what it runs is in its arguments
			}
			continue
		}
		byPath := strings.Contains(a, "/")
		if !path.IsAbs(a) {
			cwd, err := os.Readlink(dir + "/cwd")
			if err != nil {
				return
			}
			a = path.Join(cwd, a)
		}
		st, err := c.m.Store.Stat(a)
		switch {
		case err != nil && byPath:
			return
		case err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR:
			continue // what an option before it is about
		}
		if p, _, err := c.m.Store.ResolveLink(a); err == nil && c.m.hashed(p) || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return
		}
		if p, _, err := c.m.Store.Dir().Within(a); err == nil && c.m.hashed(p) {
			return
		}
		c.find(report.Finding{Cause: report.CodeUnknown, Path: a, Want: "a script of the release", Got: "run by " + exe + " as process " + pid})
		return
	}
}
