package running

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/report"
)

// configuredUsers is what NixOS's configuration says of users, as far as it
// matters here (nixos/modules/config/users-groups.nix).
type configuredUsers struct {
	MutableUsers bool             `json:"mutableUsers"`
	Users        []configuredUser `json:"users"`
}

type configuredUser struct {
	Name            string  `json:"name"`
	HashedPassword  *string `json:"hashedPassword"`
	InitialHashed   *string `json:"initialHashedPassword"`
	Password        *string `json:"password"`
	InitialPassword *string `json:"initialPassword"`
}

// users returns what the accepted system says of users; nil where it says nothing.
func (m *Machine) users() (*configuredUsers, error) {
	files := m.named("users-groups.json")
	if len(files) != 1 {
		return nil, nil
	}
	data, err := m.Store.ReadFile(files[0], "", maxAccounts)
	if err != nil {
		return nil, err
	}
	u := new(configuredUsers)
	if err := json.Unmarshal(data, u); err != nil {
		return nil, fmt.Errorf("%s: %w", files[0], err)
	}
	return u, nil
}

// has reports whether the configuration has the user name; without a configuration
// it has everybody.
func (u *configuredUsers) has(name string) bool {
	return u == nil || u.MutableUsers || slices.ContainsFunc(u.Users, func(user configuredUser) bool { return user.Name == name })
}

// passwordless reports whether the configuration lets a user in without a
// password, as that of an installer does.
func (u *configuredUsers) passwordless(name string) bool {
	if u == nil {
		return false
	}
	for _, user := range u.Users {
		if user.Name != name {
			continue
		}
		for _, p := range []*string{user.HashedPassword, user.InitialHashed, user.Password, user.InitialPassword} {
			if p != nil && *p == "" {
				return true
			}
		}
	}
	return false
}

// checkAccounts looks into the files that say who may log in, and as whom.
func (m *Machine) checkAccounts(l *look) {
	users, err := m.users()
	if err != nil {
		l.unseen("users-groups.json", err)
	}
	homes := []string{"/root"}
	for _, fields := range l.records("/etc/passwd", 7) {
		name, uid := fields[0], strings.TrimSpace(fields[2])
		f := report.Finding{Cause: report.AccountAltered, Path: "/etc/passwd", Field: name}
		number, err := strconv.ParseUint(uid, 10, 32)
		switch {
		case err != nil:
			f.Want, f.Got = "a number as the user's", fmt.Sprintf("%q", uid)
		case number == 0 && name != "root":
			f.Want, f.Got = "no user with the rights of root but root", "user "+name+" has the number 0"
		case number != 0 && name == "root":
			f.Want, f.Got = "number 0", uid
		case fields[1] == "" && !users.passwordless(name):
			f.Want, f.Got = "a password, or none that lets in", "an empty password"
		case !users.has(name):
			f.Want, f.Got = "the users of the configuration", "user "+name
		default:
			f.Cause = ""
		}
		if f.Cause != "" {
			l.find(f)
		}
		if home := fields[5]; strings.HasPrefix(home, "/") && !slices.Contains(homes, home) {
			homes = append(homes, home)
		}
	}
	for _, fields := range l.records("/etc/group", 4) {
		if fields[0] == "root" || strings.TrimSpace(fields[2]) != "0" {
			continue
		}
		l.find(report.Finding{
			Cause: report.AccountAltered, Path: "/etc/group", Field: fields[0],
			Want: "no group with the number 0 but root", Got: "group " + fields[0],
		})
	}
	for _, fields := range l.records("/etc/shadow", 2) {
		if fields[1] == "" && !users.passwordless(fields[0]) {
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
