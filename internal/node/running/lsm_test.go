package running

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/report"
)

func TestSecurityOf(t *testing.T) {
	for _, test := range []struct{ line, modules, level string }{
		{"loglevel=4 lsm=landlock,yama,bpf", "landlock,yama,bpf", ""},
		{"lsm=yama lsm=landlock,landlock security=apparmor", "landlock", ""},
		{"security=apparmor apparmor=1", "apparmor", ""},
		{"lsm=landlock,apparmor,selinux,bpf", "landlock,apparmor,bpf", ""},
		{"lsm=apparmor,selinux apparmor=0", "selinux", ""},
		{"lsm=integrity,none,,new,yama", "yama", ""},
		{"lsm=", "", ""},
		{"lockdown=integrity lockdown=confidentiality", "", "confidentiality"},
		{"lockdown=all", "", ""},
		{"quiet", "", ""},
	} {
		if got := securityOf(test.line + "\n"); strings.Join(got.modules, ",") != test.modules || got.level != test.level {
			t.Errorf("%s: %+v", test.line, got)
		}
	}
}

// securityHost is a host whose booted system has these parameters of the kernel.
func securityHost(t *testing.T, params string) *host {
	h := newHost(t)
	h.m.Hashed = h.m.Paths
	h.link("/run/booted-system", string(top))
	h.write(string(top)+"/kernel-params", params, 0o444)
	return h
}

// TestSecurity: the security modules in effect are those that the booted system's command
// line asks for.
func TestSecurity(t *testing.T) {
	const params, lsm, lockdown = "lsm=landlock,yama,bpf lockdown=integrity", securityRoot + "lsm", securityRoot + "lockdown"
	for _, test := range []struct {
		name, params, lsm, lockdown, config, want string
		notSeen                                   int
	}{
		{"as it is to be", params, "capability,landlock,yama,bpf", "none [integrity] confidentiality", "", "", 0},
		{"more than that", params, "lockdown,capability,landlock,yama,apparmor,bpf", "none integrity [confidentiality]", "", "", 0},
		{"without one", params, "capability,landlock,bpf", "none [integrity] confidentiality", "", lsm + " with yama", 0},
		{"without one that the kernel has", params, "capability,landlock,bpf", "none [integrity] confidentiality", "CONFIG_SECURITY_YAMA=y\n", lsm + " with yama", 0},
		{"without one that the kernel has not", params, "capability,landlock,bpf", "none [integrity] confidentiality", "# CONFIG_SECURITY_YAMA is not set\n", "", 0},
		{"without lockdown", params, "capability,landlock,yama,bpf", "[none] integrity confidentiality", "", lockdown + " integrity", 0},
		{"a system that leaves it to the kernel", "quiet", "capability", "[none]", "", "", 0},
		{"without the kernel's files", params, "", "", "", "", 2},
		{"without the kernel's files, and nothing wanted", "quiet", "", "", "", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := securityHost(t, test.params+"\n")
			for name, text := range map[string]string{lsm: test.lsm, lockdown: test.lockdown} {
				if text != "" {
					h.write(name, text, 0o444)
				}
			}
			if test.config != "" {
				var packed bytes.Buffer
				w := gzip.NewWriter(&packed)
				_, err := w.Write([]byte("CONFIG_SECURITY=y\n" + test.config))
				h.must(err)
				h.must(w.Close())
				h.write("/proc/config.gz", packed.String(), 0o444)
			}
			l := h.m.newLook()
			h.m.checkSecurity(l)
			var got []string
			for _, f := range l.findings {
				if f.Cause != report.SettingAltered {
					t.Errorf("%+v", f)
				}
				got = append(got, f.Path+" "+f.Want)
			}
			if strings.Join(got, "; ") != test.want || len(l.notSeen) != test.notSeen {
				t.Errorf("found %q and not seen %q, want %q", got, l.notSeen, test.want)
			}
		})
	}
}

// What the command line is to be is read from an accepted system only.
func TestSecurityOfAnother(t *testing.T) {
	h := securityHost(t, "lsm=yama\n")
	h.m.Hashed = nil
	h.write(securityRoot+"lsm", "capability", 0o444)
	l := h.m.newLook()
	h.m.checkSecurity(l)
	if len(l.findings) > 0 || len(l.notSeen) != 1 {
		t.Errorf("found %v and not seen %q", l.findings, l.notSeen)
	}
}
