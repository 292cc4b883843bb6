package nix

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Version is the version of the nix program. The zero value is no version.
type Version struct {
	// Vendor is "Nix", or a fork's name for itself, e.g. "Lix, like Nix".
	Vendor              string
	Major, Minor, Patch int
}

// minVersion is the oldest supported Nix: older ones interpret "drv^out" and locked
// paths differently.
var minVersion = Version{Major: 2, Minor: 18}

// String returns v as in "Nix 2.26.3".
func (v Version) String() string {
	return fmt.Sprintf("%s %d.%d.%d", v.Vendor, v.Major, v.Minor, v.Patch)
}

// AtLeast reports whether v is major.minor or newer. Forks continue the version
// numbers of Nix.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// VersionError means that the nix program is too old.
type VersionError struct{ Got Version }

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s is too old: version %d.%d or newer is needed", e.Got, minVersion.Major, minVersion.Minor)
}

// Version returns the version of the nix program, which is asked once. For a version
// before 2.18 it fails with a [*VersionError].
func (n *Nix) Version(ctx context.Context) (Version, error) {
	n.mu.Lock()
	v := n.version
	n.mu.Unlock()
	if v != (Version{}) {
		return v, nil
	}
	out, err := n.run(ctx, command{program: "nix", args: []string{"--version"}, isolated: true, stateless: true, timeout: n.config.Timeout})
	if err != nil {
		return Version{}, err
	}
	if v, err = parseVersion(string(out)); err != nil {
		return Version{}, err
	}
	if !v.AtLeast(minVersion.Major, minVersion.Minor) {
		return v, &VersionError{Got: v}
	}
	n.mu.Lock()
	n.version = v
	n.mu.Unlock()
	return v, nil
}

// versionPattern is "nix (Nix) 2.26.3", "nix (Lix, like Nix) 2.93.0",
// "nix (Determinate Nix 3.6.1) 2.29.0", "nix (Nix) 2.35.0pre20260101_abcdef".
var versionPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^nix \(([A-Za-z0-9 ,.+-]{1,60})\) ([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:[A-Za-z._+-][0-9A-Za-z._+-]{0,60})?$`)
})

func parseVersion(s string) (Version, error) {
	m := versionPattern().FindStringSubmatch(strings.TrimSuffix(s, "\n"))
	if m == nil {
		return Version{}, fmt.Errorf("nix --version prints %q, which is no version", clip(printable(s)))
	}
	v := Version{Vendor: m[1]}
	v.Major, _ = strconv.Atoi(m[2]) // digits, and few
	v.Minor, _ = strconv.Atoi(m[3])
	v.Patch, _ = strconv.Atoi(m[4])
	return v, nil
}
