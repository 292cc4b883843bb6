package running

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// settingsRoot has the settings of the kernel, as files.
const settingsRoot = "/proc/sys/"

// sysctlSettings returns the settings in lines of sysctl.d(5), the last of each, by file.
// Left out are those that may fail, those for a pattern of files, and those of a network
// interface, which services set as they set that up.
func sysctlSettings(lines []string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		// The first of the two separators is the one of the key.
		if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
			key = strings.Map(func(r rune) rune {
				switch r {
				case '.':
					return '/'
				case '/':
					return '.'
				}
				return r
			}, key)
		}
		parts := strings.Split(key, "/") // net/ipv4/conf/eth0/forwarding
		perInterface := len(parts) == 5 && parts[0] == "net" && parts[3] != "all" && parts[3] != "default"
		if !ok || strings.HasPrefix(key, "-") || strings.ContainsAny(key, "*?[") || perInterface || path.Clean("/"+key) != "/"+key {
			continue
		}
		out[settingsRoot+key] = strings.TrimSpace(value)
	}
	return out
}

// namespaced are the settings that differ by namespace: the beginnings of their files, and
// the kind of namespace.
var namespaced = []struct{ begin, kind string }{
	{"net/", "net"}, {"kernel/msg", "ipc"}, {"kernel/sem", "ipc"}, {"kernel/shm", "ipc"}, {"fs/mqueue/", "ipc"},
	{"kernel/hostname", "uts"}, {"kernel/domainname", "uts"}, {"kernel/pid_max", "pid"}, {"user/", "user"},
}

// checkSysctl compares the settings of the kernel with the accepted system's lines of
// sysctl.d(5). Those of kernelPrograms are judged by what they start. private reports
// whether this process has a namespace of a kind for itself.
func (l *look) checkSysctl(lines []string, private func(kind string) bool) {
	unseen := 0
	for name, want := range sysctlSettings(lines) {
		i := slices.IndexFunc(namespaced, func(n struct{ begin, kind string }) bool {
			return strings.HasPrefix(name[len(settingsRoot):], n.begin)
		})
		switch {
		case slices.Contains(kernelPrograms, name) || name == settingsRoot+"kernel/printk": // which "quiet" and dmesg(1) set
		case i >= 0 && private(namespaced[i].kind):
			unseen++
		default:
			l.judgeSetting(name, want)
		}
	}
	if unseen > 0 {
		l.notSeen = append(l.notSeen, strconv.Itoa(unseen)+" settings of the kernel that this process has for itself, as of the network")
	}
}

// hasPrivate reports whether this process has another namespace than the first process.
func hasPrivate(kind string) bool {
	first, err := namespaceOf(firstProcess, kind)
	return err != nil || !inNamespace(proc+"/self", kind, first)
}

// judgeSetting finds a setting of the kernel with another value than the accepted
// system's.
func (l *look) judgeSetting(name, want string) {
	st, err := l.m.Store.Stat(name)
	if isAbsent(err) || err == nil && st.Mode&0o400 == 0 {
		return // a kernel without it, or one that only takes it
	}
	data, _, err := l.m.Store.ReadOutside(name, maxKernelSetting)
	if err != nil {
		l.unseen(name, err)
		return
	}
	l.checked++
	got := strings.TrimSpace(string(data))
	if !sameSetting(want, got) {
		l.find(report.Finding{
			Cause: report.SettingAltered, Path: name, Want: excerpt.Of(want, maxKernelShown), Got: excerpt.Of(got, maxKernelShown),
		})
	}
}

// sameSetting reports whether the kernel shows want as got: words with tabs between them,
// and numbers in decimal.
func sameSetting(want, got string) bool {
	return slices.EqualFunc(strings.Fields(want), strings.Fields(got), func(a, b string) bool {
		m, err := strconv.ParseInt(a, 0, 64)
		n, err2 := strconv.ParseInt(b, 0, 64)
		return a == b || err == nil && err2 == nil && m == n
	})
}
