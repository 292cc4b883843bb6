// Package bootloader reads the entries that boot loaders offer, from the files that
// NixOS writes for systemd-boot (and any unified kernel image that it finds), GRUB
// and extlinux, and for the GRUB and SYSLINUX of an ISO image.
//
// Everything that it reads may have been written by an attacker. It is limited in
// bytes and in number, and none of it is executed. GRUB's language is a shell's: only
// the commands that start something are understood, wherever they are.
package bootloader
