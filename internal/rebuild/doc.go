// Package rebuild builds derivations of a release afresh and compares what
// comes out with the release's manifest.
//
// Nix's own --rebuild and --check compare with what the database claims, never
// with the disk; they stop at the first output that differs, skip outputs that
// are not there, do nothing at all for some ways of naming what to build, and
// write to the database. So nothing of this takes place in the machine's store.
// Each derivation is built in a scratch store that holds its inputs and nothing
// else: there is nothing that could be compared with itself or taken for built.
// Every output is then hashed from disk by package nar.
//
// # A run
//
// A [Rebuilder] first evaluates the configuration once more, this time writing
// the derivations into a scratch store. Their graph is as trustworthy as the
// one path that it starts from, which must be the manifest's. [Candidates],
// [Policy.Choose] and [Policy.Plan], which are pure, say what to build and in
// which order. For each of these derivations
//
//  1. every path that it is built from, with all that these refer to, is hashed
//     from disk and held against the best witness there is: the manifest, the
//     hash that the lock file or a fixed-output derivation states, what the
//     evaluation itself wrote, or, for what is known only from there, the
//     machine's database, which is a claim and is told as one;
//  2. these paths are bound read-only into a new scratch store, within mount and
//     process namespaces that end with the build. Not a byte is copied, and not
//     even a build that runs as root can write to them;
//  3. nix builds, see [every.channel/ec-verify/internal/nix.Nix.BuildIn];
//  4. the outputs are hashed. Where one differs, the inputs are hashed again:
//     they are the machine's own, and could have changed in the meantime. (Where
//     all agree they need not be: whatever the inputs were, the result is the
//     release's.)
//
// What the machine lacks is fetched into one more scratch store, where that is
// wanted, and held to the same witnesses; where nobody else says what it is, to
// the substituter's signature. Nothing that is under test is fetched.
//
// A bad or missing input is a cause of its own, and what could not be built for
// want of it is a consequence.
//
// Fixed outputs, such as downloads, are not built: their builders want a
// network. What they are is stated by the derivation, and that is compared.
//
// # Limits
//
// A run begins nothing more after its time budget, and ends a single build after
// its own. The scratch directory is watched while a build goes on: above its size, or below
// the free space to be left on its file system, the build is ended. What a run
// that was killed left in that directory is removed by the next one. There is
// never anything else to remove: the kernel ends the processes and mounts.
package rebuild
