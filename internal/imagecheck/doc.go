// Package imagecheck compares image files, and USB sticks that they were written to,
// with a trusted release.
//
// Every image is compared with its line in SHA256SUMS.txt, which is signed. With
// Options.Inside, its contents are compared with the closure manifest of its
// configuration too. Each store path in a squashfs is hashed as a NAR. The kernel and
// the initrd must be those that the system links to. After the system's own archive,
// an initrd may only have the squashfs and what leads to it, because a later archive
// overrides an earlier one. A boot script may only start a system in the closure, and
// only load kernels and initrds that were checked. An iPXE script must pass the
// system's own kernel parameters; entries of an ISO image add to them, and the
// additions are not judged. Members unknown to the manifest, such as a boot loader,
// are only covered by the checksum of the whole image, and are counted as such: with
// another boot loader, a script may mean anything.
//
// The checksum shows that an image is the published one. The contents show that the
// published image is the manifest's: a builder could sign an image that was not made
// from the stated system.
package imagecheck
