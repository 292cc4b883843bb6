// Package boottest boots virtual machines with the mounts of
// modules/overlay-root and looks at what stays and what goes. It is all tests;
// `make test-boot` runs them, with the build tag qemu.
//
// A machine is qemu under emulation with Debian's kernel. Its initrd is what
// stage 1 of NixOS is made of (systemd, udev, util-linux, coreutils), taken from
// Debian, and the units of modules/overlay-root/layout.nix, byte for byte as the
// NixOS module hands them over. Its root is a small Debian. hack/test-boot makes
// both, once, and says where they are in EC_VERIFY_BOOT_DIR; package guest has what is
// shared with package netboottest.
//
// The disk that hack/install-runner makes is tested here too, on a loop device,
// and booted in the end.
//
// One machine boots from a firmware, OVMF, and systemd-boot, which counts the boots of a
// new system: its stage 1 is a script, its two systems are those of testdata/flake, built
// on a test host, and its stage 2 is Debian's.
//
// Machines with a system of NixOS' ISO and SD images boot from SeaBIOS and isolinux, and
// with what extlinux.conf names; their stage 1 is a script as well.
//
// The test hears the machine's console, and speaks with it over a second serial
// port, where a shell answers. Each wait has an end.
package boottest
