// Package closure defines the objects of a Nix store as ec-verify uses them, and the
// comparison at its heart.
//
// A store object is at a [StorePath]. A [PathInfo] is a statement about it: its NAR hash
// and size, and its references, the other store paths that its contents mention. A
// [Closure] is a set of path infos; the closure of a system is everything that can be
// reached from its toplevel path.
//
// A [Manifest] is a release's statement about one configuration. It is compared with the
// observations on a machine: [Witnesses] compares the hashes from the manifest, the disk,
// the Nix database and a rebuild, [CompareClaim] compares the rest of a database's claim,
// and [CompareFiles] names the files of a path that differ, given the release's listing
// ([ReadListing]).
//
// Everything here is pure: no clock, no network, and no files except the given readers and
// writers.
package closure
