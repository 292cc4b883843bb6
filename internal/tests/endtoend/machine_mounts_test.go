package endtoend

import (
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
)

// planted is one way in which an intruder, or a careless admin, changes a machine
// beside its store.
type planted struct {
	name     string
	do, undo string // for a shell
	causes   []string
}

// startConfigured returns a runner whose release has that, and ec-verify with that
// release.
func startConfigured(t *testing.T, c testhost.Configured, with ...string) *machine {
	t.Helper()
	// Made of a host that is up: one that is booted with the fstab has systemd mount what
	// that has, again where a test unmounts it.
	m := start(t, with...)
	m.MakeRunner(testhost.Flake(t, c), "testhost")
	m.Run("env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", "/etc/every-channel/flake#testhost",
		"--out", releases+"/"+tag, "--tag", tag, "--best-before", "87600h")
	m.manifest = m.readManifest(m.Path(releases + "/" + tag + "/closure-testhost.json"))
	return m
}

// debianUsers are some of those that a test host has, as a configuration that lets others
// be added.
const debianUsers = `{
	"mutableUsers": true,
	"users": [
		{"name": "root", "uid": 0, "group": "root", "home": "/root", "shell": "/bin/bash"},
		{"name": "daemon", "uid": 1, "group": "daemon", "home": "/usr/sbin", "shell": "/usr/sbin/nologin"}
	],
	"groups": [{"name": "root", "gid": 0, "members": []}, {"name": "daemon", "gid": 1, "members": []}]
}`

// TestMachineConfigured: users, and what is mounted over directories in which programs
// look, as the first process sees it, and as services do, where the release says what they
// are to be.
func TestMachineConfigured(t *testing.T) {
	t.Parallel()
	m := startConfigured(t, testhost.Configured{Fstab: "overlay / overlay defaults 0 1\n/root/bound /opt none bind 0 0\n", Users: debianUsers})
	m.askMachine("etc")
	m.changed().expect(t, "verified", 0)
	m.Run("useradd", "visitor")
	m.changed().expect(t, "verified", 0)
	const back = "cp -p /root/passwd /etc/passwd; cp -p /root/group /etc/group"
	m.Run("cp", "-p", "/etc/passwd", "/etc/group", "/root")
	for _, p := range []planted{
		{"another shell", "sed -i 's,^root:.*,root:x:0:0:root:/root:/tmp/sh,' /etc/passwd", back, []string{"account-altered /etc/passwd root"}},
		{"another home", "sed -i 's,:/usr/sbin:,:/tmp:,' /etc/passwd", back, []string{"account-altered /etc/passwd daemon"}},
		{"another number", "sed -i 's,^daemon:x:1:,daemon:x:9999:,' /etc/passwd", back, []string{"account-altered /etc/passwd daemon"}},
		{"another group", "sed -i 's,^daemon:x:1:1:,daemon:x:1:0:,' /etc/passwd", back, []string{"account-altered /etc/passwd daemon"}},
		{"another number of a group", "sed -i 's,^daemon:x:1:,daemon:x:9999:,' /etc/group", back, []string{"account-altered /etc/group daemon"}},
		{"a group with the number of another", "echo evil:x:1:visitor >>/etc/group", back, []string{"account-altered /etc/group evil"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", p.do)
			defer m.Run("sh", "-euc", p.undo)
			m.changed().expect(t, "drifted", 1, p.causes...)
		})
	}
	m.askMachine("mounts")
	m.Run("sh", "-euc", "systemctl start systemd-logind; mkdir -p /root/bound /root/other /root/.ssh /opt; echo evil >/root/other/evil; mount --bind /root/bound /opt")
	m.changed().expect(t, "verified", 0)
	m.write("/root/functions", functionsOfMounts)

	binary := m.path("program-01-1.1") + "/bin/program-01"
	for _, p := range []planted{
		{"over one program of the store", "cp -p /bin/true /root/true; mount --bind /root/true " + binary, "umount " + binary, []string{"foreign-mount " + binary}},
		{"a link in the place of one", "ln -s /root/other /root/link; overlink /root/link /run/current-system", "umount /run/current-system; rm /root/link", []string{"foreign-mount /run/current-system"}},
		{"over /etc", "mount -t overlay o -o lowerdir=/root/other:/etc /etc", "umount /etc", []string{"foreign-mount /etc"}},
		{"over a directory of units", "mount -t tmpfs t /run/systemd/system", "umount /run/systemd/system", []string{"foreign-mount /run/systemd/system"}},
		{"where the fstab has another", "umount /opt; mount --bind /root/other /opt", "umount /opt; mount --bind /root/bound /opt", []string{"foreign-mount /opt"}},
		{"over what the fstab has", "mount -t tmpfs t /opt", "umount /opt", []string{"foreign-mount /opt"}},
		{"over the database", "mount -t overlay o -o lowerdir=/root/other:/nix/var/nix/db /nix/var/nix/db", "umount /nix/var/nix/db", []string{"foreign-mount /nix/var/nix/db"}},
		{"over the keys of root", "mount --bind /root/other /root/.ssh", "umount /root/.ssh", []string{"foreign-mount /root/.ssh"}},
		{
			"into a service that runs", "systemctl bind systemd-logind.service /root/other /etc/nix", "again systemd-logind",
			[]string{"foreign-mount /etc/nix systemd-logind.service"},
		},
		{
			"off a service", "inside systemd-logind umount -l /opt", "again systemd-logind",
			[]string{"foreign-mount /opt systemd-logind.service"},
		},
		{
			"over one program for a service", "inside systemd-logind mount --bind /bin/false " + binary, "again systemd-logind",
			[]string{"foreign-mount " + binary + " systemd-logind.service"},
		},
		{
			"over the store for a service", "mkdir -p /srv/other; inside systemd-logind mount -t overlay o -o lowerdir=/srv/other:/nix/store /nix/store", "again systemd-logind",
			[]string{"foreign-mount /nix/store systemd-logind.service"},
		},
		{
			"by a drop-in", "dropin systemd-logind BindReadOnlyPaths=/root/other:/etc/nix", "rm -r /run/systemd/system/systemd-logind.service.d; systemctl daemon-reload; again systemd-logind",
			[]string{"foreign-mount /etc/nix systemd-logind.service"},
		},
		{
			"by a transient unit", "systemd-run --quiet --unit=evil -p Type=exec -p TemporaryFileSystem=/etc/nix sleep 1000", "systemctl stop evil",
			[]string{"foreign-mount /etc/nix evil.service"},
		},
		{
			"where somebody logged in", "run evil unshare --mount sh -c 'mount --bind /root/other /root/.ssh; exec sleep 1000'", "end evil",
			[]string{"foreign-mount /root/.ssh no unit"},
		},
	} {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", ". /root/functions; "+p.do)
			defer m.Run("sh", "-euc", ". /root/functions; "+p.undo)
			m.changed().expect(t, "drifted", 1, p.causes...)
		})
	}
	for _, p := range []planted{
		{"a disk elsewhere", "mkdir -p /mnt /srv/data; mount -t tmpfs t /mnt; mount -t tmpfs t /srv/data", "umount /mnt /srv/data", nil},
		{"bound over itself", "mount --bind /nix/store /nix/store; mount -o remount,bind,ro /nix/store", "umount /nix/store", nil},
		{
			"a sandbox of a service", "systemd-run --quiet --scope --unit=x true; dropin systemd-hostnamed '" + sandboxed + "'",
			"rm -r /run/systemd/system/systemd-hostnamed.service.d; systemctl daemon-reload; again systemd-hostnamed", nil,
		},
	} {
		t.Run(p.name, func(t *testing.T) {
			m.Run("sh", "-euc", ". /root/functions; "+p.do)
			defer m.Run("sh", "-euc", ". /root/functions; "+p.undo)
			m.changed().expect(t, "verified", 0)
		})
	}
	// A container has another root directory: it is counted.
	m.Run("sh", "-euc", ". /root/functions; run jail unshare --mount chroot / true; run other unshare --mount sh -euc 'mkdir -p /root/root/old; mount --bind /root/root /root/root; cp /bin/busybox /root/root/sleep; cd /root/root; pivot_root . old; exec /sleep 1000'")
	a := m.changed()
	a.expect(t, "verified", 0)
	if why := a.why("machine"); !strings.Contains(why, "1 mount namespaces with another root directory") {
		t.Errorf("of another root it says %q", why)
	}
	m.changed().expect(t, "verified", 0)
}

