// Package drvdiff tells why one evaluation gave another derivation than
// another: it names the derivations that differ by themselves, not the
// thousands that differ because they are built from one of these.
//
// For that both graphs of derivations are needed. The release's comes as an
// asset, which [Write] makes and [Read] reads. A derivation's path is a hash of
// its text and of the paths of those that it is built from, so that the asset is
// held to the one path that the manifest states, and needs no trust of its own.
package drvdiff
