package running

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

const (
	// maxWritten limits the files and directories that are checked.
	maxWritten = 2_000_000
	// maxOfDir limits the files of one directory that are listed one by one.
	maxOfDir = 20
	// moreField is the field of the finding about the files beyond that limit.
	moreField = "more"
)

// othersAffairs are the directories that another part or another tier checks.
var othersAffairs = append([]string{"/etc", "/nix", "/boot", "/dev", "/proc", "/sys", "/run"}, fixedDirs...)

// elsewhere are these, and the directories with data, in which only rights are judged.
var elsewhere = append([]string{"/tmp", "/var"}, othersAffairs...)

// knownWritten are files in homes that NixOS and logged-in users write and no program
// runs. Each pattern also matches what is below it.
var knownWritten = []string{
	"/root/.nix-channels", "/root/.nix-defexpr", "/root/.nix-profile", "/root/.local/state/nix", "/root/.cache", "/root/.bash_history", "/root/.lesshst",
	"/home/*/.nix-channels", "/home/*/.nix-defexpr", "/home/*/.nix-profile", "/home/*/.local/state/nix", "/home/*/.cache", "/home/*/.bash_history", "/home/*/.lesshst",
	// The part "etc" checks these.
	"/root/.ssh/authorized_keys", "/root/.ssh/authorized_keys2", "/root/.ssh/known_hosts",
	"/home/*/.ssh/authorized_keys", "/home/*/.ssh/authorized_keys2", "/home/*/.ssh/known_hosts",
}

func isKnownWritten(name string) bool {
	for at := name; at != "/"; at = path.Dir(at) {
		if slices.Contains(elsewhere, at) || slices.ContainsFunc(knownWritten, func(pattern string) bool {
			ok, _ := path.Match(pattern, at)
			return ok
		}) {
			return true
		}
	}
	return false
}

// leadsToKnown reports whether something known may be below a directory.
func leadsToKnown(dir string) bool {
	depth := strings.Count(dir, "/")
	for _, pattern := range append(slices.Clip(elsewhere), knownWritten...) {
		parts := strings.Split(pattern, "/")
		if len(parts) <= depth+1 {
			continue
		}
		if ok, _ := path.Match(strings.Join(parts[:depth+1], "/"), dir); ok {
			return true
		}
	}
	return false
}

// checkWritten checks what was written to the root since the boot, if that is an overlay
// with a visible upper layer, or entirely in memory.
func (m *Machine) checkWritten(ctx context.Context, l *look) error {
	mounts, err := m.FirstMounts()
	if err != nil {
		return err
	}
	way := nixstore.Way(mounts, "/")
	if len(way) == 0 {
		return errors.New("the machine's first process has no root")
	}
	root := &way[len(way)-1]
	w := &written{look: l, mounts: mounts}
	switch root.Type {
	case "overlay":
		upper := root.Layers("upperdir")
		if len(upper) == 0 {
			return nil // nobody can write to it
		}
		w.upper, w.lower = upper[0], root.Layers("lowerdir")
		if err := m.isUpper(w.upper); err != nil {
			return fmt.Errorf("the upper layer of the root, %s: %w", w.upper, err)
		}
		if !mayAdminister() {
			l.notSeen = append(l.notSeen, "which directories of the root hide those below: that requires CAP_SYS_ADMIN")
		}
	case "tmpfs", "ramfs":
		w.upper = "/"
	default:
		l.notSeen = append(l.notSeen, "files written since the boot, which this kind of root does not record ("+root.Type+")")
		return nil
	}
	return w.walk(ctx)
}

// isUpper reports whether a directory is the upper layer of the root. An overlay shows the
// status of the upper layer as its own, including the time of the last change, which no
// program can set.
func (m *Machine) isUpper(dir string) error {
	for attempt := 0; ; attempt++ {
		upper, err := m.Store.Stat(dir)
		if err != nil {
			return err
		}
		merged, err := m.Store.Stat("/")
		switch {
		case err != nil:
			return err
		case upper.Ctim == merged.Ctim && upper.Mtim == merged.Mtim && upper.Mode == merged.Mode:
			return nil
		case attempt == maxAttempts: // something else was written meanwhile
			return errors.New("it is not the upper layer of the root")
		}
	}
}

