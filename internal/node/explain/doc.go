// Package explain says of one store path of a system what a finding is about, down to
// the bytes and up to the source: which of its files differ from the release, and what
// within them ([Explanation.Files]); why the path is in the system at all, what it was
// built from, and which locked input of the flake brought it ([Explanation.Origin]).
//
// What should be there is the release's word: its manifest, listing and derivations.
// What is there is read from the store as anything of a machine under examination is.
// Bytes can be compared only where there is an original: another store, which is
// believed as far as its NAR hash is the release's. Without one the release's listing
// says how large the file should be, and its hash.
package explain
