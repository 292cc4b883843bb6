package running

import (
	"maps"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
)

func TestSysctlSettings(t *testing.T) {
	got := sysctlSettings([]string{
		"kernel.kptr_restrict = 1", "kernel.kptr_restrict=2", "net/ipv4/ip_forward = 0", "-vm.swappiness = 1", "net.ipv4.conf.*.rp_filter = 2",
		"net.ipv4.conf.eth0/1.rp_filter = 1", "net.ipv4.conf.all.forwarding=0", "kernel.sem = 250  32000 32 128", "/kernel//x = 1", "/../x = 1", "-net.ipv4.x",
		"kernel.sysrq = 16", "-kernel/sysrq = 1",
	})
	want := map[string]setting{
		"/proc/sys/kernel/kptr_restrict": {value: "2"}, "/proc/sys/net/ipv4/ip_forward": {value: "0"}, "/proc/sys/net/ipv4/conf/all/forwarding": {value: "0"},
		"/proc/sys/kernel/sem": {value: "250  32000 32 128"}, "/proc/sys/kernel/x": {value: "1"}, "/proc/sys/vm/swappiness": {"1", true}, "/proc/sys/kernel/sysrq": {"1", true},
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSysctl: settings of the kernel are those of the release.
func TestSysctl(t *testing.T) {
	const restrict = "/proc/sys/kernel/kptr_restrict"
	for _, test := range []struct {
		name, file, text, want string
	}{
		{"as it is to be", restrict, "2", ""},
		{"another value", restrict, "0", "setting-altered " + restrict},
		{"with tabs", "/proc/sys/vm/reserve", "250\t32000\t32\t128", ""},
		{"one word less", "/proc/sys/vm/reserve", "250\t32000\t32", "setting-altered /proc/sys/vm/reserve"},
		{"another base", "/proc/sys/vm/x", "16", ""},
		{"one that the release does not have", "/proc/sys/vm/y", "1", ""},
		{"the console's", "/proc/sys/kernel/printk", "7", ""},
		{"one that may fail, after one that may not", "/proc/sys/vm/z", "1", ""},
		{"a program of the kernel", "/proc/sys/kernel/modprobe", "/tmp/x", "code-unknown /proc/sys/kernel/modprobe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			h.write(string(etcPath)+"/etc/sysctl.d/60-nixos.conf",
				"kernel.kptr_restrict=2\nvm.reserve=250 32000 32 128\nvm.x=0x10\nvm.z=2\n-vm.z=1\nkernel.printk=4\nkernel.modprobe=/x\n", 0o444)
			h.m.FirstMounts = func() ([]nixstore.Mount, error) { return nil, nil }
			h.write(test.file, test.text+"\n", 0o644)
			l := h.m.newLook()
			h.must(h.m.checkKernel(t.Context(), l))
			got := ""
			for _, f := range l.findings {
				got += string(f.Cause) + " " + f.Path
			}
			if got != test.want || len(l.notSeen) > 0 {
				t.Errorf("found %q and not seen %q, want %q", got, l.notSeen, test.want)
			}
		})
	}
}

// What this process has for itself is not the machine's.
func TestPrivateSettings(t *testing.T) {
	for _, private := range []bool{false, true} {
		h := newHost(t)
		h.write("/proc/sys/net/ipv4/ip_forward", "1\n", 0o644)
		l := h.m.newLook()
		l.checkSysctl(map[string]setting{"/proc/sys/net/ipv4/ip_forward": {value: "0"}}, func(kind string) bool { return private && kind == "net" })
		if found := len(l.findings) == 1; found == private || found == (len(l.notSeen) == 1) {
			t.Errorf("private %v: found %v, not seen %q", private, l.findings, l.notSeen)
		}
	}
}
