//go:build qemu

package netboottest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/tests/guest"
	"every.channel/ec-verify/internal/tests/testhost"
)

const (
	program  = "/usr/local/bin/ec-verify"
	releases = "/srv/www/every-channel/runner/releases/download"
	source   = "http://127.0.0.1:8090/every-channel/runner/releases/download"
	etc      = "/etc/every-channel-netboot"
	first    = "boot-v2026.02.28"
	second   = "boot-v2026.03.05"
	third    = "boot-v2026.03.12"
	token    = "0123456789abcdef0123456789abcdef"
)

// host is the boot host, and also the builder and the forge that its releases
// come from.
type host struct {
	*testhost.Host
	t *testing.T
}

// tools is the directory that hack/test-netboot prepares: ipxe.efi, undionly.kpxe and
// ipxe.lkrn.
func tools(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("EC_VERIFY_NETBOOT_DIR")
	if dir == "" {
		t.Fatal("EC_VERIFY_NETBOOT_DIR is not set; run hack/test-netboot")
	}
	return filepath.Join(dir, name)
}

// startHost starts a boot host with two releases on its forge, nothing staged.
func startHost(t *testing.T) *host {
	t.Helper()
	h := &host{testhost.Start(t, testhost.Options{Runner: true}), t}
	h.Push(os.Getenv("EC_VERIFY_PROGRAM"), program)
	h.Run("sh", "-euc", `
		mkdir -p `+etc+` /srv/ipxe `+releases+`
		openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /root/ci.key
		openssl pkey -in /root/ci.key -pubout -out `+etc+`/ci.pub
		printf '%s\n' `+token+` >`+etc+`/chain-token; chmod 600 `+etc+`/chain-token
		printf 'daemon off; pid /run/forge.pid; error_log stderr; events {}\nhttp { access_log off; server { listen 127.0.0.1:8090; root /srv/www; } }\n' >/etc/forge.conf
		systemd-run --quiet --unit forge nginx -e stderr -c /etc/forge.conf`)
	h.Push(tools(t, "ipxe.efi"), "/srv/ipxe/ec-ipxe.efi")
	h.Push(tools(t, "undionly.kpxe"), "/srv/ipxe/ec-undionly.kpxe")
	for i, tag := range []string{first, second} {
		h.release(h.Host, tag, time.Now().Add(time.Duration(i-4)*time.Hour), func(dir string) { h.marked(dir, tag) })
	}
	return h
}

// wholeRelease makes the release of a system that runs from memory, on a host of its own:
// the boot host would have the mounts of it.
func (h *host) wholeRelease(tag string) {
	h.t.Helper()
	builder := testhost.Start(h.t, testhost.Options{Runner: true})
	builder.Push(os.Getenv("EC_VERIFY_PROGRAM"), program)
	system := guest.MakeSystem(h.t, builder, guest.MemoryMounts("../nix-store.squashfs", "../usr.squashfs"),
		"mkdir /mnt-root\nmount -t tmpfs -o mode=0755 tmpfs /mnt-root\n"+guest.MemoryRoot("/"), "squashfs", "loop", "overlay")
	guest.Configure(h.t, builder, "/srv/releases", tag, h.Run("cat", etc+"/ci.pub")+"\n")
	h.release(builder, tag, time.Now().Add(-2*time.Hour), func(dir string) { h.whole(dir, system) })
}

// release makes, as CI does, the release tag of the system that a builder is, with a
// bundle that boots, which bundle makes in a directory.
func (h *host) release(builder *testhost.Host, tag string, created time.Time, bundle func(dir string)) {
	h.t.Helper()
	out := releases + "/" + tag
	builder.Run("env", "SOURCE_DATE_EPOCH="+strconv.FormatInt(created.Unix(), 10),
		program, "manifest", "create", "/etc/every-channel/flake#testhost", "--out", out, "--tag", tag)
	if builder != h.Host {
		h.Push(builder.Path(out), out)
	}
	dir := filepath.Join(h.t.TempDir(), "bundle")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	bundle(dir)
	name := "ec-runner-x86_64-netboot-" + tag + ".tar.gz"
	h.Push(dir, "/root/bundle")
	// As the bundle of an image is packed, for every builder the same.
	h.Run("sh", "-euc", `tar -C /root/bundle --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --format=gnu -cf - initrd kernel netboot.ipxe | gzip -n -1 >"$1"; rm -r /root/bundle`, "sh", out+"/"+name)
	h.Run(program, "release", "sign", out, "--key", "/root/ci.key", "--write-sums")
}

// script adds the script of a bundle to it, as NixOS' netboot.nix writes that.
func (h *host) script(dir, toplevel, params string) {
	h.t.Helper()
	guest.Write(h.t, filepath.Join(dir, "netboot.ipxe"), fmt.Sprintf("#!ipxe\n# Use the cmdline variable to allow the user to specify custom kernel params\n"+
		"kernel kernel init=%s/init initrd=initrd %s ${cmdline}\ninitrd initrd\nboot\n", toplevel, params))
}

