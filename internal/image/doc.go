// Package image reads the contents of a release's images: tar archives, ISO 9660 file
// systems with Rock Ridge names, squashfs file systems, and the initial RAM disks of
// Linux, which are sequences of cpio archives, each compressed or not. All of these may be
// compressed as a whole (gzip, zstd, xz). It also reads FAT file systems, by name. It assumes
// that the bytes may have been written to deceive or to exhaust the reader.
//
// [Walk] walks an image and the images nested in it, and passes each node to the caller
// as a [Member], with its contents if the caller wants them. Nothing is extracted: a
// member's name is a string and never becomes a path of this machine. Images that do not
// start at the beginning of a file are first written to unlinked temporary files, because
// ISO and squashfs are read by offset.
//
// # Formats
//
//	tar       archive/tar
//	cpio      "newc", with and without checksums (kernel: Documentation/driver-api/early-userspace/buffer-format.rst)
//	squashfs  4.0 (kernel: Documentation/filesystems/squashfs.rst), with gzip, zstd or xz
//	iso9660   ECMA-119, with SUSP (IEEE P1281) and Rock Ridge (IEEE P1282)
//	FAT       12, 16 and 32, with long names (Microsoft's fatgen103); see [FAT], not for [Walk]
//
// The readers are our own because names are bytes here: a store path may have file names
// that are not valid UTF-8, which io/fs, and therefore the libraries that present these
// formats as one, refuses to open. The readers trust no length, offset or count: each is
// compared with the size of the image or with [Limits] before anything is allocated for
// it.
//
// # Errors
//
// An image that violates its format gives [ErrMalformed], one that exceeds the limits
// [ErrTooLarge], one that uses an unsupported feature [ErrUnsupported]; other errors are
// those of reading the bytes.
package image
