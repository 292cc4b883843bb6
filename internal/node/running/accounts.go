package running

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/report"
)

// checkAccounts looks into the files that say who may log in, and as whom. Where the
// accepted system says nothing of users, want is nil.
func (m *Machine) checkAccounts(l *look, want *expected.Users) {
	groups := map[string][]string{} // names, by number
	for _, fields := range l.records("/etc/group", 4) {
		name, number := fields[0], strings.TrimSpace(fields[2])
		groups[number] = append(groups[number], name)
		if f := judgeGroup(want, name, number, fields[3]); f.Cause != "" {
			l.find(f)
		}
	}
	homes := []string{"/root"}
	for _, fields := range l.records("/etc/passwd", 7) {
		if f := judgeUser(want, groups, fields); f.Cause != "" {
			l.find(f)
		}
		if home := fields[5]; strings.HasPrefix(home, "/") && !slices.Contains(homes, home) {
			homes = append(homes, home)
		}
	}
	for _, fields := range l.records("/etc/shadow", 2) {
		if fields[1] == "" && !passwordless(want, fields[0]) {
			l.find(report.Finding{
				Cause: report.AccountAltered, Path: "/etc/shadow", Field: fields[0],
				Want: "a password, or none that lets in", Got: "an empty password",
			})
		}
	}
	for _, home := range homes {
		l.checkKeys(home)
	}
}

func passwordless(want *expected.Users, name string) bool {
	u := want.User(name)
	return u != nil && u.Passwordless
}

// judgeUser compares a line of /etc/passwd; a finding without a cause is none.
func judgeUser(want *expected.Users, groups map[string][]string, fields []string) report.Finding {
	name, uid, gid, home, shell := fields[0], strings.TrimSpace(fields[2]), strings.TrimSpace(fields[3]), fields[5], strings.TrimSpace(fields[6])
	f := report.Finding{Cause: report.AccountAltered, Path: "/etc/passwd", Field: name}
	number, err := strconv.ParseUint(uid, 10, 32)
	user := want.User(name)
	switch {
	case err != nil:
		f.Want, f.Got = "a number as the user's", fmt.Sprintf("%q", uid)
	case number == 0 && name != "root":
		f.Want, f.Got = "no user with the rights of root but root", "user "+name+" has the number 0"
	case number != 0 && name == "root":
		f.Want, f.Got = "number 0", uid
	case fields[1] == "" && !passwordless(want, name):
		f.Want, f.Got = "a password, or none that lets in", "an empty password"
	case want != nil && !want.Mutable && user == nil:
		f.Want, f.Got = "the users of the configuration", "user "+name
	case user == nil:
		return report.Finding{}
	case user.Number != nil && uint64(*user.Number) != number:
		f.Want, f.Got = fmt.Sprintf("number %d", *user.Number), uid
	case user.Group != "" && len(groups[gid]) > 0 && !slices.Contains(groups[gid], user.Group):
		f.Want, f.Got = "group "+user.Group, "group "+groups[gid][0]
	case user.Home != "" && user.Home != home:
		f.Want, f.Got = "home "+user.Home, "home "+home
	case user.Shell != "" && user.Shell != shell:
		f.Want, f.Got = "shell "+user.Shell, "shell "+shell
	default:
		return report.Finding{}
	}
	return f
}

// judgeGroup compares a line of /etc/group; a finding without a cause is none.
func judgeGroup(want *expected.Users, name, number, members string) report.Finding {
	f := report.Finding{Cause: report.AccountAltered, Path: "/etc/group", Field: name}
	if number == "0" && name != "root" {
		f.Want, f.Got = "no group with the number 0 but root", "group "+name
		return f
	}
	group := want.Group(name)
	if group == nil || want.Mutable {
		return report.Finding{}
	}
	for _, member := range strings.Split(strings.TrimSpace(members), ",") {
		if member != "" && !slices.Contains(group.Members, member) {
			f.Want, f.Got = "members "+strings.Join(group.Members, ","), "member "+member
			return f
		}
	}
	return report.Finding{}
}

// records returns the lines of a file with accounts that have at least n fields,
// and finds those that have not.
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
	if st.Uid != 0 || st.Mode&0o022 != 0 || name == "/etc/shadow" && st.Mode&0o007 != 0 {
		l.find(report.Finding{
			Cause: report.AccountAltered, Path: name, Want: "owner 0, writable by nobody else; of shadow, readable by nobody else",
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
		l.find(report.Finding{Cause: report.AccountAltered, Path: name, Field: line, Want: "a line of the form of this file"})
	}
	return out
}

// checkKeys finds keys that let somebody log in which the configuration does not
// give: those are in /etc/ssh/authorized_keys.d.
func (l *look) checkKeys(home string) {
	for _, file := range []string{"authorized_keys", "authorized_keys2"} {
		name := path.Join(home, ".ssh", file)
		if _, ours := l.m.leadsIn(name); ours {
			continue
		}
		data, st, err := l.m.Store.ReadOutside(name, maxLinkList)
		if err != nil {
			if !isAbsent(err) && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				l.unseen(name, err)
			}
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
				Got: fmt.Sprintf("%d keys that let in", keys),
			})
		}
	}
}
