package running

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

const (
	wrappersDir  = "/run/wrappers"
	wrappersUnit = "/etc/systemd/system/suid-sgid-wrappers.service"
	maxUnitFile  = 4 << 20  // bytes of a unit, and of its script
	maxWrapper   = 16 << 20 // bytes of a program
)

// wrapper is a program that the configuration lets run with other rights than those of the
// user who starts it.
type wrapper struct {
	source       string // the program that it is a copy of
	owner, group string
	mode         uint32
	capabilities capabilities
	unclear      error // why mode or capabilities could not be worked out
}

// parseWrappers returns, by name, the wrappers that NixOS's script makes
// (nixos/modules/security/wrappers).
func parseWrappers(script string) map[string]*wrapper {
	out := map[string]*wrapper{}
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		name, ok := strings.CutPrefix(strings.Trim(f[len(f)-1], `"`), "$wrapperDir/")
		if !ok {
			continue
		}
		w := out[name]
		if w == nil {
			w = new(wrapper)
			out[name] = w
		}
		what := strings.Trim(strings.Join(f[1:len(f)-1], " "), `"`)
		var err error
		switch path.Base(f[0]) {
		case "cp":
			w.source = what
		case "chown":
			w.owner, w.group, _ = strings.Cut(what, ":")
		case "setcap":
			w.capabilities, err = parseCapabilities(what)
		case "chmod":
			for _, clause := range strings.Split(what, ",") {
				if w.mode, err = chmod(w.mode, clause); err != nil {
					break
				}
			}
		}
		w.unclear = cmp.Or(w.unclear, err)
	}
	return out
}

// wrappers returns the wrappers of the accepted system; none if it makes none.
func (m *Machine) wrappers() (map[string]*wrapper, error) {
	unit, err := m.ofToplevel(wrappersUnit, maxUnitFile)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(unit)) {
		start, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=")
		if f := strings.Fields(start); ok && len(f) > 0 {
			p, rest, err := m.Store.Dir().Within(f[0])
			if err != nil || !m.ofRelease(p) {
				return nil, fmt.Errorf("%s starts a program that does not belong to the release", wrappersUnit)
			}
			script, err := m.Store.ReadFile(p, rest, maxUnitFile)
			if err != nil {
				return nil, err
			}
			return parseWrappers(string(script)), nil
		}
	}
	return nil, nil
}

// ofToplevel reads a file of the accepted system, by its path on the machine.
func (m *Machine) ofToplevel(name string, limit int64) ([]byte, error) {
	p, rest, err := m.Store.ResolveLink(string(m.Toplevel) + name)
	if err != nil {
		return nil, err
	}
	if !m.ofRelease(p) {
		return nil, fmt.Errorf("%s%s leads out of the release", m.Toplevel, name)
	}
	return m.Store.ReadFile(p, rest, limit)
}

// checkWrappers compares the wrappers on the machine with those of the configuration.
func (m *Machine) checkWrappers(ctx context.Context, l *look) error {
	want, err := m.wrappers()
	if err != nil {
		return fmt.Errorf("the wrappers of the accepted system: %w", err)
	}
	// "bin" leads to the directory in effect.
	dir, err := m.Store.Target(path.Join(wrappersDir, "bin"))
	if err == nil && (path.Dir(dir) != wrappersDir || !strings.HasPrefix(path.Base(dir), "wrappers.")) {
		l.find(report.Finding{Cause: report.FileUnknown, Path: wrappersDir + "/bin", Want: "a link to " + wrappersDir + "/wrappers.…", Got: "a link to " + dir})
	}
	seen := map[string]bool{}
	err = m.Store.Walk(ctx, wrappersDir, func(e *nixstore.Entry) error {
		name := path.Join(wrappersDir, e.Name())
		if l.checked++; l.checked > maxEntries {
			return fmt.Errorf("%s has more than %d entries", wrappersDir, maxEntries)
		}
		if e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			l.judgeOwner(name, &e.Stat)
			return nil
		}
		base, below := strings.CutPrefix(name, dir+"/")
		if w := want[base]; below && w != nil {
			seen[base] = true
			if err := l.judgeWrapper(e, name, w); err != nil {
				l.unseen(name, err)
			}
			return nil
		}
		if name == wrappersDir+"/bin" && e.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil
		}
		return l.foreign(ctx, name, &e.Stat)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name, w := range want {
		if !seen[name] {
			l.find(report.Finding{Cause: report.EtcAltered, Path: wrappersDir + "/bin/" + name, Want: w.String(), Got: "nothing"})
		}
	}
	return nil
}

func (w *wrapper) String() string {
	return fmt.Sprintf("a copy of %s, mode %04o, owner %s, group %s", w.source, w.mode, w.owner, w.group)
}

// judgeWrapper compares a wrapper with the expected one. It returns an error if the expected
// one is unknown.
func (l *look) judgeWrapper(e *nixstore.Entry, name string, w *wrapper) error {
	f := report.Finding{Cause: report.EtcAltered, Path: name, Want: w.String()}
	mode := e.Stat.Mode & 0o7777
	// The number of a name other than root's is unknown, but it is not root's.
	is := func(owner string, id uint32) bool { return (id == 0) == (owner == "root") && owns(owner, id) }
	switch {
	case w.unclear != nil:
		return w.unclear
	case e.Stat.Mode&unix.S_IFMT != unix.S_IFREG:
		f.Got = "another kind of file"
	case mode != w.mode:
		f.Got = fmt.Sprintf("mode %04o", mode)
	case !is(w.owner, e.Stat.Uid) || !is(w.group, e.Stat.Gid):
		f.Got = fmt.Sprintf("owner %d, group %d", e.Stat.Uid, e.Stat.Gid)
	case capabilitiesOf(e.Attribute("security.capability")) != w.capabilities:
		f.Got = "other file capabilities"
	default:
		p, rest, err := l.m.Store.Dir().Within(w.source)
		if err != nil || !l.m.ofRelease(p) {
			return fmt.Errorf("it should be a copy of %s, which does not belong to the release", excerpt.Of(w.source, maxKernelShown))
		}
		want, err := l.m.Store.ReadFile(p, rest, maxWrapper)
		if err != nil {
			return err
		}
		got, _, err := l.m.Store.ReadOutside(name, maxWrapper)
		if err != nil && !isAbsent(err) {
			return err
		}
		if bytes.Equal(want, got) {
			return nil
		}
		f.Got = "other contents"
	}
	l.find(f)
	return nil
}
