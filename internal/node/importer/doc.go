// Package importer copies the store paths of a system to this machine from an untrusted
// place: what is registered is, byte for byte, what the manifest of a verified release
// says, and nothing else.
//
// Each NAR is fetched into a directory of this program's own, up to the size in the
// manifest, and hashed. Only when all are complete and correct are they given to Nix,
// with the references of the manifest. The peer is asked for those paths alone. What it
// says of their hashes, sizes and signatures is ignored; where it says that one refers to
// a path that the manifest lacks, nothing is fetched.
package importer
