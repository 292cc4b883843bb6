// Package endtoend holds the tests of ec-verify as a whole: the program, built
// as for a release, on test hosts with a real store, nix daemon and systemd
// (package testhost). Each case damages a machine or a release in one way and
// holds the report and the exit code to what docs/design.md says of it.
package endtoend
