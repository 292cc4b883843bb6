package running

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
)

const (
	securityRoot = "/sys/kernel/security/"
	// Limits, in bytes.
	maxBootParameters = 64 << 10
	maxSecurity       = 4 << 10
	maxKernelConfig   = 4 << 20 // unpacked
)

// securityOptions has, for each Linux security module, the option that builds it into a
// kernel, which ignores the names of others.
var securityOptions = map[string]string{
	"apparmor": "SECURITY_APPARMOR", "bpf": "BPF_LSM", "ipe": "SECURITY_IPE", "landlock": "SECURITY_LANDLOCK",
	"loadpin": "SECURITY_LOADPIN", "lockdown": "SECURITY_LOCKDOWN_LSM", "safesetid": "SECURITY_SAFESETID", "selinux": "SECURITY_SELINUX",
	"smack": "SECURITY_SMACK", "tomoyo": "SECURITY_TOMOYO", "yama": "SECURITY_YAMA",
}

// exclusiveModules are those of which a kernel takes the first only.
var exclusiveModules = []string{"apparmor", "selinux", "smack"}

// lockdownLevels are what the kernel keeps from root, in ascending order.
var lockdownLevels = []string{"none", "integrity", "confidentiality"}

// security is what the command line of a system says of the kernel's security modules.
type security struct {
	modules []string // that are to be in effect
	level   string   // of lockdown; empty for any
}

// securityOf reads the parameters of a command line. The last of each counts.
func securityOf(line string) security {
	values := map[string]string{}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		values[key] = value
	}
	list, isSet := values["lsm"]
	if !isSet {
		list = values["security"] // of older kernels
	}
	s := security{level: values["lockdown"]}
	exclusive := false
	for _, name := range strings.Split(list, ",") {
		if securityOptions[name] == "" || values[name] == "0" || slices.Contains(s.modules, name) {
			continue
		}
		if slices.Contains(exclusiveModules, name) {
			if exclusive {
				continue
			}
			exclusive = true
		}
		s.modules = append(s.modules, name)
	}
	if !slices.Contains(lockdownLevels, s.level) {
		s.level = ""
	}
	return s
}

// checkSecurity compares the kernel's security modules, and what lockdown keeps from root,
// with the command line that the booted system has for it. A configuration that says
// nothing of them leaves them to the kernel.
func (m *Machine) checkSecurity(l *look) {
	const system = "/run/booted-system"
	at := system + "/kernel-params"
	if m.inContainer() {
		return // checkKernel says that they are not checked
	}
	// The tier "live" finds a booted system that is none of the accepted ones.
	if p, _, err := m.Store.ResolveLink(system); err != nil || !m.hashed(p) {
		l.notSeen = append(l.notSeen, "the kernel's security modules (no accepted system was booted)")
		return
	}
	line, _, err := m.Store.ReadOutside(at, maxBootParameters)
	if isAbsent(err) {
		return
	}
	if err != nil {
		l.unseen(at, err)
		return
	}
	want := securityOf(string(line))
	if len(want.modules) > 0 {
		l.compareSecurity("lsm", func(text string) (wanted, got string) {
			active := strings.Split(strings.TrimSpace(text), ",")
			lacks := slices.DeleteFunc(slices.Clone(want.modules), func(name string) bool {
				return slices.Contains(active, name) || !m.kernelHas(securityOptions[name])
			})
			if len(lacks) == 0 {
				return "", ""
			}
			return "with " + strings.Join(lacks, ","), strings.TrimSpace(text)
		})
	}
	if wanted := slices.Index(lockdownLevels, want.level); wanted > 0 {
		l.compareSecurity("lockdown", func(text string) (string, string) {
			_, after, _ := strings.Cut(text, "[") // "none [integrity] confidentiality"
			level, _, _ := strings.Cut(after, "]")
			if slices.Index(lockdownLevels, level) >= wanted {
				return "", ""
			}
			return want.level, level
		})
	}
}

// compareSecurity has a file of the kernel's compared, and finds what is wanted and is
// not so.
func (l *look) compareSecurity(file string, compare func(text string) (want, got string)) {
	name := securityRoot + file
	text, _, err := l.m.Store.ReadOutside(name, maxSecurity)
	switch {
	case isAbsent(err):
		l.notSeen = append(l.notSeen, name+" (the machine has no such file)")
		return
	case err != nil:
		l.unseen(name, err)
		return
	}
	l.checked++
	if want, got := compare(string(text)); want != "" {
		l.settingAltered(name, want, got)
	}
}

// kernelHas reports whether the running kernel was built with an option, or does not say.
func (m *Machine) kernelHas(option string) bool {
	packed, _, err := m.Store.ReadOutside(proc+"/config.gz", maxKernelConfig)
	if err != nil {
		return true
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return true
	}
	text, err := io.ReadAll(io.LimitReader(r, maxKernelConfig))
	return err != nil || strings.Contains("\n"+string(text), "\nCONFIG_"+option+"=y\n")
}
