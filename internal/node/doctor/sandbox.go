package doctor

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
)

// The units, whose files are in systemd/.
const (
	VerifyUnit  = "ec-verify.service"
	FetchUnit   = "ec-verify-fetch.service"
	RebuildUnit = "ec-verify-rebuild.service"
	VerifyTimer = "ec-verify.timer"
	// RebuildTimer starts RebuildUnit.
	RebuildTimer = "ec-verify-rebuild.timer"
	// GateUnit closes the gate at each boot, where it is enabled.
	GateUnit = "ec-verify-gate.service"
)

// Services returns the services that a machine with the configuration c needs.
func Services(c config.Config) []string {
	if c.Rebuild.Choice == config.Default().Rebuild.Choice { // none
		return []string{VerifyUnit, FetchUnit}
	}
	return []string{VerifyUnit, FetchUnit, RebuildUnit}
}

// timers returns the timers that it needs.
func timers(c config.Config) []string {
	if slices.Contains(Services(c), RebuildUnit) {
		return []string{VerifyTimer, RebuildTimer}
	}
	return []string{VerifyTimer}
}

// shipped returns the sandbox of the shipped services, for a machine whose systemd can't
// be asked. The configuration says which files are looked up, so the other things that
// one of the services hides do not matter.
func shipped() systemd.Sandbox {
	return systemd.Sandbox{
		ProtectHome: "yes", ProtectSystem: "strict", PrivateTmp: true, State: []string{"ec-verify"},
		Capabilities:   1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID,
		PrivateNetwork: true, Families: systemd.Families{Only: true, Names: []string{"AF_UNIX"}},
	}
}

// shippedRebuild is shipped for the service that rebuilds.
func shippedRebuild() systemd.Sandbox {
	s := shipped()
	s.Capabilities |= 1 << unix.CAP_NET_ADMIN
	s.Families.Names = append(s.Families.Names, "AF_NETLINK")
	return s
}

// grants reports whether a service has a setting of [running.Needs].
func grants(s systemd.Sandbox, setting string) bool {
	has := func(capability int) bool { return s.Capabilities&(1<<capability) != 0 }
	switch setting {
	case "CapabilityBoundingSet=CAP_SYS_PTRACE":
		return has(unix.CAP_SYS_PTRACE)
	case "CapabilityBoundingSet=CAP_CHECKPOINT_RESTORE":
		return has(unix.CAP_CHECKPOINT_RESTORE)
	case "CapabilityBoundingSet=CAP_NET_ADMIN":
		return has(unix.CAP_NET_ADMIN)
	case "PrivateNetwork=no":
		return !s.PrivateNetwork
	case "RestrictAddressFamilies=AF_NETLINK":
		return s.Families.Allow("AF_NETLINK")
	}
	return false
}

func below(path string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		rel, err := filepath.Rel(dir, path)
		return err == nil && filepath.IsLocal(rel)
	})
}

// hides returns the setting that hides path, or its target, from a service; "" for none.
func hides(s systemd.Sandbox, path string) string {
	names := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		names = append(names, real)
	}
	for _, name := range names {
		switch {
		case below(name, s.Bound...):
		case (s.ProtectHome == "yes" || s.ProtectHome == "tmpfs") && below(name, "/home", "/root", "/run/user"):
			return "ProtectHome=" + s.ProtectHome
		case s.PrivateTmp && below(name, "/tmp", "/var/tmp"):
			return "PrivateTmp=yes"
		case below(name, s.Inaccessible...):
			return "InaccessiblePaths="
		}
	}
	return ""
}

// writes reports whether a service may write to the directory path, which it sees, and if
// not, which setting prevents that.
func writes(s systemd.Sandbox, path string) (reason string, ok bool) {
	var state []string
	for _, dir := range s.State {
		state = append(state, filepath.Join("/var/lib", dir))
	}
	switch {
	case below(path, s.ReadWrite...), below(path, state...), below(path, s.Bound...):
		return "", true
	case below(path, s.ReadOnly...):
		return "ReadOnlyPaths=", false
	case s.ProtectSystem == "strict" && !below(path, "/dev", "/proc", "/sys"):
		return "ProtectSystem=strict", false
	case s.ProtectSystem == "full" && below(path, "/etc", "/usr", "/boot", "/efi"):
		return "ProtectSystem=full", false
	case s.ProtectSystem == "yes" && below(path, "/usr", "/boot", "/efi"):
		return "ProtectSystem=yes", false
	}
	return "", true
}
