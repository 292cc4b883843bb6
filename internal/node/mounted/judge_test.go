package mounted

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
)

// way returns the mounts on the way to a directory, each on the one before,
// written as "POINT DEVICE ROOT TYPE SOURCE OPTIONS".
func way(t *testing.T, lines ...string) []nixstore.Mount {
	t.Helper()
	var out []nixstore.Mount
	for i, line := range lines {
		m := nixstore.Mount{ID: 20 + i, Parent: 19 + i}
		f := strings.Fields(line)
		if len(f) < 5 {
			t.Fatalf("malformed: %q", line)
		}
		m.Point, m.Device, m.Root, m.Type, m.Source = f[0], f[1], f[2], f[3], f[4]
		if len(f) > 5 {
			m.Options = f[5]
		}
		out = append(out, m)
	}
	return out
}

// TestMountJudge has the machines that are known to be honest, and what somebody
// can mount over each.
func TestMountJudge(t *testing.T) {
	const (
		plain   = "/dev/disk/by-uuid/1234 / ext4 x-initrd.mount 0 1\n"
		netboot = "tmpfs / tmpfs x-initrd.mount,mode=0755 0 0\n" +
			"../nix-store.squashfs /nix/.ro-store squashfs x-initrd.mount,loop 0 0\n" +
			"tmpfs /nix/.rw-store tmpfs x-initrd.mount,mode=0755 0 0\n" +
			"overlay /nix/store overlay x-initrd.mount,lowerdir=/mnt-root/nix/.ro-store,upperdir=/mnt-root/nix/.rw-store/store,workdir=/mnt-root/nix/.rw-store/work 0 0\n"
		runner = "overlay / overlay lowerdir=/run/overlay-root/lower,upperdir=/run/overlay-root/upper,workdir=/run/overlay-root/work,x-initrd.mount 0 0\n" +
			"/dev/disk/by-partlabel/ec-nix /nix ext4 nodev,nosuid,noatime,x-initrd.mount 0 2\n"
		subvolumes = "LABEL=disk / btrfs subvol=root 0 0\nLABEL=disk /nix btrfs subvol=/nix,noatime 0 0\n"
		bound      = "UUID=1 / ext4 defaults 0 1\n/persist/nix /nix none bind 0 0\n"
	)
	root := "/ 8:1 / ext4 /dev/sda1"
	readOnly := "/nix/store 8:1 /nix/store ext4 /dev/sda1" // what NixOS binds over its store
	names := map[string][]string{
		"8:1": {"/dev/sda1", "/dev/disk/by-uuid/1234", "/dev/disk/by-uuid/1"},
		"8:2": {"/dev/sda2", "/dev/disk/by-partlabel/ec-nix"},
		"8:3": {"/dev/sdb1", "/dev/disk/by-uuid/666"},
	}
	ram := "/ 0:20 / tmpfs tmpfs"
	netbooted := "/nix/store 0:23 / overlay overlay rw,lowerdir=/mnt-root/nix/.ro-store,upperdir=/mnt-root/nix/.rw-store/store,workdir=/x"
	overlay := "/ 0:30 / overlay overlay rw,lowerdir=/run/overlay-root/lower,upperdir=/run/overlay-root/upper,workdir=/x"
	for _, c := range []struct {
		name, fstab string
		mounts      []string
		want        string // "" for nothing odd, else cause, point and why
	}{
		{"a disk", plain, []string{root, readOnly}, ""},
		{"bound twice, by a unit", plain, []string{root, readOnly, readOnly}, ""},
		{"a netbooted machine", netboot, []string{ram, netbooted}, ""},
		{"and its store read-only", netboot, []string{ram, netbooted, "/nix/store 0:23 / overlay overlay rw"}, ""},
		{"its store by another stage 1", netboot, []string{ram, strings.ReplaceAll(netbooted, "/mnt-root", "/sysroot")}, ""},
		{"by a newer mount(8)", netboot, []string{ram, strings.ReplaceAll(netbooted, "lowerdir=", "lowerdir+=")}, ""},
		{"a runner", runner, []string{overlay, "/nix 8:2 / ext4 /dev/sda2", "/nix/store 8:2 /store ext4 /dev/sda2"}, ""},
		{"subvolumes", subvolumes, []string{"/ 0:31 /root btrfs /dev/sda1", "/nix 0:32 /nix btrfs /dev/sda1", "/nix/store 0:32 /nix/store btrfs /dev/sda1"}, ""},
		{"a bind mount", bound, []string{root, "/nix 8:1 /persist/nix ext4 /dev/sda1"}, ""},
		{"what runs", plain, []string{root, "/run 0:25 / tmpfs tmpfs"}, ""},
		{"the lock of a closed gate", plain, []string{root, "/nix/var/nix/profiles 8:1 /nix/var/nix/profiles ext4 /dev/sda1", "/nix/var/nix/profiles/system.lock 0:6 /null devtmpfs devtmpfs"}, ""},
		{"the same in a container", "", []string{root, "/nix/var/nix/profiles/system.lock 0:51 /null tmpfs tmpfs"}, ""},
		{"a root that is configured nowhere", "", []string{"/ 0:40 / overlay overlay"}, ""},
		{"a unit for /nix", "unit", []string{root, "/nix 8:2 / xfs /dev/sda2"}, ""},

		{"a good copy of /nix", plain, []string{root, "/nix 0:50 / tmpfs tmpfs"}, "foreign-mount /nix: "},
		{"and bound over itself", plain, []string{root, "/nix 0:50 / tmpfs tmpfs", "/nix/store 0:50 /store tmpfs tmpfs"}, "foreign-mount /nix: "},
		{"a directory of the same disk", plain, []string{root, "/nix 8:1 /root/nix ext4 /dev/sda1"}, "foreign-mount /nix: "},
		{"an overlay over the store", plain, []string{root, "/nix/store 0:51 / overlay overlay rw,lowerdir=/nix/store"}, "foreign-mount /nix/store: "},
		{"a database", plain, []string{root, "/nix/var/nix/db 0:52 / tmpfs none"}, "foreign-mount /nix/var/nix/db: "},
		{"another root", plain, []string{"/ 0:53 / overlay overlay", "/nix/store 0:53 /nix/store overlay overlay"}, "foreign-mount /: the file system is of another type"},
		{"another disk as the root", plain, []string{"/ 8:3 / ext4 /dev/sdb1"}, "foreign-mount /: the file system is on another device"},
		{"over the runner's", runner, []string{overlay, "/nix 8:2 / ext4 /dev/sda2", "/nix 8:3 / ext4 /dev/sdb1"}, "foreign-mount /nix: "},
		{"in its place", runner, []string{overlay, "/nix 8:3 / ext4 /dev/sdb1"}, "foreign-mount /nix: the file system is on another device"},
		{"a part of it", runner, []string{overlay, "/nix 8:2 /good ext4 /dev/sda2"}, "foreign-mount /nix: only a part of a file system is mounted there"},
		{"another subvolume", subvolumes, []string{"/ 0:31 /root btrfs /dev/sda1", "/nix 0:33 /good btrfs /dev/sda1"}, "foreign-mount /nix: another part of the file system is mounted there"},
		{"another directory bound", bound, []string{root, "/nix 8:1 /good ext4 /dev/sda1"}, "foreign-mount /nix: another directory is bound there than /persist/nix"},
		{"a directory of another disk bound", bound, []string{root, "/nix 8:3 /persist/nix ext4 /dev/sdb1"}, "foreign-mount /nix: another directory is bound there than /persist/nix"},
		{"a directory bound that is gone", "UUID=1 / ext4 defaults 0 1\n/gone /nix none bind 0 0\n", []string{root, "/nix 8:1 /gone ext4 /dev/sda1"}, "mounted-over /nix: the directory that the release binds there can't be examined: it is gone"},
		{"another lower layer", netboot, []string{ram, strings.ReplaceAll(netbooted, ".ro-store", ".ro-good")}, "foreign-mount /nix/store: the overlay has another lowerdir"},
		{"one layer more", netboot, []string{ram, strings.ReplaceAll(netbooted, "lowerdir=", "lowerdir=/good:")}, "foreign-mount /nix/store: the overlay has another lowerdir"},
		{"another lock of the profile", plain, []string{root, "/nix/var/nix/profiles/system.lock 8:1 /null ext4 /dev/sda1"}, "foreign-mount /nix/var/nix/profiles/system.lock: "},
		{"/dev/null as the profile", plain, []string{root, "/nix/var/nix/profiles/system 0:6 /null devtmpfs devtmpfs"}, "foreign-mount /nix/var/nix/profiles/system: "},
		{"/run twice", plain, []string{root, "/run 0:25 / tmpfs tmpfs", "/run 0:54 / tmpfs tmpfs"}, "foreign-mount /run: "},
		{"a part of a tmpfs as /run", plain, []string{root, "/run 0:25 /x tmpfs tmpfs"}, "foreign-mount /run: "},
		{"no configuration to judge it by", "", []string{"/ 0:40 / overlay overlay", "/nix 0:50 / tmpfs tmpfs"}, "mounted-over /nix: " + ErrNoFstab.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			judge := Judge{
				Names: func(number string) []string { return names[number] },
				Place: func(dir string) (nixstore.Place, error) {
					if dir != "/persist/nix" {
						return nixstore.Place{}, errors.New("it is gone")
					}
					return nixstore.Place{Device: "8:1", Dir: dir}, nil
				},
				Configured: func(point string) ([]Configured, error) {
					switch c.fstab {
					case "":
						return nil, ErrNoFstab
					case "unit":
						m, ok := ParseUnit("[Unit]\nWhat=x\n[Mount]\nWhat=/dev/disk/by-partlabel/ec-nix\nWhere=/nix/\nType=xfs\n")
						if !ok {
							return nil, errors.New("no unit")
						}
						return slices.DeleteFunc([]Configured{m}, func(m Configured) bool { return m.Where != point }), nil
					}
					return slices.DeleteFunc(ParseFstab("# x\n\n"+c.fstab), func(m Configured) bool { return m.Where != point }), nil
				},
			}
			var got []string
			for _, odd := range judge.Odd(way(t, c.mounts...)) {
				got = append(got, fmt.Sprintf("%s %s: %s", odd.Cause, odd.Point, odd.Why))
				if odd.Cause == report.ForeignMount && (odd.Want == "" || odd.Got == "") {
					t.Errorf("it does not say what was wanted and what is there: %+v", odd)
				}
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseFstab(t *testing.T) {
	got := ParseFstab("# comment\nLABEL=a\\040b /a\\040dir/ ext4 ro,x=1 0 0\n/dev/sda2 none swap sw\nproc /proc proc\nx\n\n/dev/x /\tauto\n")
	want := []Configured{
		{"LABEL=a b", "/a dir", "ext4", []string{"ro", "x=1"}}, {"proc", "/proc", "proc", nil}, {"/dev/x", "/", "auto", nil},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for point, want := range map[string]string{
		"/": "-.mount", "/nix/store": "nix-store.mount", "/nix/var/nix/db": "nix-var-nix-db.mount",
		"/.a b-c/d.e": `\x2ea\x20b\x2dc-d.e.mount`,
	} {
		if got := UnitName(point); got != want {
			t.Errorf("UnitName(%q) = %q, want %q", point, got, want)
		}
	}
	if _, ok := ParseUnit("[Mount]\nWhere=/nix\n"); ok {
		t.Error("a unit without What mounts something")
	}
}
