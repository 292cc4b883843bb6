// Package compare compares two builds of one source byte for byte and reports what
// differs: which store path, which file, which bytes.
//
// It compares either two directories of files, such as two unsigned releases, or two
// files. [Dirs] pairs files by their names. Files with equal bytes need no further
// comparison. Otherwise, manifests are compared path by path, listings file by file,
// derivations by their own differences, and images member by member. Bytes are only
// compared where both sides have them, which is in images: a manifest and a listing
// contain hashes only. A symbolic link is compared by its target.
//
// Neither side is trusted: both may have been written by anybody. What can't be read
// is a [Failure], never an equality.
//
// Two things differ between any two builds and do not count as differences: the
// signature, and the times in release.json unless both builds used the same
// SOURCE_DATE_EPOCH. Read and write permissions depend on the umask. These are in
// [Result]'s Notes.
package compare
