// Package hostfile opens, reads, locks, syncs and removes files of the machine
// that this program runs on, as a process of root must: a named pipe, a device or
// an endless file in the place of a small file costs neither time nor memory, and
// a link or a mount in the place of a directory costs nobody's files.
//
// Files of the store and of the Nix database are not read here: see
// internal/nixstore and pkg/nar, which resolve names beneath a root.
package hostfile
