package nar

import (
	"encoding/binary"
	"strings"
)

// The parts of a NAR that do not depend on the tree, each encoded once: a walk
// over small files spends its time here and in system calls.
var (
	tokMagic      = str("nix-archive-1")
	tokRegular    = str("(", "type", "regular", "contents")
	tokExecutable = str("(", "type", "regular", "executable", "", "contents")
	tokSymlink    = str("(", "type", "symlink", "target")
	tokDirectory  = str("(", "type", "directory")
	tokEntry      = str("entry", "(", "name")
	tokNode       = str("node")
	tokClose      = str(")")
)

// zeros is the longest padding.
const zeros = "\x00\x00\x00\x00\x00\x00\x00"

// str encodes each of its arguments as a string of the NAR format.
func str(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		var length [8]byte
		binary.LittleEndian.PutUint64(length[:], uint64(len(w)))
		b.Write(length[:])
		b.WriteString(w)
		b.WriteString(padding(int64(len(w))))
	}
	return b.String()
}

// padding returns the zero bytes that follow n bytes, up to a multiple of eight.
func padding(n int64) string { return zeros[:-n&7] }
