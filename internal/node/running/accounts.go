package running

import (
	"crypto/sha256"
	"errors"
	"fmt"
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

// checkAccounts checks the files that determine who may log in, and as whom. If the
// accepted system does not state its users, want is nil.
func (m *Machine) checkAccounts(l *look, want *expected.Users) {
	lines := l.records("/etc/group", 4)
	groups := namesOf(lines)
	for _, fields := range lines {
		l.judged(judgeGroup(want, groups, fields))
	}
	for _, fields := range l.records("/etc/gshadow", 4) {
		l.judged(judgeHiddenGroup(want, fields))
	}
	homes := map[string][]string{"/root": {"root"}}
	users := map[uint64][]string{}
	for _, fields := range l.records("/etc/passwd", 7) {
		l.judged(judgeUser(want, groups, fields))
		if home := fields[5]; strings.HasPrefix(home, "/") {
			homes[home] = append(homes[home], fields[0])
		}
		if number, err := idOf(fields[2]); err == nil {
			users[number] = append(users[number], fields[0])
		}
	}
	for _, fields := range l.records("/etc/shadow", 2) {
		if fields[1] == "" && !passwordless(want, fields[0]) {
			l.find(report.Finding{
				Cause: report.AccountAltered, Path: "/etc/shadow", Field: fields[0],
				Want: "a password, or a locked account", Got: "an empty password",
			})
		}
	}
	for file, taken := range map[string]map[uint64][]string{"/etc/subuid": users, "/etc/subgid": groups} {
		for _, fields := range l.records(file, 3) {
			l.judged(judgeRange(file, taken, fields))
		}
	}
	for home, names := range homes {
		l.checkKeys(home, names)
	}
}

// judged adds f to the findings, unless it has no cause.
func (l *look) judged(f report.Finding) {
	if f.Cause != "" {
		l.find(f)
	}
}

// idOf parses the number of a user or group, which may have leading zeros.
func idOf(text string) (uint64, error) { return strconv.ParseUint(strings.TrimSpace(text), 10, 32) }

// namesOf returns the names of groups by their number. One number may have several.
func namesOf(groups [][]string) map[uint64][]string {
	out := map[uint64][]string{}
	for _, fields := range groups {
		if number, err := idOf(fields[2]); err == nil {
			out[number] = append(out[number], fields[0])
		}
	}
	return out
}

// isLock reports whether a password field allows no password: the password is in another
// file ("x"), or no input matches.
func isLock(field string) bool {
	return field == "x" || strings.HasPrefix(field, "!") || strings.HasPrefix(field, "*")
}

func passwordless(want *expected.Users, name string) bool {
	u := want.User(name)
	return u != nil && u.Passwordless
}

// judgeUser compares a line of /etc/passwd; the finding has no cause if nothing is wrong.
func judgeUser(want *expected.Users, groups map[uint64][]string, fields []string) report.Finding {
	name, home, shell := fields[0], fields[5], strings.TrimSpace(fields[6])
	f := report.Finding{Cause: report.AccountAltered, Path: "/etc/passwd", Field: name}
	number, err := idOf(fields[2])
	gid, gidErr := idOf(fields[3])
	user := want.User(name)
	switch {
	case err != nil:
		f.Want, f.Got = "a number for the user", fmt.Sprintf("%q", fields[2])
	case gidErr != nil:
		f.Want, f.Got = "a number for the group", fmt.Sprintf("%q", fields[3])
	case number == 0 && name != "root":
		f.Want, f.Got = "another number", "number 0"
	case number != 0 && name == "root":
		f.Want, f.Got = "number 0", fields[2]
	case fields[1] == "" && !passwordless(want, name):
		f.Want, f.Got = "a password, or a locked account", "an empty password"
	case fields[1] != "" && !isLock(fields[1]):
		f.Want, f.Got = "no password in this file", "one"
	case want != nil && !want.Mutable && user == nil:
		f.Want, f.Got = "the users of the configuration", "user "+name
	case user == nil:
		return report.Finding{}
	case user.Number != nil && uint64(*user.Number) != number:
		f.Want, f.Got = fmt.Sprintf("number %d", *user.Number), fields[2]
	case !inGroup(want, groups, user.Group, gid):
		f.Want, f.Got = "group "+user.Group, fmt.Sprintf("group %d %s", gid, strings.Join(groups[gid], ", "))
	case user.Home != "" && user.Home != home:
		f.Want, f.Got = "home "+user.Home, "home "+home
	case user.Shell != "" && user.Shell != shell:
		f.Want, f.Got = "shell "+user.Shell, "shell "+shell
	default:
		return report.Finding{}
	}
	// An exception allows all of these together.
	f.Got += fmt.Sprintf(" (%s:%s:%s:%s)", fields[2], fields[3], home, shell)
	return f
}

// inGroup reports whether gid may be that of the group name.
func inGroup(want *expected.Users, groups map[uint64][]string, name string, gid uint64) bool {
	if name == "" || slices.Contains(groups[gid], name) {
		return true
	}
	if group := want.Group(name); group != nil && group.Number != nil {
		return uint64(*group.Number) == gid
	}
	// Without the file the number that the machine gave to the group is unknown.
	return len(groups) == 0
}

// judgeGroup compares a line of /etc/group; the finding has no cause if nothing is wrong.
func judgeGroup(want *expected.Users, groups map[uint64][]string, fields []string) report.Finding {
	name := fields[0]
	f := report.Finding{Cause: report.AccountAltered, Path: "/etc/group", Field: name}
	number, err := idOf(fields[2])
	group := want.Group(name)
	switch {
	case err != nil:
		f.Want, f.Got = "a number for the group", fmt.Sprintf("%q", fields[2])
	case number == 0 && name != "root":
		f.Want, f.Got = "no group but root with the number 0", "group "+name
	case fields[1] != "" && !isLock(fields[1]):
		f.Want, f.Got = "no password: anybody who knows it can join the group", "one"
	case want != nil && !want.Mutable && group == nil:
		f.Want, f.Got = "the groups of the configuration", "group "+name
	case group == nil:
		i := slices.IndexFunc(groups[number], func(other string) bool { return want.Group(other) != nil })
		if i < 0 {
			return report.Finding{}
		}
		f.Want, f.Got = "a number of its own", fmt.Sprintf("%d, as group %s", number, groups[number][i])
	case group.Number != nil && uint64(*group.Number) != number:
		f.Want, f.Got = fmt.Sprintf("number %d", *group.Number), fields[2]
	default:
		return judgeMembers(want, group, f, fields[3])
	}
	f.Got += fmt.Sprintf(" (%s:%s)", fields[2], strings.TrimSpace(fields[3]))
	return f
}

// judgeMembers compares the names in lists of members with those of the configuration.
func judgeMembers(want *expected.Users, group *expected.Group, f report.Finding, lists ...string) report.Finding {
	if group == nil || want.Mutable {
		return report.Finding{}
	}
	var more []string
	for _, member := range strings.Split(strings.Join(lists, ","), ",") {
		if member = strings.TrimSpace(member); member != "" && !slices.Contains(group.Members, member) {
			more = append(more, member)
		}
	}
	if len(more) == 0 {
		return report.Finding{}
	}
	f.Want, f.Got = "members "+strings.Join(group.Members, ","), "member "+strings.Join(more, ",")
	return f
}

// judgeHiddenGroup compares a line of /etc/gshadow, which newgrp(1) uses: a password,
// administrators and members. The finding has no cause if nothing is wrong.
func judgeHiddenGroup(want *expected.Users, fields []string) report.Finding {
	f := report.Finding{Cause: report.AccountAltered, Path: "/etc/gshadow", Field: fields[0]}
	if fields[1] != "" && !isLock(fields[1]) {
		f.Want, f.Got = "no password: anybody who knows it can join the group", "one"
		return f
	}
	return judgeMembers(want, want.Group(fields[0]), f, fields[2], fields[3])
}

// judgeRange checks a line of /etc/subuid or /etc/subgid: newuidmap(1) lets a user take
// each number of the range in a namespace, and with it whatever belongs to that number
// outside. taken are the names of the users with numbers. The finding has no cause if
// nothing is wrong.
func judgeRange(file string, taken map[uint64][]string, fields []string) report.Finding {
	f := report.Finding{Cause: report.AccountAltered, Path: file, Field: fields[0]}
	first, err := idOf(fields[1])
	count, countErr := idOf(fields[2])
	if err != nil || countErr != nil {
		f.Want, f.Got = "two numbers", fmt.Sprintf("%q and %q", fields[1], fields[2])
		return f
	}
	owner := fields[0]
	if owner == "root" || owner == "0" {
		return report.Finding{}
	}
	if first == 0 {
		f.Want, f.Got = "a range without the number 0, which is root's", "user "+owner+" may take the number 0"
		return f
	}
	lowest := uint64(0)
	for number, names := range taken {
		own := slices.Contains(names, owner) || owner == fmt.Sprint(number)
		if number >= first && number-first < count && !own && (lowest == 0 || number < lowest) {
			lowest = number
		}
	}
	if lowest == 0 {
		return report.Finding{}
	}
	f.Want = "a range without the numbers of other users"
	f.Got = fmt.Sprintf("user %s may take the number %d, of %s (%s:%s)", owner, lowest, taken[lowest][0], fields[1], strings.TrimSpace(fields[2]))
	return f
}

// records returns the lines of an account file that have at least n fields, and finds
// the others.
func (l *look) records(name string, n int) [][]string {
	data, st, err := l.m.Store.ReadOutside(name, maxAccounts)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		l.unseen(name, err)
		return nil
	}
	l.checked++
	secret := name == "/etc/shadow" || name == "/etc/gshadow"
	if st.Uid != 0 || st.Mode&0o022 != 0 || secret && st.Mode&0o007 != 0 {
		l.find(report.Finding{
			Cause: report.AccountAltered, Path: name, Want: "owner 0, writable only by the owner; with passwords, also readable only by the owner",
			Got: fmt.Sprintf("owner %d, mode %04o", st.Uid, st.Mode&0o7777),
		})
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if fields := strings.Split(line, ":"); len(fields) >= n && fields[0] != "" {
			out = append(out, fields)
			continue
		}
		l.find(report.Finding{Cause: report.AccountAltered, Path: name, Field: line, Want: "a line in the format of this file"})
	}
	return out
}

