package nix

import (
	"os"
	"testing"
)

// The test program is what a confined run starts before it becomes nix.
func TestMain(m *testing.M) {
	if code, ok := Confined(); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
