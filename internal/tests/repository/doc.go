// Package repository holds what can be said of this repository's own files, for
// its tests: that its Nix files are in order where no nixpkgs is at hand, that
// the units which the modules describe run on a real systemd, and that images
// are the same bytes each time. No program imports it.
//
// [Tokens] splits a Nix file into words; [DeadBindings], [Impurities] and
// [Style] look for what a reviewer should not have to. They are no parser:
// nix-instantiate --parse is, and the tests run it. hack/check-modules goes on
// from here, with nixpkgs' lib.
//
// [Rules.Expand] does with a workflow what a forge does: which jobs there are, which
// steps they take, and with what in their environment.
package repository
