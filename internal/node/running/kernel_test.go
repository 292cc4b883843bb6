package running

import (
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// TestKernel: what the kernel would start as root.
func TestKernel(t *testing.T) {
	ours, other := string(shell)+"/bin/sh", string(object("f", "bash"))+"/bin/sh"
	const pattern, modprobe, format = "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/x"
	for _, test := range []struct {
		name, file, text string
		found            bool
	}{
		{"a file for cores", pattern, "core", true},
		{"another program of the release", pattern, "|" + ours + " -c evil", true},
		{"another file that the release sets", "/proc/sys/kernel/hotplug", "", true},
		{"the release's, of a release before it", "/proc/sys/kernel/poweroff_cmd", ours + " now", false},
		{"a program of the release with arguments", "/sys/kernel/uevent_helper", ours + " -c", true},
		{"one of the configuration", pattern, "|/bin/false x", false},
		{"the same otherwise", pattern, "|/bin/false y", true},
		{"a program elsewhere", pattern, "|/var/evil", true},
		{"a program of another store path", pattern, "|" + other, true},
		{"a program past the release", pattern, "|" + ours + "/../../../../../var/evil", true},
		{"a socket", pattern, "@/run/evil", true},
		{"modules of the kernel's default", modprobe, "/sbin/modprobe", false},
		{"by the running system", modprobe, "/run/current-system/sw/bin/sh", false},
		{"modules from elsewhere", modprobe, "/tmp/modprobe", true},
		{"nothing for devices", "/sys/kernel/uevent_helper", "", false},
		{"something for devices", "/sys/kernel/uevent_helper", "/tmp/x", true},
		{"something at the end", "/proc/sys/kernel/poweroff_cmd", "/tmp/x", true},
		{"a format", format, "enabled\ninterpreter " + ours + "\nflags: \n", false},
		{"a format by a link", format, "enabled\ninterpreter /run/binfmt/x\nflags: \n", false},
		{"another format", format, "enabled\ninterpreter /tmp/x y\nflags: CF\n", true},
		{"an empty group", "/sys/fs/cgroup/x/release_agent", "/tmp/x", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.m.Hashed = h.m.Paths
			h.write(other, "shell", 0o555)
			h.write("/var/evil", "evil", 0o755)
			h.write(string(etcPath)+"/etc/sysctl.d/x.conf", "kernel.core_pattern = |/bin/false x\nkernel.poweroff_cmd = /nix/store/"+strings.Repeat("g", 32)+"-bash/bin/sh -f\nkernel/hotplug = "+ours+"\n", 0o444)
			h.link("/run/current-system", string(top))
			h.link(string(top)+"/sw", string(shell))
			h.link("/run/binfmt/x", ours)
			h.m.FirstMounts = func() ([]nixstore.Mount, error) {
				return []nixstore.Mount{{Point: "/proc/sys/fs/binfmt_misc", Type: "binfmt_misc"}, {Point: "/sys/fs/cgroup/x", Type: "cgroup"}}, nil
			}
			h.write(test.file, test.text+"\n", 0o644)
			l := h.m.newLook()
			h.must(h.m.checkKernel(t.Context(), l))
			got := slices.IndexFunc(l.findings, func(f report.Finding) bool { return f.Path == test.file }) >= 0
			if got != test.found || len(l.findings) > 1 {
				t.Errorf("found %+v", l.findings)
			}
		})
	}
}
