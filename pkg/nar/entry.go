package nar

import "strconv"

// Type is the type of a NAR node. The zero value is none.
type Type uint8

// The three types of nodes in a NAR.
const (
	Regular Type = iota + 1
	Directory
	Symlink
)

// String returns the type in the format's spelling: "regular", "directory" or
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

// An Entry describes one node of a tree as in its NAR.
type Entry struct {
	// Path is the path from the root to the node: names separated by '/', raw bytes.
	// The root itself is "".
	Path string
	Type Type
	// Executable is set for regular files that their owner may execute.
	Executable bool
	// Size and SHA256 describe the contents of a regular file, in bytes; zero for the
	// other types. The digest of an empty file is not zero.
	Size   int64
	SHA256 Hash
	// Target is the target of a symbolic link, raw bytes; otherwise "".
	Target string
}
