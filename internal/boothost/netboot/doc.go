// Package netboot puts verified releases where machines boot from.
//
// A release has a netboot bundle, a tar.gz of exactly three files: kernel,
// initrd, and netboot.ipxe, NixOS's script with the kernel's parameters. A
// [Stager] takes one out of a release that is trusted and puts it into its
// directory:
//
//	DIR/stages/TAG-0123456789ab/kernel
//	                            initrd
//	                            netboot.ipxe   with absolute URLs; see [Script]
//	                            stage.json     where they come from; see [Record]
//	                            release/       SHA256SUMS.txt, its signature, release.json, the bundle
//	DIR/current                 a link to the stage that is served
//	DIR/previous                the one before, for machines in the midst of a boot
//
// What is served answers to the signed release, and not to what this host has
// written down: [Stager.Check] verifies the signature that a stage keeps, by the
// policy of the day, holds the bundle to SHA256SUMS.txt, and each file to what is in
// the bundle. That costs the room of the bundle, and spares the release another file
// that says what is in it and that somebody would have to check.
//
// A stage never changes once it has its name, and a machine that has read the
// netboot.ipxe of one gets that one's kernel and initrd, whatever is staged
// meanwhile. current is a link that is replaced in one step, after everything
// beneath it was brought to the disk: whatever happens, be it a signal or a
// power cut, it leads to the whole of one verified release, or does not exist
// because nothing was ever staged.
//
// [Render] writes what the servers need and what is secret, so that none of it
// is in a stage, or in a Nix store: the scripts for TFTP, and the chain token
// for nginx.
package netboot
