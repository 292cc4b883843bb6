package nar

import "strconv"

// Type is what kind of node an entry of a NAR is. The zero value is none.
type Type uint8

// The three kinds of nodes that a NAR can hold.
const (
	Regular Type = iota + 1
	Directory
	Symlink
)

// String returns the type as the format spells it: "regular", "directory" or
// "symlink".
func (t Type) String() string {
	switch t {
	case Regular:
		return "regular"
	case Directory:
		return "directory"
	case Symlink:
		return "symlink"
	}
	return "Type(" + strconv.Itoa(int(t)) + ")"
}

// An Entry describes one node of a tree as its NAR holds it.
type Entry struct {
	// Path leads from the root to the node: names separated by '/', raw bytes.
	// The root itself is "".
	Path string
	Type Type
	// Executable is about regular files: whether the owner may execute it.
	Executable bool
	// Size and SHA256 are those of the contents of a regular file, in bytes;
	// zero for the other types. The digest of an empty file is not zero.
	Size   int64
	SHA256 Hash
	// Target is what a symbolic link holds, raw bytes; else "".
	Target string
}
