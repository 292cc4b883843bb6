// Package hostfile opens, reads, locks, syncs and removes files of the machine that
// this program runs on, safely for a root process. A named pipe, a device or an
// endless file in place of a small file costs neither time nor memory. A link or a
// mount in place of a directory leads to no other files being removed.
//
// It does not read files of the store and of the Nix database: internal/nixstore and
// pkg/nar do, and resolve names beneath a root.
package hostfile
