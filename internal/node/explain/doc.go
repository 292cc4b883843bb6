// Package explain describes the finding on one store path of a system, down to the bytes
// and up to the source: its files that differ from the release, and the differences within
// them ([Explanation.Files]); the reason why the path is in the system, its derivation, and
// the locked input of the flake that it comes from ([Explanation.Origin]).
//
// The expected state comes from the release: its manifest, listing and derivations. The
// observed state is read from the store like everything on a machine under examination.
// Bytes can be compared only with an original: a path in another store whose NAR hash is
// the release's. Without one, the release's listing has the size of the file and its hash.
package explain
