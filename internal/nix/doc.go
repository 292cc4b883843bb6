// Package nix runs the nix program, and is the only place that does.
//
// What it needs of Nix is little: evaluating a configuration
// ([Nix.Evaluate] on a machine under examination, [Nix.Instantiate] where a
// release is made), copying a flake's source into the store
// ([Nix.FlakeSource]), building ([Nix.Realise]), and evaluating, building and
// fetching in scratch stores ([Scratch]). Hashes and closures are never asked of
// it: see packages nar and nixstore.
//
// Each run is cut off from what is not stated here: the program comes from a
// fixed directory, its environment is an allow-list, its home and its caches
// lie in a temporary directory that is removed afterwards, and each setting
// that a result depends on is given on the command line. Evaluate goes further:
// it does without the machine's nix.conf, without substituters and without a
// network.
//
// Names given by a caller reach Nix as arguments (--argstr) and never as a
// part of an expression.
//
// Output is decoded strictly and is an error that names the version of Nix
// where it has an unknown shape. Errors are typed by what a caller can do about
// them: [ErrNotFound], [*VersionError], [*EvaluationError], [*BuildError],
// [ErrTimeout], a context's error, and [*ExitError] for the rest. Nix's exit
// codes do not tell these apart: through its daemon, all of them are 1.
package nix
