package nix

import (
	"fmt"
	"os"
	"testing"
)

// The test program is what a confined run starts before it becomes nix.
func TestMain(m *testing.M) {
	if code, ok := Confined(); ok {
		os.Exit(code)
	}
	if request := os.Getenv(driverEnv); request != "" {
		if err := drive(request); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if preparedDir != "" {
		os.RemoveAll(preparedDir)
	}
	os.Exit(code)
}
