// Package nix runs the nix program; no other package does.
//
// It needs little of Nix: evaluating a configuration ([Nix.Evaluate] on an examined
// machine, [Nix.Instantiate] where a release is made), copying a flake's source into
// the store ([Nix.FlakeSource]), building ([Nix.Realise]), and evaluating, building
// and fetching in scratch stores ([Scratch]). It never asks Nix for hashes or
// closures: see packages nar and nixstore.
//
// Evaluate runs in a sandbox that contains only nix and the sources to evaluate; see
// sandbox.go. Builds and fetches are confined to namespaces of their own; see
// confine.go. All other runs use the program from a fixed directory, their own
// environment, and a home in a temporary directory. Each setting that affects a
// result is given on the command line.
//
// Names from a caller reach Nix as arguments (--argstr), never as part of an
// expression.
//
// Output is decoded strictly. An unknown shape is an error that names the version of
// Nix. Errors have types according to what a caller can do about them: [ErrNotFound],
// [ErrConfinement], [*VersionError], [*EvaluationError], [*BuildError], [ErrTimeout],
// a context's error, and [*ExitError] for the rest. Nix's exit codes do not
// distinguish these: through its daemon, all of them are 1.
package nix
