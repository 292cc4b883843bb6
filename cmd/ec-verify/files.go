package main

import "os"

// isDirectory reports whether name leads to a directory.
func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
