package endtoend

import (
	"slices"
	"strings"
)

// changeClass is a kind of change of a machine beside its store. In what it does, how
// that is undone, and its causes, "@" is another word at each draw.
type changeClass struct {
	name string
	// do and undo are for a shell, after [running]. They have [reload] at most once.
	do, undo string
	causes   []string
	// key has the words that no two changes can have at once; empty for none. Of those
	// with the word "last", what is done after the reload is done after all else.
	key string
}

// excludes reports whether the two can't be made at once: they are about the same thing.
func (c *changeClass) excludes(other *changeClass) bool {
	return c == other || slices.ContainsFunc(strings.Fields(c.key), func(word string) bool {
		return slices.Contains(strings.Fields(other.key), word)
	})
}

// reload has the service manager read its units again. Changes that are made at once have
// it do that once, after all that any of them has before it.
const reload = "reload; "

// running has the functions by which changes start and end processes, and change units.
const running = `
reload() { systemctl daemon-reload; reloaded=$(date +%s); }
run() { t=$1; shift; setsid "$@" </dev/null >/dev/null 2>&1 & p=$!; echo $p >/run/pid.$t; while starts $p; do sleep 0.02; done; }
starts() { # PID: it is not yet the program that waits, but what starts that
	case $(readlink /proc/$1/exe) in
	/usr/bin/dash | /usr/bin/setsid | /usr/bin/env | /usr/bin/unshare | /usr/bin/setpriv | /usr/bin/perl*) return 0 ;;
	esac
	! grep -qs '^State:.[STZ]' /proc/$1/status && [ -d /proc/$1 ]
}
end() { # TOKEN [SIGNAL]
	p=$(cat /run/pid.$1); kill -${2:-TERM} $p || true; rm /run/pid.$1; while [ -d /proc/$p ]; do sleep 0.02; done
}
# Have a unit read with other words, and put its file back.
edit() { # NAME SED
	f=/usr/lib/systemd/system/$1; cp -p $f /root/$1; sed -i "$2" $f; touch -r /root/$1 $f
}
restore() { # NAME
	f=/usr/lib/systemd/system/$1; cat /root/$1 >$f; touch -r /root/$1 $f; rm /root/$1
}
`

// line is a line that is added to a file with accounts.
func line(name, file, text, field string) changeClass {
	return changeClass{
		name, "echo '" + text + "' >>" + file, "sed -i '/@/d' " + file, []string{"account-altered " + file + " " + field}, "",
	}
}

// file is a file that is put somewhere, reported as at; "" for the file itself.
func file(name, at string) changeClass {
	if at == "" {
		at = name
	}
	return changeClass{
		"a file " + name, `mkdir -p "$(dirname "` + name + `")"; echo evil >"` + name + `"`,
		`rm -r "` + at + `"`, []string{"file-unknown " + at}, "",
	}
}

