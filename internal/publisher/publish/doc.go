// Package publish is the builder's side of a release: it realises the system of one
// configuration and writes the release's files about it, the closure manifest, the file
// listing, release.json and SHA256SUMS.txt.
//
// The manifest is a function of the source alone. Hashes are of the bytes on disk;
// derivers and content addresses come from the derivations, not from the builder's
// database. So two builders of one source write the same bytes, whether they built or
// substituted.
package publish
