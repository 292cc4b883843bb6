//go:build qemu

package netboottest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/guest"
)

const url = "http://" + hostIP + "/" + token

// TestNetboot is one boot host's life: its first release, both ways that a
// network can lead machines to it, who is turned away, what it refuses, a new
// release, servers that die, and a reboot.
func TestNetboot(t *testing.T) {
	h := startHost(t)
	l := newLab(t)
	l.attach(h.pid())

	h.configure(first, false)
	t.Run("systemd accepts the units", func(t *testing.T) {
		out, code := h.try("sh", "-c", "systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/every-channel-netboot*")
		if code != 0 || out != "" {
			t.Errorf("exit %d:\n%s", code, out)
		}
		for unit, most := range map[string]float64{"every-channel-netboot-stage": 2.5, "every-channel-netboot": 2.5, "every-channel-netboot-tftp": 2.5} {
			out, code := h.try("systemd-analyze", "security", "--no-pager", fmt.Sprintf("--threshold=%d", int(most*10)), unit+".service")
			if code != 0 {
				t.Errorf("%s is exposed by more than %v:\n%s", unit, most, out)
			}
		}
	})
	t.Run("nothing is staged", func(t *testing.T) {
		h.serve()
		if status, _ := l.curl("near", url+"/netboot.ipxe"); status != "404" {
			t.Errorf("got %s", status)
		}
	})
	t.Run("stage", func(t *testing.T) {
		h.Run("systemctl", "start", "every-channel-netboot-stage.service")
		h.serves(t, l, first)
		out, code := h.try(program, "--config", etc+"/ec-verify.json", "--state-dir", "/root/state", "--against", first)
		if code != 0 {
			t.Errorf("ec-verify --against: exit %d\n%s", code, out)
		}
	})
	t.Run("who is turned away", func(t *testing.T) { turnedAway(t, h, l) })

	t.Run("UniFi with options 66 and 67", func(t *testing.T) {
		// The ROM of qemu's card is iPXE itself, which takes a script.
		l.gateway(map[firmware]string{uefi: "ec-ipxe.efi", bios: "autoexec.ipxe"})
		h.bootBoth(t, l, first)
	})
	// iPXE with the script inside, as the module builds it; hack/ipxe-embedded
	// does from iPXE's source.
	t.Run("UniFi with an embedded script", func(t *testing.T) {
		dir := os.Getenv("EC_VERIFY_IPXE_EMBEDDED")
		if dir == "" {
			t.Skip("EC_VERIFY_IPXE_EMBEDDED names no directory with ec-ipxe.efi and ec-undionly.kpxe")
		}
		// Without autoexec.ipxe, so that it can be nothing else that leads on.
		h.Run("sh", "-euc", `cp -r /srv/ipxe /srv/ipxe-stock; cp `+etc+`/autoexec.ipxe /root/; printf '#!ipxe\nexit 1\n' >`+etc+`/autoexec.ipxe`)
		for _, name := range []string{"ec-ipxe.efi", "ec-undionly.kpxe"} {
			h.Push(filepath.Join(dir, name), "/srv/ipxe/"+name)
		}
		l.gateway(map[firmware]string{uefi: "ec-ipxe.efi", bios: "ec-undionly.kpxe"})
		h.bootBoth(t, l, first)
		h.Run("sh", "-euc", `rm -r /srv/ipxe; mv /srv/ipxe-stock /srv/ipxe; mv /root/autoexec.ipxe `+etc+`/autoexec.ipxe`)
	})
	t.Run("refusals", func(t *testing.T) { refusals(t, h, l) })

	h.configure(second, true)
	t.Run("a new release", func(t *testing.T) {
		h.Run("systemctl", "start", "every-channel-netboot-stage.service")
		h.serves(t, l, second)
		out, code := h.try(program, "--config", etc+"/ec-verify.json", "netboot", "check", "--dir", "/var/lib/every-channel-netboot/www")
		if code != 0 || !strings.Contains(out, second) {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	h.serve()
	t.Run("ProxyDHCP", func(t *testing.T) {
		l.gateway(nil)
		h.bootBoth(t, l, second)
	})
	// No firmware for a BIOS that is not iPXE is to be had; this much of its way
	// goes without: iPXE for a BIOS is loaded by TFTP, runs on the PXE of what loaded
	// it, asks for an address of its own, and hears of the chain script by ProxyDHCP.
	t.Run("ProxyDHCP, with the iPXE for a BIOS", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "script.ipxe")
		if err := os.WriteFile(script, []byte("#!ipxe\ndhcp\nchain tftp://"+hostIP+"/ec-undionly.kpxe\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.boots(t, l, bios, second, "-kernel", tools(t, "ipxe.lkrn"), "-initrd", script)
		if out, code := h.try("sh", "-c", "journalctl --sync; journalctl --no-pager -u every-channel-netboot-tftp | grep 'sent .*/ec-undionly.kpxe to'"); code != 0 {
			t.Errorf("it was not sent: %s", out)
		}
	})
	h.wholeRelease(third)
	h.configure(third, true)
	t.Run("a machine that is its release", func(t *testing.T) { h.clean(t, l) })
	t.Run("servers that die", func(t *testing.T) {
		for _, unit := range []string{"every-channel-netboot.service", "every-channel-netboot-tftp.service"} {
			before := h.Run("systemctl", "show", "--value", "-p", "MainPID", unit)
			h.Run("systemctl", "kill", "-s", "KILL", unit)
			h.await(unit+" is back", fmt.Sprintf(`p=$(systemctl show --value -p MainPID %s); [ "$p" != 0 ] && [ "$p" != %s ]`, unit, before))
		}
		h.awaitServers()
		h.serves(t, l, third)
	})
	t.Run("after a reboot, without the forge", func(t *testing.T) {
		h.Run("systemctl", "enable", "every-channel-netboot.service", "every-channel-netboot-stage.service", "every-channel-netboot-stage.timer")
		h.Checkpoint()
		l.attach(h.pid())
		h.awaitServers()
		h.serves(t, l, third)
	})
	// What dnsmasq cannot send, a machine waits for.
	if out, code := h.try("sh", "-c", "journalctl --no-pager -b all -u every-channel-netboot-tftp | grep 'failed to send'"); code != 1 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if t.Failed() {
		out, _ := h.try("journalctl", "--no-pager", "-n", "250", "-u", "every-channel-netboot*")
		t.Logf("the boot host's journal:\n%s", out)
	}
}

// clean boots a machine of the third release, on which ec-verify finds nothing; and what
// is planted then.
func (h *host) clean(t *testing.T, l *lab) {
	t.Helper()
	h.Run("systemctl", "start", "every-channel-netboot-stage.service")
	h.serves(t, l, third)
	// The release is on a disk: the machine has no driver for its network card.
	disk := filepath.Join(t.TempDir(), "release.tar")
	guest.Shell(t, `tar -C "$1" --transform 's,^,srv/releases/,' -cf "$2" "$3"`, h.Path(releases), disk, third)
	l.gateway(nil)
	m := l.start(t, uefi, "-drive", "if=virtio,format=raw,readonly=on,file="+disk).Up()
	m.Expect("systemctl is-system-running --wait", "running")
	m.Expect("for at in / /nix/.ro-store; do findmnt -no FSTYPE $at; done | xargs", "tmpfs squashfs")
	m.Run("tar -xf /dev/vda -C /")
	m.Register("/nix/store/nix-path-registration")
	m.Clean(2, "")
	m.Run("echo evil >/root/.evilrc; mount --bind /etc/passwd /usr/bin/tac")
	m.Finds("", "foreign-mount /usr/bin/tac", "written-unknown /root/.evilrc")
	m.Cut()
}

// bootBoth boots a machine of each kind at the same time.
func (h *host) bootBoth(t *testing.T, l *lab, tag string) {
	t.Helper()
	// Ends when both have.
	t.Run("boot", func(t *testing.T) {
		for _, kind := range []firmware{uefi, bios} {
			t.Run(string(kind), func(t *testing.T) {
				t.Parallel()
				h.boots(t, l, kind, tag)
			})
		}
	})
}

// boots boots a machine and wants it to be of the release tag, with the kernel
// parameters of its bundle.
func (h *host) boots(t *testing.T, l *lab, kind firmware, tag string, more ...string) {
	t.Helper()
	screen := l.boot(t, kind, more...)
	for _, want := range []string{"booting release " + tag, marker(tag), "init=" + h.toplevel() + "/init", "console=ttyS0,115200n8"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
	// Once, and not over and over.
	if n := strings.Count(screen, "booting release "); n != 1 {
		t.Errorf("it booted %d times", n)
	}
	if t.Failed() || testing.Verbose() && os.Getenv("EC_VERIFY_SHOW_CONSOLE") != "" {
		t.Logf("the console:\n%s", screen)
	}
}

// serves requires that a machine gets every file of the release tag.
func (h *host) serves(t *testing.T, l *lab, tag string) {
	t.Helper()
	status, script := l.curl("near", url+"/netboot.ipxe")
	if status != "200" || !strings.Contains(script, "booting release "+tag+"\n") {
		t.Fatalf("%s:\n%s", status, script)
	}
	_, stage, _ := strings.Cut(script, "set ec-stage http://"+hostIP+"/${ec-token}/")
	stage, _, _ = strings.Cut(stage, "\n")
	dir := t.TempDir()
	out, err := exec.Command("tar", "-C", dir, "-xzf", h.Path(releases+"/"+tag+"/ec-runner-x86_64-netboot-"+tag+".tar.gz")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"kernel", "initrd"} {
		got := filepath.Join(dir, "got")
		if status, _ := l.curl("near", url+"/"+stage+"/"+name, "--output", got); status != "200" {
			t.Errorf("%s: %s", name, status)
		}
		a, errA := os.ReadFile(got)
		b, errB := os.ReadFile(filepath.Join(dir, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not the release's: %v, %v", name, errA, errB)
		}
	}
}

// turnedAway: who has no token, or is elsewhere, gets 403 whatever he asks for.
func turnedAway(t *testing.T, h *host, l *lab) {
	stage := h.Run("sh", "-c", "basename $(readlink /var/lib/every-channel-netboot/www/current)")
	wrong := "http://" + hostIP + "/" + strings.Repeat("f", len(token))
	for _, c := range []struct{ name, from, url, want string }{
		{"the script", "near", url + "/netboot.ipxe", "200"},
		{"a kernel", "near", url + "/" + stage + "/kernel", "200"},
		{"a wrong token", "near", wrong + "/netboot.ipxe", "403"},
		{"a wrong token, a kernel", "near", wrong + "/" + stage + "/kernel", "403"},
		{"a wrong token, nothing there", "near", wrong + "/x/kernel", "403"},
		{"half of the token", "near", "http://" + hostIP + "/" + token[:16] + "/netboot.ipxe", "403"},
		{"the token in capitals", "near", "http://" + hostIP + "/" + strings.ToUpper(token) + "/netboot.ipxe", "403"},
		{"no token", "near", "http://" + hostIP + "/netboot.ipxe", "403"},
		{"the root", "near", "http://" + hostIP + "/", "403"},
		{"the token alone", "near", url, "403"},
		{"what is not served", "near", url + "/" + stage + "/stage.json", "403"},
		{"what is in the making", "near", url + "/.tmp-1/kernel", "403"},
		{"a path upwards", "near", url + "/../../../etc/passwd", "400"},
		{"a path upwards, encoded", "near", url + "/" + stage + "/%2e%2e/" + stage + "/stage.json", "403"},
		{"a stage that is not there", "near", url + "/boot-v1-0123456789ab/kernel", "404"},
		{"from elsewhere", "far", url + "/netboot.ipxe", "403"},
		{"from elsewhere, a kernel", "far", url + "/" + stage + "/kernel", "403"},
		{"from elsewhere, a wrong token", "far", wrong + "/netboot.ipxe", "403"},
		{"from elsewhere, the root", "far", "http://" + hostIP + "/", "403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, body := l.curl(c.from, c.url, "--range", "0-63"); got != c.want && (c.want != "200" || got != "206") {
				t.Errorf("got %s, want %s\n%s", got, c.want, body)
			}
		})
	}
	t.Run("a part", func(t *testing.T) {
		kernel, err := os.ReadFile(filepath.Join(guest.Made(t), "vmlinuz"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "part")
		status, _ := l.curl("near", url+"/"+stage+"/kernel", "--range", "4096-8191", "--output", file)
		got, err := os.ReadFile(file)
		if err != nil || status != "206" || !bytes.Equal(got, kernel[4096:8192]) {
			t.Errorf("%s, %d bytes, %v", status, len(got), err)
		}
	})
	t.Run("another address of the boot host", func(t *testing.T) {
		for _, url := range []string{"tftp://" + asideIP + "/chain.ipxe", "http://" + asideIP + "/" + token + "/netboot.ipxe"} {
			if out := l.run("@near", "sh", "-c", `curl --silent --max-time 3 "$1" || echo refused $?`, "sh", url); !strings.HasPrefix(out, "refused ") {
				t.Errorf("%s is answered:\n%s", url, out)
			}
		}
		if out := l.run("@near", "curl", "--silent", "--max-time", "300", "tftp://"+hostIP+"/chain.ipxe"); !strings.HasPrefix(out, "#!ipxe") {
			t.Errorf("chain.ipxe: %s", out)
		}
		if out := l.run("@near", "sh", "-c", `curl --silent --max-time 10 --path-as-is "$1" || echo refused $?`, "sh", "tftp://"+hostIP+"/../token.map"); !strings.HasPrefix(out, "refused ") {
			t.Errorf("a path upwards by TFTP:\n%s", out)
		}
	})
	t.Run("another method", func(t *testing.T) {
		if status, _ := l.curl("near", url+"/netboot.ipxe", "--data", "x"); status != "405" {
			t.Errorf("got %s", status)
		}
	})
	t.Run("the token is for the servers only", func(t *testing.T) {
		if out, code := h.try("sh", "-c", "grep -rlF "+token+" /var/lib/every-channel-netboot /etc/systemd /nix/store /var/log 2>/dev/null; journalctl --no-pager | grep -F "+token); out != "" {
			t.Errorf("exit %d, it is in:\n%s", code, out)
		}
		out := h.Run("sh", "-c", "stat -c '%U %a' /run/every-channel-netboot /run/every-channel-netboot/token.map /run/every-channel-netboot/tftp/chain.ipxe")
		if want := "every-channel-netboot 750\nevery-channel-netboot 640\nevery-channel-netboot 640"; out != want {
			t.Errorf("got\n%s\nwant\n%s", out, want)
		}
	})
}

// refusals: a release that does not hold is neither taken by ec-verify --against
// nor staged, and the one before is served.
func refusals(t *testing.T, h *host, l *lab) {
	h.configure(second, false)
	at := releases + "/" + second
	tarball := at + "/ec-runner-x86_64-netboot-" + second + ".tar.gz"
	h.Run("cp", "-r", at, "/root/good")
	for _, c := range []struct{ name, damage, want string }{
		{"the signature removed", `rm ` + at + `/SHA256SUMS.txt.sigstore.json`, "unsigned"},
		{"the signature of another release", `cp ` + releases + "/" + first + `/SHA256SUMS.txt.sigstore.json ` + at, "signature"},
		{"the tag swapped", `rm -r ` + at + `; cp -r ` + releases + "/" + first + ` ` + at, "wrong-tag"},
		// Last: by then its signature has been seen, and is remembered.
		{"one byte of the tarball changed", `printf X | dd of=` + tarball + ` bs=1 seek=100000 conv=notrunc status=none`, "checksum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.Run("sh", "-euc", c.damage)
			out, code := h.try("systemctl", "start", "every-channel-netboot-stage.service")
			if code == 0 {
				t.Errorf("it is staged: %s", out)
			}
			status := h.Run("systemctl", "show", "-p", "Result,ExecMainStatus", "every-channel-netboot-stage.service")
			if !strings.Contains(status, "ExecMainStatus=3") || !strings.Contains(status, "Result=exit-code") {
				t.Errorf("the unit: %s", status)
			}
			// By who wrote it: on a machine as busy as with guests beside it, journald
			// reads an entry seconds after its process, and does not know the unit any more.
			h.Run("journalctl", "--sync")
			log := h.Run("journalctl", "--no-pager", "-o", "cat", "-n", "10", "-t", "ec-verify", "-t", "systemd")
			if !strings.Contains(log, c.want) {
				t.Errorf("the journal does not say %q:\n%s", c.want, log)
			}
			t.Logf("%s", lastComplaint(log))
			if script := h.Run("cat", "/var/lib/every-channel-netboot/www/current/netboot.ipxe"); !strings.Contains(script, "booting release "+first+"\n") {
				t.Errorf("served is:\n%s", script)
			}
			// A machine is compared with the manifest and does not look at the
			// tarball; whoever checks all of a release does.
			args := []string{program, "--config", etc + "/ec-verify.json", "--state-dir", "/root/state", "--against", second}
			if c.want == "checksum" {
				args = []string{program, "--config", etc + "/ec-verify.json", "release", "verify", at}
			}
			if out, code := h.try(args...); code != 3 {
				t.Errorf("%q: exit %d\n%s", args, code, out)
			}
			h.Run("sh", "-euc", `rm -r `+at+`; cp -r /root/good `+at)
			h.Run("systemctl", "reset-failed")
		})
	}
	h.serves(t, l, first)
}

// lastComplaint returns the last line of a journal that ec-verify wrote.
func lastComplaint(log string) string {
	lines := strings.Split(log, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "ec-verify: ") {
			return lines[i]
		}
	}
	return log
}
