// Package netboot puts verified releases where machines boot from.
//
// A release has a netboot bundle, a tar.gz of exactly three files: kernel, initrd,
// and netboot.ipxe, which is NixOS's script with the kernel's parameters. A [Stager]
// extracts the bundle of a trusted release to its directory:
//
//	DIR/stages/TAG-0123456789ab/kernel
//	                            initrd
//	                            netboot.ipxe   with absolute URLs; see [Script]
//	                            stage.json     its origin; see [Record]
//	                            release/       SHA256SUMS.txt, its signature, release.json, the bundle
//	DIR/current                 a link to the stage that is served
//	DIR/previous                the one before, for machines in the middle of a boot
//
// Served files are checked against the signed release, not against this host's
// records: [Stager.Check] verifies the signature kept in a stage by today's policy,
// compares the bundle with SHA256SUMS.txt, and each file with the bundle. That takes
// the space of the bundle, but the release needs no further file with checksums.
//
// A stage never changes once it has its name. A machine that has read a stage's
// netboot.ipxe gets the same stage's kernel and initrd, whatever is staged meanwhile.
// current is a link that is replaced in one step, after everything in the stage was
// synced to disk: even after a signal or a power cut, it leads to one complete
// verified release, or does not exist because nothing was ever staged.
//
// [Render] writes the servers' secret configuration, so that none of it is in a stage
// or in a Nix store: the scripts for TFTP, and the chain token for nginx.
package netboot