// written is a walk through the files that were written.
type written struct {
	*look
	mounts []nixstore.Mount
	upper  string
	lower  []string // of an overlay
	// layered means that the layers below are visible, or that there are none.
	layered bool
	seen    int
	data    string     // the present directory with data, with a slash at its end
	dirs    []wroteDir // from the top to the present one: those that are or may be one finding
}

// wroteDir is a directory in which something was written.
type wroteDir struct {
	name  string // with a slash at its end
	whole bool   // it is one finding instead of one for each file
	known bool   // something known may be in it
	folds bool   // no exception is about a file in it
	told  int    // its files with a finding each
	count fold   // its other files
}

func (w *written) walk(ctx context.Context) error {
	top, err := w.m.Store.Stat(w.upper)
	if err != nil {
		return err
	}
	w.layered = len(w.lower) == 0 || w.below("/")
	w.judgeMode("/", &top)
	w.dirs = append(w.dirs, wroteDir{name: "/", known: true})
	err = w.m.Store.WalkPast(ctx, w.upper, func(e *nixstore.Entry) error {
		if w.seen++; w.seen > maxWritten {
			return fmt.Errorf("more than %d files and directories were written", maxWritten)
		}
		name := "/" + e.Name()
		w.leave(name)
		if w.data != "" && strings.HasPrefix(name, w.data) || w.dirs[len(w.dirs)-1].known && isKnownWritten(name) {
			return w.inData(e, name, top.Dev)
		}
		w.checked++
		if e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			return w.directory(e, name, top.Dev)
		}
		w.file(e, name)
		return nil
	}, w.failed)
	w.leave("")
	return err
}

// failed reports a file that could not be examined, and continues. A file system that a user
// mounted privately denies access to root, and is not a part of the root file system.
func (w *written) failed(name string, err error) error {
	name = "/" + name
	if !errors.Is(err, unix.EACCES) || !slices.ContainsFunc(w.mounts, func(m nixstore.Mount) bool { return m.Point == name }) {
		w.unseen(name, err)
	}
	return nil
}

// entered reports whether users other than root can enter a directory, by its mode bits. The
// group's bits are also the limit of an access control list.
func entered(e *nixstore.Entry) bool {
	st := &e.Stat
	byGroup := st.Mode&0o010 != 0 && (st.Gid != 0 || e.Attribute("system.posix_acl_access") != "")
	return st.Uid != 0 || st.Mode&0o001 != 0 || byGroup
}

// inData judges an entry of a directory with data. It only adds a finding if the entry gives
// the rights of root to others who can reach it.
func (w *written) inData(e *nixstore.Entry, name string, dev uint64) error {
	st := &e.Stat
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if st.Dev != dev || !entered(e) || slices.Contains(othersAffairs, name) {
			return fs.SkipDir
		}
		if w.data == "" || !strings.HasPrefix(name, w.data) {
			w.data = name + "/"
		}
	case unix.S_IFREG:
		w.checked++
		f := report.Finding{Cause: report.WrittenUnknown, Path: name, Want: "data, or a program without further rights"}
		switch {
		case st.Mode&unix.S_ISUID != 0 && st.Uid == 0, st.Mode&unix.S_ISGID != 0 && st.Gid == 0:
			f.Got = fmt.Sprintf("mode %04o, owner %d, group %d", st.Mode&0o7777, st.Uid, st.Gid)
		case st.Mode&0o111 != 0 && capabilitiesOf(e.Attribute("security.capability")) != (capabilities{}):
			f.Got = "file capabilities"
		default:
			return nil
		}
		w.find(f)
	}
	return nil
}

