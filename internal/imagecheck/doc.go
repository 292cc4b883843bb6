// Package imagecheck holds image files, and sticks that they were written to,
// against a trusted release.
//
// Every image is compared with its line in SHA256SUMS.txt, which the signature
// covers. With Options.Inside it is gone into as well, and what is found is held
// against the closure manifest of its configuration: each store path in a
// squashfs is hashed as a NAR; the kernel and the initrd must be the ones that
// the system links to; what an initrd has behind its own archive may be the
// squashfs and what leads to it, since a later archive overrides an earlier one;
// what a boot script starts must be in the closure, and the kernels and initrds
// that it loads must be those that were looked at. A script for iPXE must give the
// system's own kernel parameters; the entries of an ISO image add to them, and
// what they add is not judged. Members of which no manifest tells, such as a boot
// loader, are vouched for by the checksum of the image alone, and are counted as
// such: with another loader, a script may mean anything.
//
// The first check says whether an image is the one that was published, and the
// second whether the one that was published is what the manifest says: a
// builder can sign an image that is not made of the system that it names.
package imagecheck
