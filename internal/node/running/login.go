package running

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// profiles are the profiles, below root's home if not absolute, that a login of root
// searches for programs before those of the system: environment.profiles of NixOS.
var profiles = []string{".nix-profile", ".local/state/nix/profile", "/nix/var/nix/profiles/default"}

// loginFiles are the files, in root's home if not absolute, that its shells and its service
// manager run or load without being asked. A NixOS has none of them.
var loginFiles = []string{
	".profile", ".bash_profile", ".bash_login", ".bashrc", ".bash_logout", ".inputrc",
	".bash_completion", ".config/bash_completion", ".local/share/bash-completion",
	".zshenv", ".zprofile", ".zshrc", ".zlogin", ".zlogout", ".kshrc",
	".config/fish/config.fish", ".config/fish/conf.d", ".config/fish/functions",
	".ssh/rc", ".ssh/environment",
}

// managerFiles are the files in a home from which a user's own service manager starts
// something, or takes what it gives to everything that it starts; managerRun are those in
// the directory of its runtime files, profileUnits those in a profile of Nix.
var (
	managerFiles = []string{
		".config/systemd/user", ".config/systemd/user.control", ".local/share/systemd/user",
		".config/systemd/user.conf", ".config/systemd/user.conf.d", ".config/environment.d",
		".config/user-tmpfiles.d", ".local/share/user-tmpfiles.d", ".config/containers/systemd",
	}
	managerRun   = []string{"systemd/user", "systemd/user.control", "user-tmpfiles.d"}
	profileUnits = []string{"share/systemd/user", "etc/xdg/systemd/user"}
)

// lingering is the directory in which the login manager lists the users whose service
// managers start at boot.
const lingering = "/var/lib/systemd/linger"

// checkLogin finds files that a login of root runs and that are not from the accepted
// system.
func (m *Machine) checkLogin(ctx context.Context, l *look, want *expected.Users) error {
	home := "/root"
	if root := want.User("root"); root != nil && root.Home != "" {
		home = root.Home
	}
	for _, name := range slices.Concat(profiles, loginFiles) {
		if !path.IsAbs(name) {
			name = path.Join(home, name)
		}
		if err := l.atLogin(ctx, name); err != nil {
			return err
		}
	}
	return l.managed(ctx, home, "0")
}

// managed finds files that make the service manager of a user start something and that are
// not from the accepted system.
func (l *look) managed(ctx context.Context, home, number string) error {
	for _, name := range managerFiles {
		if err := l.atLogin(ctx, path.Join(home, name)); err != nil {
			return err
		}
	}
	for _, name := range managerRun {
		if err := l.atLogin(ctx, path.Join("/run/user", number, name)); err != nil {
			return err
		}
	}
	return nil
}

// checkLingering finds users whose service managers start at boot although the
// configuration does not set that. For users for whom it does, it finds the units in their
// homes. The service managers of all other users start only at a login, and their units
// are their own affair.
func (m *Machine) checkLingering(ctx context.Context, l *look) error {
	want, err := m.expectedWhole(ctx)
	if err != nil {
		return err
	}
	var users []string
	if err := l.entries(lingering, func(name string, st *unix.Stat_t) error {
		users = append(users, path.Base(name))
		if slices.Contains(want.Lingering, path.Base(name)) {
			return nil
		}
		return l.foreign(ctx, name, st)
	}); err != nil || len(users) == 0 {
		return err
	}
	for _, fields := range l.records("/etc/passwd", 7) {
		if !slices.Contains(users, fields[0]) || fields[0] == "root" || !path.IsAbs(fields[5]) {
			continue
		}
		if err := l.managed(ctx, fields[5], path.Base(fields[2])); err != nil {
			return err
		}
		for _, profile := range profiles {
			for _, units := range profileUnits {
				if path.IsAbs(profile) {
					continue // looked at for root
				}
				if err := l.atLogin(ctx, path.Join(fields[5], profile, units)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// atLogin finds a file, or the files in a directory, that do not lead into the accepted
// system. A profile without programs has only the list of its programs.
func (l *look) atLogin(ctx context.Context, name string) error {
	at, err := l.m.Store.Follow(name)
	switch {
	case isAbsent(err), errors.Is(err, nixstore.ErrLinkLoop), errors.Is(err, unix.ENOTDIR):
		return ctx.Err()
	case errors.Is(err, nixstore.ErrProcessLink):
		l.find(report.Finding{Cause: report.FileUnknown, Path: name, Got: "it " + nixstore.ErrProcessLink.Error(), Detail: notable(name)})
		return ctx.Err()
	case err != nil:
		l.unseen(name, err)
		return ctx.Err()
	}
	l.checked++
	if _, ours := l.m.leadsIn(name); ours {
		return ctx.Err()
	}
	st, err := l.m.Store.Stat(name)
	if err != nil {
		return ctx.Err() // it was removed meanwhile
	}
	names, err := l.m.Store.List(at, maxEntries)
	if err != nil {
		return l.foreign(ctx, name, &st)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "manifest.nix" || n == "manifest.json" })
	if len(names) == 0 {
		return ctx.Err()
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || strings.Count(name, "/") >= etcDepth {
		return l.foreign(ctx, name, &st)
	}
	for _, base := range names {
		if err := l.atLogin(ctx, path.Join(name, base)); err != nil {
			return err
		}
	}
	return nil
}
