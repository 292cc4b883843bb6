// Package vectors finds the test vectors of other projects, for tests. They
// belong to others and are not part of this repository.
package vectors

import (
	"os"
	"path/filepath"
	"testing"
)

// Variable names the directory that holds the vectors. The default is
// shared/vectors beside the checkout.
const Variable = "EC_VERIFY_VECTORS"

// Dir returns the directory of one project's vectors, and skips the test where
// there is none. hack/skipped lets a skipped TestVectors pass and no other test.
func Dir(t testing.TB, project string) string {
	t.Helper()
	dir := os.Getenv(Variable)
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "../shared/vectors")
	}
	dir = filepath.Join(dir, project)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%v; set %s", err, Variable)
	}
	return dir
}

// moduleRoot returns the directory of go.mod; tests run in that of their package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above this package")
	return ""
}
