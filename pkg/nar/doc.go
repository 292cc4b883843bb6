// Package nar turns file trees into Nix archives (NAR) and into their hashes.
package nar
