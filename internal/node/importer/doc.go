// Package importer copies the store paths of a system to this machine from an untrusted
// place. It registers exactly the paths that the manifest of a verified release lists,
// byte for byte.
//
// Each NAR is fetched into a directory of this program's own, up to the size in the
// manifest, and hashed. Only when all are complete and correct are they given to Nix,
// with the references of the manifest. The peer is asked only for those paths. Its
// statements about hashes, sizes and signatures are ignored. If it reports a reference to
// a path that the manifest lacks, nothing is fetched.
package importer
