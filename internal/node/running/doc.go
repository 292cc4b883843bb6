// Package running checks a running NixOS machine outside its store: which entries of /etc
// and of a few directories where programs look for files lead into the accepted system,
// and which do not. It sees the machine as its first process does.
//
// The checks are parts, which are requested by name. No statement of the
// machine about itself is trusted: the expected state is read from the release, or from the
// accepted system in the store, whose contents another tier has hashed.
package running
