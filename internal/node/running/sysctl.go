package running

import (
	"slices"
	"strconv"
	"strings"

	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

// settingsRoot has the settings of the kernel, as files.
const settingsRoot = "/proc/sys/"

// setting is the value of a setting of the kernel, by the accepted system.
type setting struct {
	value   string
	mayFail bool
}

// sysctlSettings returns the settings in lines of sysctl.d(5), the last of each, by file.
// It omits settings for a pattern of files, and those of a network interface, which services
// change when they set up the interface.
func sysctlSettings(lines []string) map[string]setting {
	out := map[string]setting{}
	for _, line := range lines {
		key, value, ok := strings.Cut(line, "=")
		key, mayFail := strings.CutPrefix(strings.TrimSpace(key), "-")
		key = settingFile(key)
		parts := strings.Split(key, "/") // net/ipv4/conf/eth0/forwarding
		perInterface := len(parts) == 5 && parts[0] == "net" && parts[3] != "all" && parts[3] != "default"
		if !ok || strings.ContainsAny(key, "*?[") || perInterface || slices.Contains(parts, "..") {
			continue
		}
		out[settingsRoot+key] = setting{strings.TrimSpace(value), mayFail}
	}
	return out
}

// settingFile returns the file of a setting, below [settingsRoot]. The first separator in a
// key determines which of the two is the separator.
func settingFile(key string) string {
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
	return strings.TrimPrefix(simplified(key), "/")
}

// simplified returns a path in systemd's form: without redundant slashes and dots.
func simplified(name string) string {
	parts := slices.DeleteFunc(strings.Split(name, "/"), func(p string) bool { return p == "" || p == "." })
	if strings.HasPrefix(name, "/") {
		return "/" + strings.Join(parts, "/")
	}
	return strings.Join(parts, "/")
}

// namespaced are the settings that differ by namespace: the beginnings of their files, and
// the kind of namespace.
var namespaced = []struct{ begin, kind string }{
	{"net/", "net"}, {"kernel/msg", "ipc"}, {"kernel/sem", "ipc"}, {"kernel/shm", "ipc"}, {"fs/mqueue/", "ipc"},
	{"kernel/hostname", "uts"}, {"kernel/domainname", "uts"}, {"kernel/pid_max", "pid"}, {"user/", "user"},
}

// checkSysctl compares the kernel's settings with the accepted system's, except those that
// may fail. Those of kernelPrograms are judged by the programs that they start. private
// reports whether this process has its own namespace of a kind.
func (l *look) checkSysctl(wants map[string]setting, private func(kind string) bool) {
	unseen := 0
	for name, want := range wants {
		i := slices.IndexFunc(namespaced, func(n struct{ begin, kind string }) bool {
			return strings.HasPrefix(name[len(settingsRoot):], n.begin)
		})
		switch {
		case want.mayFail || slices.Contains(kernelPrograms, name) || name == settingsRoot+"kernel/printk": // "quiet" and dmesg(1) change it
		case i >= 0 && private(namespaced[i].kind):
			unseen++
		default:
			l.judgeSetting(name, want.value)
		}
	}
	if unseen > 0 {
		l.notSeen = append(l.notSeen, strconv.Itoa(unseen)+" kernel settings of namespaces that this process has for itself, such as the network's")
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
		return // the kernel does not have it, or it can only be written
	}
	data, _, err := l.m.Store.ReadOutside(name, maxKernelSetting)
	if err != nil {
		l.unseen(name, err)
		return
	}
	l.checked++
	if got := strings.TrimSpace(string(data)); !sameSetting(want, got) {
		l.settingAltered(name, want, got)
	}
}

func (l *look) settingAltered(name, want, got string) {
	l.find(report.Finding{
		Cause: report.SettingAltered, Path: name, Want: excerpt.Of(want, maxKernelShown), Got: excerpt.Of(got, maxKernelShown),
	})
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