// directory checks a directory before its contents.
func (w *written) directory(e *nixstore.Entry, name string, dev uint64) error {
	if e.Stat.Dev != dev {
		return fs.SkipDir // another file system is mounted there
	}
	d := wroteDir{name: name + "/"}
	within := w.dirs[len(w.dirs)-1].whole
	switch {
	case within:
	case overlayAttribute(e, "opaque") == "y" && w.below(name):
		w.find(report.Finding{Cause: report.WrittenUnknown, Path: name, Got: "a directory that replaces the one below"})
	case overlayAttribute(e, "redirect") != "":
		w.find(report.Finding{Cause: report.WrittenUnknown, Path: name, Got: "a directory that was moved here"})
	}
	if !within {
		w.judgeMode(name, &e.Stat)
		d.known, d.folds = leadsToKnown(name), w.m.mayFold(name, report.WrittenUnknown)
		d.whole = w.layered && !d.known && d.folds && !w.below(name)
		w.dirs = append(w.dirs, d)
	}
	return nil
}

// judgeMode finds a directory that users other than root can write to, except homes.
func (w *written) judgeMode(name string, st *unix.Stat_t) {
	if strings.HasPrefix(name, "/home/") {
		return
	}
	if st.Uid != 0 || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		w.find(report.Finding{
			Cause: report.WrittenUnknown, Path: name, Field: "mode", Want: "owner 0, writable only by the owner",
			Got: fmt.Sprintf("a directory of mode %04o, owner %d", st.Mode&0o7777, st.Uid),
		})
	}
}

func (w *written) file(e *nixstore.Entry, name string) {
	d := &w.dirs[len(w.dirs)-1]
	if d.whole || d.told == maxOfDir && d.folds {
		d.count.files++
		d.count.bytes += e.Stat.Size
		return
	}
	d.told++
	f := report.Finding{Cause: report.WrittenUnknown, Path: name}
	st := &e.Stat
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFCHR && st.Rdev == 0 || kind == unix.S_IFREG && st.Size == 0 && overlayAttribute(e, "whiteout") != "":
		f.Got = "removed"
	case kind == unix.S_IFREG:
		f.Got = fmt.Sprintf("%s file of %d bytes, mode %04o, owner %d", w.word(name), st.Size, st.Mode&0o7777, st.Uid)
	case kind == unix.S_IFLNK:
		f.Got = w.word(name) + " link"
	default:
		f.Got = w.word(name) + " special file"
	}
	w.find(f)
}

// leave reports the directories that the walk leaves when it goes to name.
func (w *written) leave(name string) {
	for len(w.dirs) > 0 {
		d := &w.dirs[len(w.dirs)-1]
		if name != "" && strings.HasPrefix(name, d.name) {
			return
		}
		if d.count.files > 0 {
			f := report.Finding{Cause: report.WrittenUnknown, Path: strings.TrimSuffix(d.name, "/"), Got: "a new directory with " + d.count.contents()}
			if f.Path == "" {
				f.Path = "/"
			}
			if !d.whole {
				f.Field, f.Got = moreField, d.count.contents()+" beyond those that are listed"
			}
			// No exception names a file in it, see folds: any name stands for all.
			if i := w.m.excusedBy(report.Finding{Path: d.name + moreField}); i >= 0 && !d.whole {
				w.used[i]++
			} else {
				w.find(f)
			}
		}
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
}

// mayAdminister reports whether the attributes of an overlay can be read.
func mayAdminister() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// overlayAttribute returns an attribute that an overlay sets on an entry of its upper layer.
func overlayAttribute(e *nixstore.Entry, name string) string {
	if v := e.Attribute("trusted.overlay." + name); v != "" {
		return v
	}
	return e.Attribute("user.overlay." + name) // with the option userxattr
}

// below reports whether a layer below has something of that name.
func (w *written) below(name string) bool {
	return slices.ContainsFunc(w.lower, func(dir string) bool {
		_, err := w.m.Store.Stat(path.Join(dir, name))
		return err == nil
	})
}

// word says whether a file is new to the layers below, if they are visible.
func (w *written) word(name string) string {
	switch {
	case !w.layered:
		return "a new or changed"
	case w.below(name):
		return "a changed"
	}
	return "a new"
}
