// Package publish is the builder's side of a release: it realises the system
// of one configuration and writes what a release says of it, the closure
// manifest, the file listing, release.json and SHA256SUMS.txt.
//
// What it writes into the manifest is a function of the source alone. Hashes
// are of the bytes on disk, derivers and content addresses come from the
// derivations and not from what the builder's database happens to claim; so
// two builders of one source write the same bytes, whether they built or
// substituted.
package publish
