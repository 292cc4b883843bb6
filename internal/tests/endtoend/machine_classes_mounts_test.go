package endtoend

func init() { changeClasses = append(changeClasses, mountClasses...) }

// private is a mount that the processes of one unit have, who have it as part of what
// they do anyway.
func private(name, do, undo, cause, key string, more ...string) changeClass {
	return changeClass{name, "mkdir -p /srv/m@; " + do, undo + "; rm -r /srv/m@", append(more, "foreign-mount "+cause), key}
}

const (
	inLogind = "systemctl start systemd-logind; nsenter --target=$(systemctl show --property=MainPID --value systemd-logind) --mount "
	logind   = "systemctl reset-failed systemd-logind; systemctl restart systemd-logind"
)

// mountClasses are mounts over what is looked at. The release of a test host has no
// fstab by which those of the first process could be judged.
var mountClasses = []changeClass{
	{"a mount over a program", "cp -p /bin/true /root/m@; mount --bind /root/m@ /usr/bin/tac", "umount /usr/bin/tac; rm /root/m@", []string{"mounted-over /usr/bin/tac"}, ""},
	{"a mount over a directory of /etc", "cp -a /etc/nix /root/n@; mount --bind /root/n@ /etc/nix", "umount /etc/nix; rm -r /root/n@", []string{"mounted-over /etc/nix"}, "library"},
	{"an overlay over programs", "mkdir -p /root/o@/x; mount -t overlay o -o lowerdir=/root/o@:/usr/share/misc /usr/share/misc", "umount /usr/share/misc; rm -r /root/o@", []string{"mounted-over /usr/share/misc"}, ""},
	{"a tmpfs over units", "reload; mount -t tmpfs t@ /run/systemd/system", "umount /run/systemd/system", []string{"mounted-over /run/systemd/system"}, "last"},
	private("a mount into a service that runs", "systemctl start systemd-logind; systemctl bind systemd-logind.service /srv/m@ /etc/nix/path", logind, "/etc/nix/path systemd-logind.service", "logind library"),
	private("a tmpfs in a service", inLogind+"mount -t tmpfs t@ /usr/share/perl", logind, "/usr/share/perl systemd-logind.service", "logind"),
	private("a program for a service", "cp -p /bin/true /srv/m@/x; "+inLogind+"mount --bind /srv/m@/x /usr/bin/sha1sum", logind, "/usr/bin/sha1sum systemd-logind.service", "logind"),
	private("a mount of a transient unit", "systemd-run --quiet --unit=m@ -p Type=exec -p BindReadOnlyPaths=/srv/m@:/usr/share/base-files sleep 1000", "systemctl stop m@", "/usr/share/base-files m@.service", "", "unit-unknown /run/systemd/transient/m@.service"),
	private("an empty directory of a transient unit", "systemd-run --quiet --unit=e@ -p Type=exec -p TemporaryFileSystem=/usr/share/perl sleep 1000", "systemctl stop e@", "/usr/share/perl e@.service", "", "unit-unknown /run/systemd/transient/e@.service"),
	private("a mount by a drop-in", `mkdir -p /run/systemd/system/systemd-hostnamed.service.d; printf '[Service]\nBindReadOnlyPaths=/srv/m@:/usr/share/debconf\nEnvironment=SYSTEMD_EXIT_ON_IDLE=no\n' >/run/systemd/system/systemd-hostnamed.service.d/m@.conf; reload; systemctl restart systemd-hostnamed`,
		"rm -r /run/systemd/system/systemd-hostnamed.service.d; reload; systemctl restart systemd-hostnamed", "/usr/share/debconf systemd-hostnamed.service", "hostnamed",
		"unit-unknown /run/systemd/system/systemd-hostnamed.service.d/m@.conf"),
	private("a mount where somebody logged in", "mkdir -p /root/.ssh; run m@ unshare --mount --propagation slave sh -c 'mount --bind /srv/m@ /root/.ssh; exec sleep 1000'", "end m@", "/root/.ssh no unit", ""),
}
