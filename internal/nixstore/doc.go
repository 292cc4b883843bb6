// Package nixstore reads a Nix store and its database without writing to either and
// without running Nix.
//
// A [Store] is the directory of store objects on disk; a [Database] is what Nix
// registered. Both are opened below a root: "/" for this machine, or the place where
// another machine's disk is mounted, or a chroot store. No link in that tree leads out of
// it.
//
// All data is untrusted. Root on the machine under examination can write any byte of the
// store and of the database, so what cannot belong to a Nix store is refused by name, and
// sizes are limited. What the database says is only a claim; a malformed row gives a
// [*RowError], which is a finding about the machine, and all other errors mean that the
// database could not be read.
//
// # Reading the database
//
// SQLite's own read-only modes are not sufficient. With mode=ro, a database in
// write-ahead-log mode gets a -wal and a -shm file that the reader cannot remove; if
// these files exist it rewrites the index in -shm, and while it is open, a Nix that ends
// cannot remove them either; and it fails if the directory is not writable, as in a unit
// with ProtectSystem=strict, although the file system itself is writable and Nix does
// write to it. With immutable=1, rows that are still in the log are not seen, and a
// change during reading is not noticed.
//
// So [OpenDatabase] copies the database, its log and its journal into a private temporary
// directory with plain reads, accepts the copy only if it is consistent (see snapshot.go
// for how that is known), and lets SQLite open the copy. It takes no lock that Nix could
// wait for, misses no committed row, and leaves the database's directory unchanged.
//
// # Derivations
//
// [ReadDerivations] reads a graph of .drv files from a store. A derivation's path is a
// hash of its contents, and each file is compared with its own name, so that the graph is
// as trustworthy as the path at which it starts.
package nixstore