// marked makes a bundle whose initrd prints the name of its release, and ends.
func (h *host) marked(dir, tag string) {
	h.t.Helper()
	h.script(dir, h.toplevel(), guest.Params+" quiet")
	init := filepath.Join(h.t.TempDir(), "init")
	if err := os.WriteFile(init, []byte("#!/bin/busybox sh\n"+
		"/bin/busybox mount -t proc proc /proc\n"+
		"/bin/busybox mount -t devtmpfs dev /dev\n"+
		"exec >/dev/ttyS0 2>&1\n"+
		"echo; echo "+marker(tag)+"\n"+
		"/bin/busybox cat /proc/cmdline\n"+
		"/bin/busybox poweroff -f\n"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	guest.Shell(h.t, `cp "$1/vmlinuz" "$3/kernel"
		mkdir -p "$4/bin" "$4/proc" "$4/dev"
		cp "$1/tree/usr/bin/busybox" "$4/bin/"
		cp "$2" "$4/init"
		cd "$4"; find . | LC_ALL=C sort | cpio --quiet -o -H newc -R +0:+0 --reproducible | gzip -n -1 >"$3/initrd"`,
		guest.Made(h.t), init, dir, filepath.Join(h.t.TempDir(), "root"))
}

// whole makes a bundle with all of a system, as NixOS' netboot.nix does: its initrd, with
// its store behind it.
func (h *host) whole(dir string, system guest.System) {
	h.t.Helper()
	h.script(dir, system.Toplevel, guest.Params)
	live := filepath.Join(h.t.TempDir(), "live")
	system.Live(h.t, live, guest.Program, "/etc/ec-verify")
	guest.Shell(h.t, `cp "$1" "$3/kernel"
		cp "$2" "$3/initrd"; truncate -s %512 "$3/initrd"
		cd "$4"; find . | LC_ALL=C sort | cpio --quiet -o -H newc -R +0:+0 --reproducible >>"$3/initrd"`,
		system.File("kernel"), system.File("initrd"), dir, live)
}

func (h *host) toplevel() string { return h.Runner().Systems["testhost"].Toplevel }

// configure writes the files of a boot host that stages tag, as a host with Debian
// gets them, and has systemd read them.
func (h *host) configure(tag string, proxyDhcp bool) {
	h.t.Helper()
	subnet := "null"
	if proxyDhcp {
		subnet = `"10.77.0.0/24"`
	}
	settings, root := filepath.Join(h.t.TempDir(), "settings.nix"), h.t.TempDir()
	text := fmt.Sprintf(`{
  listenIP = %q;
  interface = "eth0";
  httpAllowedCIDRs = [ "10.77.0.0/24" ];
  chainTokenFile = "%[2]s/chain-token";
  tag = %[3]q;
  proxyDhcpSubnet = %[4]s;
  source = [ %[5]q ];
  keys = [ { name = "ci"; file = "%[2]s/ci.pub"; } ];
  efiFile = "/srv/ipxe/ec-ipxe.efi";
  biosFile = "/srv/ipxe/ec-undionly.kpxe";
}
`, hostIP, etc, tag, subnet, source)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	if out, err := exec.CommandContext(h.t.Context(), "../../../hack/netboot-host", settings, root).CombinedOutput(); err != nil {
		h.t.Fatalf("hack/netboot-host: %v\n%s", err, out)
	}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			h.write("/"+name, string(data))
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Run("systemd-sysusers")
	h.Run("systemctl", "daemon-reload")
}

func (h *host) write(name, text string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), step)
	defer cancel()
	if _, stderr, code := h.ExecInput(ctx, strings.NewReader(text), "sh", "-euc", `mkdir -p "$(dirname "$1")"; cat >"$1"`, "sh", name); code != 0 {
		h.t.Fatalf("write %s: %s", name, stderr)
	}
}

// try runs a command that may fail, and returns its output and exit code.
func (h *host) try(argv ...string) (output string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), step)
	defer cancel()
	stdout, stderr, code := h.Exec(ctx, argv...)
	return stdout + stderr, code
}

// serve starts the servers anew.
func (h *host) serve() {
	h.t.Helper()
	h.Run("systemctl", "restart", "every-channel-netboot.service")
	h.awaitServers()
}

// awaitServers waits until both servers listen.
func (h *host) awaitServers() {
	h.t.Helper()
	h.await("the servers listen", `systemctl is-active --quiet every-channel-netboot.service every-channel-netboot-tftp.service && ss -Hltn sport = :80 | grep -q . && ss -Hlun sport = :69 | grep -q .`)
}

// await waits until a shell's condition holds.
func (h *host) await(what, condition string) {
	h.t.Helper()
	for end := time.Now().Add(step); ; time.Sleep(100 * time.Millisecond) {
		if _, code := h.try("sh", "-c", condition); code == 0 {
			return
		}
		if time.Now().After(end) {
			out, _ := h.try("journalctl", "--no-pager", "-n", "60", "-u", "every-channel-netboot*")
			h.t.Fatalf("not within %s: %s\n%s", step, what, out)
		}
	}
}

// pid is the host's first process, seen from here.
func (h *host) pid() int {
	h.t.Helper()
	part := strings.Split(h.Path("/etc"), "/")
	pid, err := strconv.Atoi(part[2])
	if err != nil {
		h.t.Fatal(err)
	}
	return pid
}
