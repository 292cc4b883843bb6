package expected

import (
	"cmp"
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

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Limits for reading a system.
const (
	maxEntries = 100_000 // of a directory, and of a tree
	maxFile    = 16 << 20
	maxWord    = 100
	maxText    = 1 << 20 // bytes of a file of lines
	maxDepth   = 64      // nested directories
)

// reader reads one system.
type reader struct {
	ctx   context.Context
	store *nixstore.Store
	m     *Machine
}

// Read reads the expected state of a machine from the files of the system toplevel in
// store. paths is the closure of toplevel.
func Read(ctx context.Context, store *nixstore.Store, configuration string, toplevel closure.StorePath, paths []closure.PathInfo) (*Machine, error) {
	r := &reader{ctx, store, &Machine{
		SchemaVersion: Schema, Kind: Kind, Configuration: configuration, Toplevel: toplevel,
		Etc: []Entry{}, Units: []Unit{}, Mounts: []string{}, Parameters: []string{}, Sysctl: []string{}, Modules: []string{}, Modprobe: []string{},
		Firewall: &Firewall{Backend: NoFirewall, Form: FirewallForm, Tables: []Table{}},
	}}
	if err := r.read(paths); err != nil {
		return nil, fmt.Errorf("the expected state of a machine with %s: %w", toplevel, err)
	}
	return r.m, nil
}

func (r *reader) read(paths []closure.PathInfo) error {
	m := r.m
	parameters, err := r.text(string(m.Toplevel) + "/kernel-params")
	if err != nil {
		return err
	}
	m.Parameters = append(m.Parameters, strings.Fields(parameters)...)
	if m.Users, err = readUsers(r.store, paths); err != nil {
		return err
	}
	if m.Lingering, err = readLingering(r.store, paths); err != nil {
		return err
	}
	p, rest, err := r.store.ResolveLink(string(m.Toplevel) + "/etc")
	if errors.Is(err, fs.ErrNotExist) && p == m.Toplevel {
		return nil
	}
	if err != nil {
		return err
	}
	m.EtcTree = string(p) + rest
	if err := r.etc("", 0); err != nil {
		return err
	}
	slices.SortFunc(m.Etc, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	if err := r.units("", 0); err != nil {
		return err
	}
	slices.SortFunc(m.Units, func(a, b Unit) int { return cmp.Compare(a.Path, b.Path) })
	if m.Mounts, err = r.lines("fstab"); err != nil {
		return err
	}
	for _, dir := range []struct {
		name string
		to   *[]string
	}{{"sysctl.d", &m.Sysctl}, {"modules-load.d", &m.Modules}, {"modprobe.d", &m.Modprobe}} {
		if *dir.to, err = r.linesIn(dir.name); err != nil {
			return err
		}
	}
	m.Firewall, err = r.readFirewall(paths)
	return err
}

// etc reads the directory rel of the etc tree.
func (r *reader) etc(rel string, depth int) error {
	tree := r.m.EtcTree
	return r.each(path.Join(tree, rel), depth, len(r.m.Etc), func(name string, names []string, st *unix.Stat_t) error {
		e := Entry{Path: path.Join(rel, name)}
		var err error
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			e.Directory = true
			r.m.Etc = append(r.m.Etc, e)
			return r.etc(e.Path, depth+1)
		case slices.Contains(names, name+".mode"):
			err = r.copied(&e)
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			e.Target = "/etc/static/" + e.Path
		default:
			return nil // plain files only describe how others are copied
		}
		r.m.Etc = append(r.m.Etc, e)
		return err
	})
}

// copied reads an entry that is copied instead of linked.
func (r *reader) copied(e *Entry) error {
	at := path.Join(r.m.EtcTree, e.Path)
	var words [3]string
	for i, ending := range []string{".mode", ".uid", ".gid"} {
		data, _, err := r.store.ReadOutside(at+ending, maxWord)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		words[i] = strings.TrimSpace(string(data))
	}
	if words[0] == "direct-symlink" {
		target, err := r.store.Target(at)
		e.Target = target
		return err
	}
	mode, err := strconv.ParseUint(words[0], 8, 12)
	if err != nil {
		return fmt.Errorf("%s.mode: %w", at, err)
	}
	data, _, err := r.store.ReadOutside(at, maxFile)
	if err != nil {
		return err
	}
	e.Copy = &Copy{Source: at, SHA256: nar.Hash(sha256.Sum256(data)), Mode: fmt.Sprintf("%04o", mode), User: words[1], Group: words[2]}
	return nil
}

// units reads the directory rel of the units.
func (r *reader) units(rel string, depth int) error {
	dir := path.Join(r.m.EtcTree, "systemd/system", rel)
	return r.each(dir, depth, len(r.m.Units), func(name string, _ []string, _ *unix.Stat_t) error {
		u := Unit{Path: path.Join(rel, name)}
		if target, err := r.store.Target(path.Join(dir, name)); err == nil && target == "/dev/null" {
			u.Target = target
			r.m.Units = append(r.m.Units, u)
			return nil
		}
		p, rest, err := r.store.ResolveLink(path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a link that leads nowhere is not a unit
		}
		if err != nil {
			return err
		}
		u.Target = string(p) + rest
		if st, err := r.store.Stat(u.Target); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return errors.Join(err, r.units(u.Path, depth+1))
		}
		r.m.Units = append(r.m.Units, u)
		return nil
	})
}

// each calls do for each name in a directory of the system, which need not exist. count is
// the number of earlier entries of the same kind.
func (r *reader) each(dir string, depth, count int, do func(name string, names []string, st *unix.Stat_t) error) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	names, err := r.store.List(dir, maxEntries)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if count+len(names) > maxEntries || depth > maxDepth {
		return fmt.Errorf("%s: more than %d entries, or directories deeper than %d", dir, maxEntries, maxDepth)
	}
	for _, name := range names {
		st, err := r.store.Stat(path.Join(dir, name))
		if err == nil {
			err = do(name, names, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linesIn returns the lines of the files in a directory of the etc tree, in the order
// of their names.
func (r *reader) linesIn(dir string) ([]string, error) {
	names, err := r.store.List(path.Join(r.m.EtcTree, dir), maxEntries)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(names)
	out := []string{}
	for _, name := range names {
		if !strings.HasSuffix(name, ".conf") {
			continue
		}
		lines, err := r.lines(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return out, nil
}

// lines returns the lines of a file of the etc tree, without comments and empty lines.
func (r *reader) lines(name string) ([]string, error) {
	text, err := r.text(path.Join(r.m.EtcTree, name))
	if err != nil {
		return nil, err
	}
	out := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			out = append(out, line)
		}
	}
	return out, nil
}

// text returns the contents of a file; "" if it does not exist.
func (r *reader) text(name string) (string, error) {
	data, _, err := r.store.ReadOutside(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}
