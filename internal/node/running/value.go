package running

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// lasting returns the part of f.Got that identifies the subject itself, without the number of
// a process or the way it was found.
func lasting(f *report.Finding) string {
	switch f.Cause {
	case report.CodeUnknown, report.UnitUnknown:
		return ""
	case report.SocketUnknown:
		_, where, _ := strings.Cut(f.Got, ", in ")
		return where
	}
	return f.Got
}

// valueOf returns what identifies the subject of a finding, so that its replacement has
// another value: for a file its mode, its owner and a hash of its contents, for a
// directory the same of everything in it, for other subjects the finding's own text.
// It is "" if no part of that text lasts.
func (m *Machine) valueOf(f *report.Finding) string {
	switch f.Cause {
	case report.FileUnknown, report.EtcAltered, report.UnitUnknown, report.CodeUnknown, report.WrittenUnknown:
		if f.Field == "" || f.Cause == report.WrittenUnknown && f.Field == moreField {
			if value := m.valueAt(f.Path); value != "" {
				return value
			}
			if f.Cause == report.FileUnknown || f.Cause == report.WrittenUnknown {
				if value := m.directoryValue(f.Path); value != "" {
					return value
				}
			}
		}
	}
	return lasting(f)
}

// Limits for hashing one value.
const (
	maxValued      = 256 << 20 // bytes of contents
	maxValuedFiles = 20_000
)

// valueAt returns the value of a file or a link; "" for anything else.
func (m *Machine) valueAt(name string) string {
	if m.Store == nil || !path.IsAbs(name) {
		return ""
	}
	st, err := m.Store.Stat(name)
	if err != nil {
		return ""
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return m.fileValue(name, maxValued)
	case unix.S_IFLNK:
		// Together with its target, which no other check may cover.
		target, _ := m.Store.Target(name)
		value := "a link to " + target
		if at := m.follow(name); at != "" && !beneath(at, string(m.Store.Dir())) {
			if of := m.fileValue(at, maxValued); of != "" {
				value += ": " + of
			}
		}
		return value
	}
	return ""
}

// rights returns a file's owner and mode, and its other rights if it has any.
func rights(st *unix.Stat_t, attribute func(string) string) string {
	s := fmt.Sprintf("mode %04o, owner %d", st.Mode&0o7777, st.Uid)
	if st.Gid != 0 {
		s += fmt.Sprintf(", group %d", st.Gid)
	}
	for _, a := range []struct{ name, what string }{{"security.capability", "capabilities"}, {"system.posix_acl_access", "access control list"}} {
		if value := attribute(a.name); value != "" {
			s += fmt.Sprintf(", %s %x", a.what, value)
		}
	}
	return s
}

// fileValue returns the value of a regular file of at most limit bytes; "" for anything
// else.
func (m *Machine) fileValue(name string, limit int64) string {
	if st, err := m.Store.Stat(name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	data, st, err := m.Store.ReadOutside(name, limit)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s, %s", rights(&st, func(a string) string { return m.Store.Attribute(name, a) }), nar.Hash(sha256.Sum256(data)))
}

// directoryValue returns the value of everything in a directory; "" if it is not a
// directory, or too large.
func (m *Machine) directoryValue(dir string) string {
	if m.Store == nil {
		return ""
	}
	var lines []string
	left := int64(maxValued)
	st, err := m.Store.Stat(dir)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ""
	}
	err = m.Store.Walk(context.Background(), dir, func(e *nixstore.Entry) error {
		name := path.Join(dir, e.Name())
		line := fmt.Sprintf("%q %06o %s", e.Name(), e.Stat.Mode, rights(&e.Stat, e.Attribute))
		switch e.Stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			value := m.fileValue(name, left)
			if value == "" {
				return errUncounted
			}
			left -= e.Stat.Size
			line += " " + value
		case unix.S_IFLNK:
			target, err := m.Store.Target(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprint(" ", e.Stat.Rdev)
		}
		if lines = append(lines, line); len(lines) > maxValuedFiles || left < 0 {
			return errUncounted
		}
		return nil
	})
	if err != nil {
		return ""
	}
	slices.Sort(lines)
	return fmt.Sprintf("a directory, mode %04o, owner %d, with %d entries, %s",
		st.Mode&0o7777, st.Uid, len(lines), nar.Hash(sha256.Sum256([]byte(strings.Join(lines, "\n")))))
}
