// Package bootloader reads what boot loaders offer to start, from the files that
// NixOS writes for systemd-boot (and any unified kernel image that it finds), GRUB
// and extlinux, and for the GRUB and SYSLINUX of an ISO image.
//
// Everything that it reads may have been written by an attacker. It is bounded in
// bytes and in number, and nothing of it is run: of GRUB's language, which is a
// shell's, only the commands that start something are understood, wherever they
// stand.
package bootloader
