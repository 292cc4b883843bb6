// Package nar turns file trees into Nix archives (NAR) and into their hashes.
//
// A [Hasher] walks a tree and hashes its NAR as it goes: nothing is written,
// and nothing grows with the tree. [HashPath] is the same for one path,
// [Dump] writes the archive itself.
//
// # Format
//
// A NAR is a sequence of strings. A string is its length in bytes as a 64-bit
// little-endian integer, its bytes, and zero bytes up to the next multiple of
// eight. Written with str(...) for one such string per argument:
//
//	archive   = str("nix-archive-1") node
//	node      = str("(", "type") ( regular | symlink | directory ) str(")")
//	regular   = str("regular") [ str("executable", "") ] str("contents", CONTENTS)
//	symlink   = str("symlink", "target", TARGET)
//	directory = str("directory") { entry }
//	entry     = str("entry", "(", "name", NAME, "node") node str(")")
//
// The entries of a directory are in the order of the bytes of their names, so
// that a tree has one archive: "a", "a-b", "a.b", and the contents of "a" stand
// inside the entry "a". Of an inode's metadata the archive holds its type and,
// for a regular file, whether its owner may execute it (S_IXUSR). It does not
// hold times, owners, links between files, nor any other permission bit; see
// [Options.OnMode], [Options.OnOwner], [Options.OnAttributes] and
// [Options.OnTime] for those that Nix does not set.
//
// Names and targets are bytes. They need not be UTF-8, and on Linux a name can
// be any 1 to 255 bytes without NUL and '/', except "." and "..": "..foo" and
// "..." are names like others. Paths are handed out as strings that hold those
// bytes unchanged; print them with %q.
//
// Devices, FIFOs and sockets have no form in a NAR: [ErrUnsupported].
//
// # What a hash says
//
// Every system call names one component relative to an open directory and
// refuses symbolic links, so the tree cannot lead the walk out of itself, and a
// link put in place of a file is an error and not a way to another file.
// Something that is neither a file nor a directory is not opened; put in place
// of a file between the listing and the opening it is opened without blocking,
// recognised and not read.
//
// A file or directory that changes while it is read is an error ([ErrChanged]),
// recognised by its size, modification time, mode and owner before and after.
// The change time is not compared: Linux also moves it when a hard link to the
// file is made or removed, which every user may do to a file that he can read,
// and which optimising or collecting garbage in a Nix store does all the time.
//
// That loses nothing. Each write and truncation moves the modification time,
// and each entry added, removed or renamed that of the directory. Only the owner
// and root can set it back. Whoever does so between two reads has the hash made
// of bytes from before and after: it is that of no NAR that anybody wants, and a
// comparison fails. If the hash is the wanted one, every byte was right when it
// was read; a change behind the read position is a change after the reading,
// which no stamp shows.
//
// A tree is not a snapshot: a file that changes after it was read and before the
// walk ends is hashed as it was, and a clock too coarse to tell two changes apart
// hides the second (kernels before 6.13 count in timer ticks of 1 to 10 ms).
//
// By default the page cache is read, the same pages that programs run from; with
// [ReadDisk] it is the disk. With [Options.DropBehind] the walk leaves the cache as it
// found it, for other programs.
package nar
