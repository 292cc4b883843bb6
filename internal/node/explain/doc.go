// Package explain describes the finding on one store path of a system, down to the bytes
// and up to the source: which of its files differ from the release, and what differs
// within them ([Explanation.Files]); why the path is in the system at all, what it was
// built from, and which locked input of the flake it comes from ([Explanation.Origin]).
//
// What should be there comes from the release: its manifest, listing and derivations.
// What is there is read from the store like everything on a machine under examination.
// Bytes can be compared only with an original: another store, which is believed if its
// NAR hash is the release's. Without one, the release's listing says how large the file
// should be, and its hash.
package explain
