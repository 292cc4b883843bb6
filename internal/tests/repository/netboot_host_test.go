package repository

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNetbootHost: the settings that hack/netboot-host --help shows give the files of
// a boot host; settings that make no sense give none. internal/tests/netboottest boots
// machines from such a host.
func TestNetbootHost(t *testing.T) {
	if _, err := exec.LookPath("nix"); err != nil {
		t.Skip("nix is not installed (hack/setup installs it)")
	}
	script := filepath.Join(root, "hack/netboot-host")
	help, err := exec.Command(script, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, shown, ok := strings.Cut(string(help), "\n  {\n")
	shown, _, closed := strings.Cut(shown, "\n  }\n")
	if !ok || !closed {
		t.Fatalf("no settings in\n%s", help)
	}
	write := func(text string) (out, errs string, err error) {
		settings := filepath.Join(t.TempDir(), "boot host.nix")
		out = t.TempDir()
		if err := os.WriteFile(settings, []byte("{\n"+text+"\n}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		data, err := exec.Command(script, settings, out).CombinedOutput()
		return out, string(data), err
	}
	out, errs, err := write(shown)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	for name, want := range map[string]string{
		"etc/every-channel-netboot/nginx.conf":                 "listen 10.0.0.2:80;",
		"etc/every-channel-netboot/dnsmasq.conf":               "enable-tftp=enp1s0",
		"etc/every-channel-netboot/autoexec.ipxe":              "tftp://10.0.0.2/chain.ipxe",
		"etc/every-channel-netboot/ec-verify.json":             `"accept":["latest"]`,
		"etc/sysusers.d/every-channel-netboot.conf":            "u every-channel-netboot",
		"etc/systemd/system/every-channel-netboot.service":     "[Install]\nWantedBy=multi-user.target\n",
		"etc/systemd/system/every-channel-netboot-stage.timer": "OnCalendar=hourly",
	} {
		if data, err := os.ReadFile(filepath.Join(out, name)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, want, data)
		}
	}
	for name, edit := range map[string][2]string{
		"no address":          {"10.0.0.2", "boot.example.org"},
		"no network":          {"10.0.0.0/24", "everybody"},
		"no keys":             {"keys = [ {", "keys = []; x = [ {"},
		"another setting":     {"interface =", "listenPort = 80; interface ="},
		"a second card":       {`"enp1s0"`, `"enp1s0\nport=53"`},
		"a host with more":    {"interface =", `hostname = "a; } server { listen 80; root /; }"; interface =`},
		"no host":             {"interface =", `hostname = "a..b"; interface =`},
		"no tag":              {"interface =", `tag = "--help"; interface =`},
		"no pattern":          {"interface =", `tarball = "x\ny"; interface =`},
		"no time":             {"interface =", `refresh = "hourly\nOnBootSec=1"; interface =`},
		"no file":             {`"/var/lib/secrets/chain-token"`, `"token"`},
		"a file with more":    {`"/var/lib/secrets/chain-token"`, `"/token\nExecStartPre=/evil"`},
		"a program with more": {"interface =", `nginx = "/nginx\nUser=root"; interface =`},
		"no ProxyDHCP":        {"interface =", `proxyDhcpSubnet = "10.1.0.0/24"; interface =`},
	} {
		if out, _, err := write(strings.Replace(shown, edit[0], edit[1], 1)); err == nil {
			t.Errorf("%s: it succeeds", name)
		} else if entries, err := os.ReadDir(out); err != nil || len(entries) > 0 {
			t.Errorf("%s: it wrote %v, %v", name, entries, err)
		}
	}
}
