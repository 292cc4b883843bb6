package running

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/mounted"
	"every.channel/ec-verify/internal/report"
)

const (
	// maxNamespaces limits the mount namespaces that are checked, each once for each unit
	// with processes in it.
	maxNamespaces = 4000
	// maxTried limits how many processes of a namespace are tried: one may have ended, or
	// have another root.
	maxTried = 16
	// maxThreads limits the threads of all processes that are checked.
	maxThreads = 200_000

	firstProcess = proc + "/1"
)

// inaccessibleDirs have the files that systemd mounts over places that a service may not
// see; the second one is used in a container.
var inaccessibleDirs = []string{"/run/systemd/inaccessible", "/run/host/inaccessible"}

// namespace is a mount namespace that processes of a unit are in.
type namespace struct{ id, unit string }

// checkNamespaces compares the mounts of processes that have their own with those of the
// first process.
func (m *Machine) checkNamespaces(ctx context.Context, l *look, want *expected.Machine, first []nixstore.Mount) error {
	own, err := namespaceOf(firstProcess, "mnt")
	if err != nil {
		return err
	}
	users, err := namespaceOf(firstProcess, "user")
	if err != nil {
		return err
	}
	spaces, err := m.namespaces(ctx, want, own, users)
	if err != nil {
		return err
	}
	if l.judgeInaccessible(); len(spaces) == 0 {
		return nil
	}
	order := make([]namespace, 0, len(spaces))
	for space := range spaces {
		order = append(order, space)
	}
	slices.SortFunc(order, func(a, b namespace) int { return strings.Compare(a.unit+"\x00"+a.id, b.unit+"\x00"+b.id) })
	others := 0
	for _, space := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.checked++
		dir, has, err := seenBy(spaces[space], space.id)
		switch {
		case err != nil:
			l.unseen("unit "+space.unit, err)
			continue
		case dir == "":
			continue // all of them have ended
		}
		way := nixstore.Way(has, "/")
		service := strings.HasSuffix(space.unit, ".service")
		if len(way) == 0 || nixstore.At(way, "/") != nixstore.At(nixstore.Way(first, "/"), "/") || !service && !inNamespace(dir, "user", users) {
			others++
			continue
		}
		unit, err := m.unitText(want, space.unit)
		if err != nil {
			l.unseen("unit "+space.unit, err)
			continue
		}
		l.privateMounts(space.unit, dir, bindingsOf(unit), first, has)
	}
	if others > 0 {
		l.notSeen = append(l.notSeen, fmt.Sprintf("%d mount namespaces with another root directory or of users (such as containers and sandboxes)", others))
	}
	return nil
}

// spaces are the directories in /proc of processes and threads, by their mount namespace.
type spaces struct {
	own     string // that of the first process, which is not among them
	builds  *code  // processes of its builds are not among them either
	dirs    map[namespace][]string
	threads int
}

// namespaces returns the namespaces of all processes except builds.
func (m *Machine) namespaces(ctx context.Context, want *expected.Machine, own, users string) (map[namespace][]string, error) {
	pids, err := processes()
	if err != nil {
		return nil, err
	}
	s := &spaces{own: own, builds: &code{builders: m.builders(want.Users), users: users}, dirs: map[namespace][]string{}}
	for _, pid := range pids {
		if err := errors.Join(ctx.Err(), s.process(path.Join(proc, pid))); err != nil {
			return nil, err
		}
	}
	return s.dirs, nil
}

// process adds the namespaces of the threads of a process.
func (s *spaces) process(dir string) error {
	for _, task := range tasks(dir) {
		if s.threads++; s.threads > maxThreads {
			return fmt.Errorf("more than %d threads run", maxThreads)
		}
		id, err := namespaceOf(task, "mnt")
		switch {
		case errors.Is(err, os.ErrPermission):
			return needsPtrace(err)
		case err != nil && !isOver(err):
			return err
		case err != nil || id == s.own || isKernels(dir) || s.builds.builder(dir):
			continue
		}
		groups, err := hostfile.ReadSmall(task+"/cgroup", maxCgroup)
		if err != nil {
			continue // ended
		}
		space := namespace{id, unitOf(string(groups))}
		if len(s.dirs[space]) == 0 && len(s.dirs) == maxNamespaces {
			return fmt.Errorf("more than %d mount namespaces", maxNamespaces)
		}
		if len(s.dirs[space]) < maxTried {
			s.dirs[space] = append(s.dirs[space], task)
		}
	}
	return nil
}

// tasks returns the directories in /proc of a process: its own, and those of its threads
// if it has several, because each thread can have mounts and files of its own.
func tasks(dir string) []string {
	var st unix.Stat_t
	// The directory of threads has a link for itself, one for its name, and one for each.
	if err := unix.Stat(dir+"/task", &st); err != nil || st.Nlink <= 3 {
		return []string{dir}
	}
	f, err := os.Open(dir + "/task")
	if err != nil {
		return []string{dir}
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxThreads) // none where it has ended
	out := []string{dir}
	for _, name := range names {
		if name != path.Base(dir) {
			out = append(out, path.Join(dir, "task", name))
		}
	}
	return out
}

