// Package drvdiff says why one evaluation gave another derivation than another: it names
// the derivations that differ by themselves, not the thousands that differ because they
// are built from one of these.
//
// That takes both graphs of derivations. The release's graph is an asset, which [Write]
// writes and [Read] reads. A derivation's path is a hash of its text and of the paths of
// its inputs, so the asset is verified by the one path that the manifest states, and
// needs no trust of its own.
package drvdiff