const (
	// sandboxed is what services of NixOS ask for.
	sandboxed = `ProtectSystem=strict\nProtectHome=tmpfs\nPrivateTmp=yes\nPrivateDevices=yes\nProtectProc=invisible\nProcSubset=pid\nProtectKernelTunables=yes\nProtectControlGroups=yes\nProtectKernelLogs=yes\nPrivateNetwork=yes\nInaccessiblePaths=/etc/nix /opt\nReadWritePaths=/etc\nReadOnlyPaths=/nix\nDynamicUser=yes\nStateDirectory=x\nConfigurationDirectory=y\nRuntimeDirectory=z\nPrivateMounts=yes`

	// functionsOfMounts is for the shell of a test host.
	functionsOfMounts = running + `
overlink() { # LINK LINK: mount one over another, which mount(8) does not
	perl -e 'my ($from, $to, $none) = (@ARGV, ""); my $f = syscall(428, -100, $from, 0x101); syscall(429, $f, $none, -100, $to, 4) == 0 or die $!' $1 $2
}
again() { systemctl reset-failed $1; systemctl restart $1; }
inside() { # SERVICE COMMAND: in the mounts of a service
	p=$(systemctl show --property=MainPID --value $1); shift; nsenter --target=$p --mount "$@"
}
dropin() { # SERVICE LINES
	mkdir -p /run/systemd/system/$1.service.d; printf "[Service]\n$2\n" >/run/systemd/system/$1.service.d/a.conf
	systemctl daemon-reload; again $1
}
`
)

// why returns a tier's statement about what it did not check.
func (a answer) why(tier string) string {
	for _, t := range a.Tiers {
		if t.Name == tier {
			return t.Why
		}
	}
	return ""
}
