// Package nixstore reads a Nix store and its database without writing to
// either and without running Nix.
//
// A [Store] is the directory of store objects on disk; a [Database] is what
// Nix registered of them. Both are opened beneath a root: "/" for the machine
// that this runs on, or the place where another machine's disk is mounted, or
// a chroot store. No link in that tree leads out of it.
//
// Everything here is an outsider's data. Root on the machine under examination
// can write any byte of the store and of the database, so what cannot be a
// Nix store's is refused by name and sizes are bounded. What the database says
// is a claim and never more; a row that is malformed is a [*RowError], which is
// a finding about the machine, and all other errors mean that it could not be
// read.
//
// # Reading the database
//
// SQLite's own read-only modes do not do here. Opened with mode=ro, a database
// in write-ahead-log mode gets a -wal and a -shm file that the reader cannot
// remove; where these files exist it rewrites the index in -shm, and while it
// is open a Nix that ends cannot remove them either; and it fails where the
// directory cannot be written, as in a unit with ProtectSystem=strict, although
// the file system itself is writable and Nix does write to it. Opened with
// immutable=1, rows that are still in the log are not seen, and a change while
// reading is not noticed.
//
// So [OpenDatabase] copies the database, its log and its journal into a private
// temporary directory with plain reads, takes the copy only if it is consistent
// (see snapshot.go for why that can be told), and lets SQLite work on the copy.
// No lock is taken that Nix could wait for, no row that was committed is missed,
// and the directory of the database is left as it was found.
//
// # Derivations
//
// [ReadDerivations] reads a graph of .drv files from a store. A derivation's
// path is a hash of its contents, and each file is held to its own name, so that
// the graph is as trustworthy as the one path that it was asked for.
package nixstore
