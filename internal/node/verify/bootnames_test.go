package verify

import (
	"testing"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

// TestLocate: a name of a menu is the name of one file in its file system, and a file that
// is elsewhere on it is not taken for one in /boot.
func TestLocate(t *testing.T) {
	const store = closure.DefaultStoreDir
	kernel := string(kernelPath) + "/bzImage"
	inStore := kernel[len("/nix/store"):]
	mount := func(device, root, point, fsType, source string) nixstore.Mount {
		return nixstore.Mount{Device: device, Root: root, Point: point, Type: fsType, Source: source}
	}
	type mounts []nixstore.Mount
	ext4 := mount("8:2", "/", "/", "ext4", "/dev/sda2")
	container := mount("8:2", "/machines/x", "/", "ext4", "/dev/sda2")
	overlay := mount("0:40", "/", "/", "overlay", "overlay")
	btrfs := mount("0:31", "/@", "/", "btrfs", "/dev/sda2")
	zfs := mount("0:32", "/", "/", "zfs", "rpool/nixos/root")
	for name, tc := range map[string]struct {
		boot, store mounts
		file        string
		where       string // "" for nowhere
		inStore     bool
	}{
		"/boot on /":                           {mounts{ext4}, mounts{ext4}, "/boot/kernels/k", "kernels/k", false},
		"a file of / instead":                  {mounts{ext4}, mounts{ext4}, "/kernels/k", "", false},
		"/boot of its own":                     {mounts{ext4, mount("8:1", "/", "/boot", "vfat", "/dev/sda1")}, mounts{ext4}, "//kernels/k", "kernels/k", false},
		"another directory there":              {mounts{ext4, mount("8:1", "/", "/boot", "vfat", "/dev/sda1")}, mounts{ext4}, "/boot/kernels/k", "", false},
		"/boot mounted on itself":              {mounts{ext4, mount("8:2", "/boot", "/boot", "ext4", "/dev/sda2")}, mounts{ext4}, "/kernels/k", "", false},
		"in a container":                       {mounts{container}, mounts{container}, "/kernels/k", "kernels/k", false},
		"over an overlay":                      {mounts{overlay}, mounts{overlay}, "/kernels/k", "kernels/k", false},
		"a subvolume":                          {mounts{btrfs}, mounts{btrfs}, "/@/boot/kernels/k", "kernels/k", false},
		"a file outside of the subvolume":      {mounts{btrfs}, mounts{btrfs}, "/kernels/k", "", false},
		"a dataset":                            {mounts{zfs}, mounts{zfs}, "//nixos/root/@/boot/kernels/k", "kernels/k", false},
		"another dataset":                      {mounts{zfs}, mounts{zfs}, "/kernels/@/boot/kernels/k", "", false},
		"a file of another dataset":            {mounts{zfs}, mounts{zfs}, "/kernels/@/kernels/k", "", false},
		"the pool itself":                      {mounts{zfs, mount("0:33", "/", "/boot", "zfs", "bpool")}, mounts{zfs}, "/@//kernels/k", "kernels/k", false},
		"in the store on /":                    {mounts{ext4}, mounts{ext4, mount("8:2", "/nix/store", "/nix/store", "ext4", "/dev/sda2")}, kernel, kernel, true},
		"in the store on /nix":                 {mounts{ext4}, mounts{ext4, mount("8:3", "/", "/nix", "ext4", "/dev/sda3")}, "/store" + inStore, kernel, true},
		"in the store of its own":              {mounts{ext4}, mounts{ext4, mount("8:3", "/", "/nix/store", "ext4", "/dev/sda3")}, "/" + inStore, kernel, true},
		"in /boot, beside a store of its own":  {mounts{ext4}, mounts{ext4, mount("8:3", "/", "/nix/store", "ext4", "/dev/sda3")}, "/boot/kernels/k", "kernels/k", false},
		"in the store's dataset":               {mounts{ext4}, mounts{zfs, mount("0:33", "/", "/nix", "zfs", "rpool/nix")}, "//nix/@/store" + inStore, kernel, true},
		"in a directory with the store's name": {mounts{ext4}, mounts{zfs, mount("0:33", "/", "/nix", "zfs", "rpool/nix")}, kernel, "", false},
	} {
		names := func(dir string, usual ...string) []string {
			at := tc.boot
			if dir == string(store) {
				at = tc.store
			}
			return namesIn(at, dir, false, usual)
		}
		where, in := locateIn(tc.file, "/boot", store, names)
		if where != tc.where || in != tc.inStore {
			t.Errorf("%s: %q, %t; want %q, %t", name, where, in, tc.where, tc.inStore)
		}
	}
}