var changeClasses = []changeClass{
	line("a second root", "/etc/passwd", "t@:x:0:0::/root:/bin/sh", "t@"),
	line("a user without a password", "/etc/passwd", "u@::20000:100::/none:/bin/sh", "u@"),
	line("a user without a number", "/etc/passwd", "v@:x:none:100::/none:/bin/sh", "v@"),
	line("a line of no form", "/etc/passwd", "+@", "+@"),
	line("an empty password", "/etc/shadow", "w@::20000::::::", "w@"),
	line("a password of a group", "/etc/gshadow", "h@:hash::", "h@"),
	line("a group like root's", "/etc/group", "g@:x:0:visitor", "g@"),
	line("a range of users with root", "/etc/subuid", "r@:0:1", "r@"),
	line("a range of groups with others", "/etc/subgid", "r@:1:65000", "r@"),
	line("a member of no form", "/etc/gshadow", "m@", "m@"),
	{"passwords for all to read", "chmod 644 /etc/shadow", "chmod 640 /etc/shadow", []string{"account-altered /etc/shadow"}, ""},
	{"users for all to write", "chmod 666 /etc/passwd", "chmod 644 /etc/passwd", []string{"account-altered /etc/passwd"}, "passwd"},
	{"users of a user", "chown visitor /etc/passwd", "chown root /etc/passwd", []string{"account-altered /etc/passwd"}, "passwd"},
	{"groups for a group to write", "chmod 664 /etc/group", "chmod 644 /etc/group", []string{"account-altered /etc/group"}, ""},
	{"a key of root", "mkdir -p /root/.ssh; echo ssh-ed25519 AAAA @ >/root/.ssh/authorized_keys", "rm /root/.ssh/authorized_keys", []string{"account-altered /root/.ssh/authorized_keys"}, ""},
	{"a key of a user", "mkdir -p /home/visitor/.ssh; echo ssh-ed25519 AAAA @ >/home/visitor/.ssh/authorized_keys2", "rm /home/visitor/.ssh/authorized_keys2", []string{"account-altered /home/visitor/.ssh/authorized_keys2"}, ""},

	{"the tree redirected", `cp -a "$(realpath /etc/static)" /root/s@; ln -sfn /root/s@ /etc/static`, `ln -sfn "$(realpath /run/current-system/etc)" /etc/static; rm -r /root/s@`, []string{"etc-altered /etc/static"}, "static"},
	{"an entry redirected", "ln -sfn /root/@ /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}, "os-release"},
	{"an entry removed", "rm /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}, "os-release"},
	{"an entry replaced by a copy", "rm /etc/os-release; cp /etc/static/os-release /etc/os-release", "ln -sfn /etc/static/os-release /etc/os-release", []string{"etc-altered /etc/os-release"}, "os-release"},
	{"an entry replaced by a directory", "rm /etc/nix/path/library; mkdir /etc/nix/path/library", "rmdir /etc/nix/path/library; ln -s /etc/static/nix/path/library /etc/nix/path/library", []string{"etc-altered /etc/nix/path/library"}, "library"},
	{"an entry past the tree", `ln -sfn "$(realpath /etc/static/nix/path/library)" /etc/nix/path/library`, "ln -sfn /etc/static/nix/path/library /etc/nix/path/library", []string{"etc-altered /etc/nix/path/library"}, "library"},
	{"a directory for all to write", "chmod 777 /etc/every-channel", "chmod 755 /etc/every-channel", []string{"etc-altered /etc/every-channel"}, ""},
	{"a directory of a user", "chown visitor /etc/nix/path", "chown root /etc/nix/path", []string{"etc-altered /etc/nix/path"}, ""},

	file("/etc/ld.so.preload", ""), file("/etc/sudoers", ""), file("/etc/sudoers.d/@", "/etc/sudoers.d"), file("/etc/crontab", ""),
	file("/etc/cron.d/@", "/etc/cron.d"), file("/etc/modprobe.d/@.conf", "/etc/modprobe.d"), file("/etc/doas.conf", ""), file("/etc/rc.local", ""),
	file("/etc/zshenv", ""), file("/etc/binfmt.d/@.conf", "/etc/binfmt.d"), file("/etc/.@", ""), file("/etc/two words @", ""),
	file("/etc/ssh/sshd_config", ""), file("/etc/hosts.equiv", ""), file("/etc/every-channel/@", ""),
	{"a program with the rights of root in /etc", "cp /bin/true /etc/@; chmod 4755 /etc/@", "rm /etc/@", []string{"file-unknown /etc/@"}, ""},
	{"a pipe in /etc", "mkfifo /etc/p@", "rm /etc/p@", []string{"file-unknown /etc/p@"}, ""},
	{"a link in /etc", "ln -s /tmp/@ /etc/l@", "rm /etc/l@", []string{"file-unknown /etc/l@"}, ""},
	file("/etc/systemd/system/u@.service", ""), file("/etc/systemd/system/d@.service.d/a.conf", "/etc/systemd/system/d@.service.d"),
	{"a unit enabled", "mkdir /etc/systemd/system/w@.target.wants; ln -s /usr/lib/systemd/system/rescue.service /etc/systemd/system/w@.target.wants/", "rm -r /etc/systemd/system/w@.target.wants", []string{"file-unknown /etc/systemd/system/w@.target.wants"}, ""},
	file("/etc/systemd/system-generators/@", "/etc/systemd/system-generators"),

	file("/usr/local/bin/ls@", ""), file("/usr/games/@", "/usr/games"), file("/opt/@/bin/x", "/opt"), file("/lib32/@.so", "/lib32"),
	file("/var/spool/cron/crontabs/@", "/var/spool/cron"), file("/run/udev/rules.d/@.rules", "/run/udev/rules.d"), file("/run/modprobe.d/@.conf", "/run/modprobe.d"),
	file("/run/polkit-1/rules.d/@.rules", "/run/polkit-1"), file("/run/tmpfiles.d/@.conf", ""), file("/run/environment.d/@.conf", "/run/environment.d"),
	file("/run/systemd/system.conf.d/@.conf", "/run/systemd/system.conf.d"), file("/run/userdb/@.user", "/run/userdb"), file("/run/dbus-1/system.d/@.conf", "/run/dbus-1"),
	file("/run/nextroot/@", "/run/nextroot"), file("/run/initramfs/shutdown", ""), file("/run/opengl-driver/lib/@.so", "/run/opengl-driver"),
	file("/var/spool/atjobs/@", ""), file("/etc/credstore/tmpfiles.extra", ""), file("/run/credstore/login.noauth", ""),
	{"a program with the rights of root in the place of /etc/adjtime", "cp /bin/true /etc/adjtime; chmod 4755 /etc/adjtime", "rm /etc/adjtime", []string{"file-unknown /etc/adjtime"}, ""},
	file("/root/.bash_login", ""), file("/root/.config/systemd/user/@.service", ""), file("/root/.ssh/rc", ""),
	{"a profile of Nix for all", `mkdir -p /root/p@/bin; cp /bin/true /root/p@/bin/ls; ln -s /root/p@ /nix/var/nix/profiles/default`, "rm -r /nix/var/nix/profiles/default /root/p@", []string{"file-unknown /nix/var/nix/profiles/default"}, ""},
	file("/run/sysctl.d/@.conf", "/run/sysctl.d"), file("/run/modules-load.d/@.conf", "/run/modules-load.d"), file("/run/binfmt.d/@.conf", "/run/binfmt.d"),

	{"a unit started", "printf '[Service]\nExecStart=/usr/bin/sleep 1000\n' >/run/systemd/system/s@.service; systemctl start s@", "systemctl stop s@; rm /run/systemd/system/s@.service; reload; ", []string{"unit-unknown /run/systemd/system/s@.service"}, ""},
	{"a unit started, and its file removed", "printf '[Service]\nExecStart=/usr/bin/sleep 1000\n' >/run/systemd/system/r@.service; reload; systemctl start r@; rm /run/systemd/system/r@.service", "systemctl stop r@; reload; ", []string{"unit-unknown /run/systemd/system/r@.service"}, ""},
	{"the same, and reloaded", "printf '[Service]\nExecStart=/usr/bin/sleep 1000\n' >/run/systemd/system/g@.service; systemctl start g@; rm /run/systemd/system/g@.service; reload; ", "systemctl stop g@", []string{"unit-unknown unit g@.service"}, ""},
	{"a drop-in", "mkdir -p /run/systemd/system/dbus.service.d; printf '[Service]\nNice=1\n' >/run/systemd/system/dbus.service.d/@.conf; reload; ", "rm -r /run/systemd/system/dbus.service.d; reload; ", []string{"unit-unknown /run/systemd/system/dbus.service.d/@.conf"}, "dbus"},
	{"a property set", "systemctl set-property --runtime dbus.service CPUWeight=50", "rm -r /run/systemd/system.control; reload; ", []string{"unit-unknown /run/systemd/system.control/dbus.service.d/50-CPUWeight.conf"}, "dbus"},
	{"a unit masked", "systemctl mask --runtime --no-reload systemd-hostnamed.service; reload; ", "systemctl unmask --runtime --no-reload systemd-hostnamed.service; reload; ", []string{"unit-unknown /run/systemd/system/systemd-hostnamed.service"}, "hostnamed"},
	{"a transient service", "systemd-run --quiet --unit=x@ sleep 1000", "systemctl stop x@", []string{"unit-unknown /run/systemd/transient/x@.service"}, ""},
	{"a transient timer", "systemd-run --quiet --unit=y@ --on-active=1h true", "systemctl stop y@.timer", []string{"unit-unknown /run/systemd/transient/y@.service", "unit-unknown /run/systemd/transient/y@.timer"}, ""},
	{"a generator", "mkdir /run/systemd/system-generators; cp /bin/true /run/systemd/system-generators/@", "rm -r /run/systemd/system-generators", []string{"unit-unknown /run/systemd/system-generators/@"}, ""},
	{"a unit among those of generators", "reload; until [ $(date +%s) -ge $((reloaded + 12)) ]; do sleep 0.1; done; echo >/run/systemd/generator/z@.service", "rm /run/systemd/generator/z@.service", []string{"unit-unknown /run/systemd/generator/z@.service"}, "last"},
	{"a unit for all users", "mkdir -p /run/systemd/user; echo >/run/systemd/user/@.service", "rm /run/systemd/user/@.service", []string{"unit-unknown /run/systemd/user/@.service"}, ""},
	{"a unit's file changed", "reload; touch /usr/lib/systemd/system/systemd-binfmt.service", "reload; ", []string{"unit-stale unit systemd-binfmt.service"}, ""},
	{"a unit read with another program", "edit dbus.service 's,^ExecStart=.[^[:space:]]*,ExecStart=/tmp/@,'; reload; restore dbus.service", "reload; ", []string{"unit-altered unit dbus.service program"}, "dbus"},
	{"a unit read with another argument", "edit nix-daemon.service s,--daemon,--@,; reload; restore nix-daemon.service", "reload; ", []string{"unit-altered unit nix-daemon.service argument"}, ""},
	{"a unit read with another variable", "edit systemd-sysctl.service 's,^ExecStart=,Environment=LD_PRELOAD=/tmp/@.so\\n&,'; reload; restore systemd-sysctl.service", "reload; ", []string{"unit-altered unit systemd-sysctl.service environment"}, ""},
	{"a unit read with another user", "edit systemd-user-sessions.service 's,^ExecStart=,User=daemon\\n&,'; reload; restore systemd-user-sessions.service", "reload; ", []string{"unit-altered unit systemd-user-sessions.service setting"}, ""},
	{"a unit read with a file of variables", "edit systemd-update-done.service 's,^ExecStart=,EnvironmentFile=-/tmp/@.env\\n&,'; reload; restore systemd-update-done.service", "reload; ", []string{"unit-altered unit systemd-update-done.service setting"}, ""},
	{"a library for all units", "systemctl set-environment LD_PRELOAD=/tmp/@.so", "systemctl unset-environment LD_PRELOAD", []string{"unit-altered the service manager LD_PRELOAD"}, ""},
	{"programs of /tmp for all units", "systemctl set-environment PATH=/tmp/@:/usr/sbin:/usr/bin:/sbin:/bin", "systemctl unset-environment PATH", []string{"unit-altered the service manager PATH"}, ""},

	{"a program from /tmp", "cp /bin/sleep /tmp/a@; run @ /tmp/a@ 1000", "end @; rm /tmp/a@", []string{"code-unknown /tmp/a@"}, ""},
	{"a program whose file was removed", "cp /bin/sleep /tmp/b@; run @ /tmp/b@ 1000; rm /tmp/b@", "end @", []string{"code-unknown /tmp/b@ (deleted)"}, ""},
	{"a program whose file was replaced", "cp /bin/sleep /tmp/c@; run @ /tmp/c@ 1000; cp /bin/sleep /tmp/c@.new; mv /tmp/c@.new /tmp/c@", "end @; rm /tmp/c@", []string{"code-unknown /tmp/c@ (deleted)"}, ""},
	{"a program from /dev/shm", "cp /bin/sleep /dev/shm/@; run @ /dev/shm/@ 1000", "end @; rm /dev/shm/@", []string{"code-unknown /dev/shm/@"}, ""},
	{"a user's program", "cp /bin/sleep /home/visitor/@; run @ setpriv --reuid=visitor --clear-groups /home/visitor/@ 1000", "end @; rm /home/visitor/@", []string{"code-unknown /home/visitor/@"}, ""},
	{"a program in memory", `run @ perl -e 'my $n = "m@"; my $f = syscall(319, $n, 0); open(my $in, "<", "/bin/sleep"); open(my $out, ">&=", $f); local $/; my $d = <$in>; syswrite($out, $d); exec({"/proc/self/fd/$f"} "sleep", "1000")'`, "end @", []string{"code-unknown /memfd:m@ (deleted)"}, ""},
	{"a program under another's name", "mkdir /root/@; cp /bin/sleep /root/@/; run @ unshare --mount --propagation slave sh -c 'mount --bind /root/@/sleep /usr/bin/sleep; exec sleep 1000'", "end @; rm -r /root/@", []string{"code-unknown /usr/bin/sleep replaced", "foreign-mount /usr/bin/sleep no unit"}, ""},
	{"a library from /tmp", "cp /usr/lib/x86_64-linux-gnu/libm.so.6 /tmp/d@.so; run @ env LD_PRELOAD=/tmp/d@.so sleep 1000", "end @; rm /tmp/d@.so", []string{"code-unknown /tmp/d@.so"}, ""},
	{"a library that was removed", "cp /usr/lib/x86_64-linux-gnu/libm.so.6 /tmp/e@.so; run @ env LD_PRELOAD=/tmp/e@.so sleep 1000; rm /tmp/e@.so", "end @", []string{"code-unknown /tmp/e@.so (deleted)"}, ""},
	{"a program that is renamed all the time", "cp /bin/sleep /tmp/g@0; run @ /tmp/g@0 1000; touch /run/mover.@; setsid sh -c 'n=0; while [ -e /run/pid.@ ]; do mv /tmp/g@$n /tmp/g@$((n + 1)); n=$((n + 1)); sleep 0.2; done; rm /run/mover.@' </dev/null >/dev/null 2>&1 &", "end @; while [ -e /run/mover.@ ]; do sleep 0.05; done; rm /tmp/g@*", []string{"code-unknown /tmp/g@*"}, ""},
	{"a builder of Nix with a right of root", "cp /bin/sleep /tmp/h@; run @ setpriv --reuid=nixbld1 --clear-groups --inh-caps=+setuid --ambient-caps=+setuid /tmp/h@ 1000", "end @; rm /tmp/h@", []string{"code-unknown /tmp/h@"}, ""},
	{"a BPF program", `run @ perl -e 'my ($code, $license) = (pack("CCsl" x 2, 0xb7, 0, 0, 0, 0x95, 0, 0, 0), "GPL"); my $attributes = pack("LLpp", 1, 2, $code, $license); my $f = syscall(321, 5, $attributes, length $attributes); open(my $kept, "<&=", $f) or die; fcntl($kept, 2, 0) or die; exec("sleep", "1000")'`, "end @", []string{"code-unknown /usr/bin/sleep BPF socket_filter"}, "bpf"},
	{"a script", "echo 'while :; do sleep 1; done' >/tmp/f@; run @ /run/current-system/sw/bin/sh /tmp/f@", "end @; rm /tmp/f@", []string{"code-unknown /tmp/f@"}, ""},

	{"a packet socket", `run @ perl -e 'BEGIN { $^F = 9 } socket(my $s, 17, 3, 0x0300) or die $!; exec "sleep", "1000"'`, "end @", []string{"socket-unknown /usr/bin/sleep packet 0003"}, ""},
	{"a raw socket", `run @ perl -e 'BEGIN { $^F = 9 } socket(my $s, 2, 3, 1) or die $!; exec "sleep", "1000"'`, "end @", []string{"socket-unknown /usr/bin/sleep raw 0.0.0.0:1"}, ""},
	{"a socket unit read with another port", "edit systemd-journal-remote.socket s,19532,4711,; reload; systemctl start systemd-journal-remote.socket; restore systemd-journal-remote.socket", "systemctl stop systemd-journal-remote.socket; reload; ", []string{"socket-unknown /usr/lib/systemd/systemd tcp [::]:4711"}, ""},

	file("/var/lib/systemd/linger/@", ""),
	{"a service of a user that is started at boot", "mkdir -p /var/lib/systemd/linger /home/visitor/.config/systemd/user; touch /var/lib/systemd/linger/visitor; echo >/home/visitor/.config/systemd/user/@.service", "rm /var/lib/systemd/linger/visitor /home/visitor/.config/systemd/user/@.service", []string{"file-unknown /var/lib/systemd/linger/visitor", "file-unknown /home/visitor/.config/systemd/user/@.service"}, "linger"},
	{"a service of another place", "mkdir -p /var/lib/systemd/linger /home/visitor/.local/share/systemd/user; touch /var/lib/systemd/linger/visitor; ln -s /tmp/@.service /home/visitor/.local/share/systemd/user/@.service; echo >/tmp/@.service", "rm /var/lib/systemd/linger/visitor /home/visitor/.local/share/systemd/user/@.service /tmp/@.service", []string{"file-unknown /var/lib/systemd/linger/visitor", "file-unknown /home/visitor/.local/share/systemd/user/@.service"}, "linger"},
	{"a port led to another", "nft add table ip t@; nft add chain ip t@ pre '{ type nat hook prerouting priority dstnat; }'; nft add rule ip t@ pre tcp dport 4444 redirect to :22", "nft delete table ip t@", []string{"firewall-altered table ip t@"}, ""},
	{"all packets dropped", "nft add table inet d@; nft add chain inet d@ in '{ type filter hook input priority 0; policy drop; }'", "nft delete table inet d@", []string{"firewall-altered table inet d@"}, ""},
}
