// Package rebuild builds derivations of a release afresh and compares the outputs with
// the release's manifest.
//
// Nix's own --rebuild and --check compare with the database's claim, never with the disk;
// they stop at the first output that differs, skip absent outputs, do nothing at all for
// some ways of naming what to build, and write to the database. So nothing is built in
// the machine's store. Each derivation is built in a scratch store that has its inputs
// and nothing else: there is nothing that could be compared with itself or taken as
// already built. Every output is then hashed from disk by package nar.
//
// # A run
//
// A [Rebuilder] first evaluates the configuration again and writes the derivations into a
// scratch store. Their graph is as trustworthy as the one path that it starts from, which
// must be the manifest's. [Candidates], [Policy.Choose] and [Policy.Plan] are pure and
// say what to build in which order. For each of these derivations
//
//  1. every path that it is built from, with its references, is hashed from disk and
//     compared with the best witness: the manifest, the hash stated by the lock file or a
//     fixed-output derivation, the evaluation's own output, or, if nothing else knows the
//     path, the machine's database, which is a claim and is reported as one;
//  2. these paths are bound read-only into a new scratch store, within mount and process
//     namespaces that end with the build. Nothing is copied, and not even a build that runs
//     as root can write to them;
//  3. nix builds, see [every.channel/ec-verify/internal/nix.Nix.BuildIn];
//  4. the outputs are hashed. If one differs, the inputs are hashed again: they belong to
//     the machine and could have changed in the meantime. (If all outputs agree there is no
//     need: whatever the inputs were, the result is the release's.)
//
// If the policy allows, paths that the machine lacks are fetched into one more scratch
// store and compared with the same witnesses, or, if no witness knows them, with the
// substituter's signature. Nothing that is under test is fetched.
//
// A bad or missing input is a cause of its own; a build that could not run because of it
// is reported as its consequence.
//
// Fixed outputs, such as downloads, are not built, because their builders need a network.
// The derivation states their hash, and that is compared.
//
// # Limits
//
// A run starts nothing after its time budget, and ends a single build after the time
// limit for builds. The scratch directory is watched during a build: if it exceeds its
// size, or the free space of its file system falls below the reserve, the build is ended.
// The next run removes whatever a killed run left in that directory. There is nothing
// else to remove: the kernel ends the processes and mounts.
package rebuild