// isKernels reports whether a process is a thread of the kernel, which has no program.
func isKernels(dir string) bool {
	_, err := os.Readlink(dir + "/exe")
	return isOver(err)
}

// namespaceOf returns a process's namespace of a kind.
func namespaceOf(dir, kind string) (string, error) { return os.Readlink(path.Join(dir, "ns", kind)) }

func inNamespace(dir, kind, id string) bool {
	has, err := namespaceOf(dir, kind)
	return err == nil && has == id
}

// seenBy returns the mounts of a namespace on the way to judged directories, as its first
// process with the namespace's root directory sees them. If all its processes have other
// roots, it returns those of one of them; "" if no process is left.
func seenBy(dirs []string, id string) (dir string, mounts []nixstore.Mount, err error) {
	for _, at := range dirs {
		has, failed := nixstore.MountsOf(at, onWay)
		if failed != nil {
			if !isOver(failed) && !errors.Is(failed, unix.EINVAL) { // EINVAL: it is ending
				err = failed
			}
			continue
		}
		if !inNamespace(at, "mnt", id) {
			continue // another process now has that number
		}
		if dir, mounts = at, has; len(nixstore.Way(has, "/")) > 0 {
			return dir, mounts, nil
		}
	}
	return dir, mounts, err
}

// judgeInaccessible finds files with contents among those that systemd binds over what
// services may not see.
func (l *look) judgeInaccessible() {
	for _, dir := range inaccessibleDirs {
		for _, name := range []string{"dir", "reg"} {
			at := path.Join(dir, name)
			st, err := l.m.Store.Stat(at)
			if err != nil {
				continue // without one nothing is bound
			}
			names, err := l.m.Store.List(at, maxEntries)
			if name == "dir" && (len(names) > 0 || err != nil) || name == "reg" && (st.Size > 0 || st.Mode&unix.S_IFMT != unix.S_IFREG) {
				l.find(report.Finding{Cause: report.ForeignMount, Path: at, Want: "nothing in it", Got: "something"})
			}
		}
	}
}

// privateMounts judges the mounts in which a unit's namespace differs from the first
// process's.
func (l *look) privateMounts(unit, dir string, known []binding, first, has []nixstore.Mount) {
	judged := points(slices.Concat(first, has))
	if len(judged) > maxGuarded {
		l.unseen("unit "+unit, fmt.Errorf("more than %d mounts in places that should have few or none", maxGuarded))
		return
	}
	hidden := func(at nixstore.Place) bool {
		return slices.ContainsFunc(inaccessibleDirs, func(dir string) bool {
			has := nixstore.At(nixstore.Way(first, dir), dir)
			return at.Device == has.Device && beneath(at.Dir, has.Dir)
		})
	}
	contained := l.m.inContainer()
	var told []string
	for _, point := range judged {
		way, firstWay := nixstore.Way(has, point), nixstore.Way(first, point)
		here, there := nixstore.At(way, point), nixstore.At(firstWay, point)
		top := &way[len(way)-1]
		switch {
		case here == there, contained && ofKernelDirs(point), slices.ContainsFunc(told, func(at string) bool { return beneath(point, at) }):
			continue
		case top.Point != point:
			// Not mounted here: the mount above was judged. The kernel's own file systems
			// may be mounted after the namespace was created.
			if at := top.Point; nixstore.At(nixstore.Way(first, at), at) != nixstore.At(way, at) || mayLag(point) {
				continue
			}
		case ofKernel(top), ofGroups(top), top.Type == "autofs" && top.Root == "/", hidden(here):
			continue
		case slices.ContainsFunc(known, func(b binding) bool { return b.explains(l.m, dir+"/root", point, top) }):
			continue
		}
		told = append(told, point)
		l.find(report.Finding{
			Cause: report.ForeignMount, Path: point, Field: unit, Want: mounted.Describe(firstWay, point),
			Got: mounted.Describe(way, point),
		})
	}
}

// ofGroups reports whether m shows a service only the control groups below its own, as
// ProtectControlGroups=private does.
func ofGroups(m *nixstore.Mount) bool { return m.Type == "cgroup2" && m.Point == "/sys/fs/cgroup" }

// ofKernelDirs reports whether point is in a directory that differs in containers, with
// mounts that this program does not know.
func ofKernelDirs(point string) bool { return beneath(point, "/proc") || beneath(point, "/sys") }

// mayLag reports whether something that is mounted at point, but not in a namespace, may
// have been mounted after the namespace was created.
func mayLag(point string) bool {
	return slices.ContainsFunc([]string{"/boot", "/efi", "/run"}, func(dir string) bool { return beneath(point, dir) }) || ofKernelDirs(point)
}
