package publisher

import (
	"os"
	"path/filepath"
	"testing"
)

// A flake that is reached through a link is named by where it is, from without
// as from within: a shell's $PWD has the link.
func TestLocalFlakeFollowsLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	flake, link := filepath.Join(dir, "flake"), filepath.Join(dir, "link")
	if err := os.Mkdir(flake, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(flake, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(link) // sets PWD as well, to the link
	for _, c := range []struct{ ref, want string }{
		{".", flake},
		{"./", flake},
		{".?ref=main", flake + "?ref=main"},
		{"../link", flake},
		{link, flake},
		{"github:owner/repo", "github:owner/repo"},
	} {
		if got, err := localFlake(c.ref); err != nil || got != c.want {
			t.Errorf("localFlake(%q) = %q, %v; want %q", c.ref, got, err, c.want)
		}
	}
}
