// Package closure holds the nouns of a Nix store as ec-verify uses them, and
// the comparison at its heart.
//
// A store object lives at a [StorePath]. A [PathInfo] is what somebody says of
// it: its NAR hash and size, and the other store paths that its contents
// mention, its references. A [Closure] is a set of path infos; the closure of
// a system is everything that can be reached from its toplevel path.
//
// A [Manifest] is what a release says of one configuration. It is compared
// with what is observed on a machine: [Witnesses] weighs the hashes that the
// manifest, the disk, the Nix database and a rebuild give for one path,
// [CompareClaim] and [CompareMembers] look at the rest of what the database
// claims, and [CompareFiles] names the files of a path that differ, given the
// release's listing ([ReadListing]).
//
// Everything here is pure: no clock, no network, and no file but the readers
// and writers that it is given.
package closure
