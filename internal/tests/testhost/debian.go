package testhost

import "strings"

// debianEtc lists the names in a test host's /etc that come from Debian and that NixOS
// does not have. A name that ends in a slash is a directory with everything in it.
const debianEtc = `
	adduser.conf alternatives/ apt/ bash.bashrc bindresvport.blacklist ca-certificates.conf
	cron.daily/ debconf.conf debian_version default/ deluser.conf dpkg/ environment fstab
	gai.conf host.conf init.d/ inputrc issue issue.net ld.so.cache ld.so.conf ld.so.conf.d/
	libaudit.conf login.defs logrotate.d/ modules-load.d/ motd netconfig nginx/ nix/nix.conf
	nsswitch.conf pam.conf pam.d/ perl/ profile profile.d/ rc0.d/ rc1.d/ rc2.d/ rc3.d/ rc4.d/
	rc5.d/ rc6.d/ rcS.d/ rmt security/ selinux/ shells skel/ ssh/ssh_config.d/ ssl/ sysctl.d/
	systemd/journal-remote.conf systemd/journal-upload.conf systemd/journald.conf
	systemd/logind.conf systemd/networkd.conf systemd/pstore.conf systemd/sleep.conf
	systemd/system.conf systemd/user.conf systemd/system terminfo/ ufw/ update-motd.d/
	vconsole.conf xattr.conf xdg/
`

// debianUnits is the same in /etc/systemd/system: masks of hack/testhost, and what
// Debian's packages enable.
const debianUnits = `
	apt-daily-upgrade.timer apt-daily.timer console-getty.service dpkg-db-backup.timer
	e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target nginx.service
	systemd-networkd-wait-online.service systemd-networkd.service systemd-resolved.service
	systemd-timesyncd.service getty.target.wants/ multi-user.target.wants/
	sockets.target.wants/ sysinit.target.wants/ timers.target.wants/
`

// debianTrees are the directories, links and files that Debian's packages own elsewhere.
const debianTrees = `
	/bin /lib /lib64 /sbin /usr/bin/ /usr/sbin/ /usr/lib/ /usr/lib64/ /usr/libexec/
	/usr/share/ /usr/include/ /usr/local/man /root/.bashrc /root/.profile
`

// Debian returns the paths of all that a test host has of Debian and that a NixOS
// would not have: a directory, with all that is in it, ends in a slash.
func Debian() []string {
	out := strings.Fields(debianTrees)
	for _, name := range strings.Fields(debianEtc) {
		out = append(out, "/etc/"+name)
	}
	for _, name := range strings.Fields(debianUnits) {
		out = append(out, "/etc/systemd/system/"+name)
	}
	return out
}