// areOthers reports whether a file of the release has the keys of users other than these.
func (m *Machine) areOthers(file string, users []string) bool {
	dir := string(m.Toplevel) + "/etc/ssh/authorized_keys.d"
	names, err := m.Store.List(dir, maxEntries)
	is := func(name string) bool {
		at, _ := m.leadsIn(path.Join(dir, name))
		return at == file
	}
	if isAbsent(err) || slices.ContainsFunc(users, is) {
		return false
	}
	return err != nil || slices.ContainsFunc(names, is)
}

// checkKeys finds keys in a home that allow a login and are not the configuration's.
// Those are in /etc/ssh/authorized_keys.d. users are the names of the home's users.
func (l *look) checkKeys(home string, users []string) {
	for _, file := range []string{"authorized_keys", "authorized_keys2"} {
		name := path.Join(home, ".ssh", file)
		if at, ours := l.m.leadsIn(name); ours && !l.m.areOthers(at, users) {
			continue
		}
		data, st, err := l.m.Store.ReadOutside(name, maxLinkList)
		if kind := st.Mode & unix.S_IFMT; isAbsent(err) || kind != 0 && kind != unix.S_IFREG {
			continue // sshd reads keys from nothing else
		}
		if _, end := l.m.Store.Follow(name); errors.Is(end, nixstore.ErrLinkLoop) {
			continue
		}
		if err != nil {
			l.unseen(name, err)
			continue
		}
		l.checked++
		keys := 0
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys++
			}
		}
		if keys > 0 {
			l.find(report.Finding{
				Cause: report.AccountAltered, Path: name, Want: "the keys of the configuration, in /etc/ssh/authorized_keys.d",
				Got: fmt.Sprintf("%d keys that allow a login, %s", keys, nar.Hash(sha256.Sum256(data))),
			})
		}
	}
}
