package repository

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	packageTests = regexp.MustCompile(`(?m)^\s*go test .* -p "\$NIX_BUILD_CORES" (.*)$`)
	outside      = regexp.MustCompile(`"((?:\.\./){2,}[a-z][^"]*)"`)
)

// TestPackageTestsStayInItsSource: nix/package.nix runs tests with what
// nix/source.nix gives, which has no documents. A test that reads more would end
// the build of every image. (hack/check-modules runs them there, where nixpkgs'
// lib is at hand.)
func TestPackageTestsStayInItsSource(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "nix/package.nix"))
	if err != nil {
		t.Fatal(err)
	}
	line := packageTests.FindSubmatch(data)
	if line == nil {
		t.Fatal("nix/package.nix runs no tests")
	}
	files := 0
	for pattern := range strings.FieldsSeq(string(line[1])) {
		dir := strings.TrimSuffix(strings.TrimPrefix(pattern, "./"), "/...")
		for _, glob := range []string{"*_test.go", "*/*_test.go"} {
			found, err := filepath.Glob(filepath.Join(root, dir, glob))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range found {
				files++
				for _, path := range leaving(t, file) {
					t.Errorf("%s reads %s, which nix/source.nix has not; skip where it is not there, and say so", file, path)
				}
			}
		}
	}
	if files < 20 {
		t.Errorf("%d test files were looked at; there are more", files)
	}
	// That it would be noticed:
	planted := filepath.Join(t.TempDir(), "x_test.go")
	if err := os.WriteFile(planted, []byte(`os.ReadFile("`+root+`/docs/trust.md")`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := leaving(t, planted); len(got) != 1 {
		t.Errorf("a test that reads a document is not noticed: %q", got)
	}
}

// leaving returns the paths outside of its package that a file names and that the
// package's source lacks. A file that names nix/source.nix knows of it.
func leaving(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "nix/source.nix") {
		return nil
	}
	var paths []string
	for _, m := range outside.FindAllSubmatch(data, -1) {
		path := strings.TrimLeft(string(m[1]), "./")
		if path != "" && !strings.HasPrefix(path, "testdata/release") && !strings.HasPrefix(path, "pkg/") && !strings.HasPrefix(path, "internal/") {
			paths = append(paths, string(m[1]))
		}
	}
	return paths
}
