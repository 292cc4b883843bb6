// Package compare says whether two builds of one source are the same, byte for
// byte, and if not, what differs: which store path, which file, which bytes.
//
// What is compared are two directories of files, such as two releases that
// nobody has signed yet, or two files. [Dirs] takes the files by their names.
// Those whose bytes are equal are done with; of those that are not, manifests
// are compared path by path, listings file by file, derivations by what of
// them differs by itself, and images member by member. Bytes are compared
// where both sides have them, which is in the images: a manifest and a listing
// know hashes alone. A symbolic link is compared with a link, by what it holds.
//
// Neither side is believed. Both are bytes that anybody may have written; what
// cannot be read is a [Failure], which is no equality.
//
// Two things differ between any two builds and are no difference: the
// signature, which is another with each signing, and the times in release.json,
// unless both were built with the same SOURCE_DATE_EPOCH. Who may read and write a
// file depends on the umask. They are [Result]'s Notes.
package compare
