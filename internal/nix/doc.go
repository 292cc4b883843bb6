// Package nix runs the nix program, and is the only place that does.
//
// It needs little of Nix: evaluating a configuration ([Nix.Evaluate] on a machine
// that is examined, [Nix.Instantiate] where a release is made), copying a flake's
// source into the store ([Nix.FlakeSource]), building ([Nix.Realise]), and
// evaluating, building and fetching in scratch stores ([Scratch]). It never asks
// Nix for hashes or closures: see packages nar and nixstore.
//
// Evaluate runs in a sandbox that has nothing of the machine but nix and the
// sources to evaluate; see sandbox.go. Builds and fetches are confined to
// namespaces of their own; see confine.go. All other runs get the program from a
// fixed directory, an environment of their own, and a home in a temporary
// directory. Each setting that a result depends on is given on the command line.
//
// Names given by a caller reach Nix as arguments (--argstr) and never as a
// part of an expression.
//
// Output is decoded strictly. An unknown shape is an error that names the version
// of Nix. Errors are typed by what a caller can do about them: [ErrNotFound],
// [ErrConfinement], [*VersionError], [*EvaluationError], [*BuildError],
// [ErrTimeout], a context's error, and [*ExitError] for the rest. Nix's exit codes
// do not tell these apart: through its daemon, all of them are 1.
package nix
