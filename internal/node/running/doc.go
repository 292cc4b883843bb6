// Package running checks a running NixOS machine beside its store: what in /etc
// and in a few directories that programs look into leads into the accepted system,
// and what does not. It sees the machine as its first process does.
//
// What it looks at comes in parts, each of which is asked for by its name. Nothing
// that the machine says of itself is believed: what should be there is read from
// the accepted system in the store, whose contents another tier has hashed.
package running
