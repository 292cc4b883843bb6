// Package image reads what is inside the images of a release, as the bytes of
// somebody who may have made them to deceive or to exhaust: tar archives, ISO
// 9660 file systems with the Rock Ridge names, squashfs file systems, and the
// initial RAM disks of Linux, which are cpio archives one after the other, each
// compressed or not. All of them may be compressed as a whole (gzip, zstd, xz).
//
// [Walk] goes through an image and through the images within it, and hands out
// each node as a [Member], with its contents where the caller wants them.
// Nothing is extracted: a member's name is a string and never becomes a path of
// this machine. Images that are not at the beginning of a file are put into
// unlinked temporary files first, since ISO and squashfs are read by offset.
//
// # Formats
//
//	tar       archive/tar
//	cpio      "newc", with and without checksums (kernel: Documentation/driver-api/early-userspace/buffer-format.rst)
//	squashfs  4.0 (kernel: Documentation/filesystems/squashfs.rst), with gzip, zstd or xz
//	iso9660   ECMA-119, with SUSP (IEEE P1281) and Rock Ridge (IEEE P1282)
//
// The readers are our own because names are bytes here: a store path may hold
// files whose names are no UTF-8, which io/fs, and with it the libraries that
// offer these formats as one, refuses to open. They believe no length,
// offset or count: each is held to the size of the image or to [Limits] before
// anything is allocated for it.
//
// # Errors
//
// An image that breaks its format is a [ErrMalformed], one that needs more than
// the limits allow a [ErrTooLarge], one that uses what this package does not
// read a [ErrUnsupported]; other errors are those of reading the bytes.
package image
