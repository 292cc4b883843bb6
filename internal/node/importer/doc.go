// Package importer brings the store paths of a system to this machine, from a place
// that nobody has to trust: what is registered is, byte for byte, what the manifest of
// a verified release says, and nothing else is.
//
// Each NAR is fetched into a directory of this program's own, of the size that the
// manifest says and no more, and hashed. Only when all are there and right are they
// handed to Nix, with the references of the manifest. The peer is asked for those
// paths alone, and nothing that it says about them is read.
package importer
