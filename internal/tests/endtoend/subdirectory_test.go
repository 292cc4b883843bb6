package endtoend

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSubdirectory is of a flake that is not at the root of its source, as in a
// repository with more than machines: the builder records where it is, and the
// machine evaluates the same.
func TestSubdirectory(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.Run("sh", "-euc", `mkdir -p /srv/mono/machines
cp -r "$(readlink -f /etc/every-channel/flake)" /srv/mono/machines/nixos
chmod -R u+w /srv/mono; echo "not a flake" >/srv/mono/README`)
	create := []string{"env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", "--best-before", "87600h", "--tag", tag}
	m.Run(append(create, "path:/srv/mono?dir=machines/nixos#testhost", "--out", releases+"/"+tag)...)
	m.manifest = m.readManifest(m.Path(releases + "/" + tag + "/closure-testhost.json"))
	if got := m.manifest.Source.Dir; got != "machines/nixos" || m.manifest.Source.LockNarHash.IsZero() {
		t.Errorf("the manifest's source is %+v, want that of machines/nixos", m.manifest.Source)
	}
	m.Activate(string(m.manifest.Toplevel.OutPath), "")
	source := strings.TrimSuffix(strings.TrimSpace(m.Run("readlink", "-f", "/etc/every-channel/flake")), "/machines/nixos")
	t.Run("verified", func(t *testing.T) {
		a := m.verify()
		a.expect(t, "verified", 0)
		for _, tier := range a.Tiers {
			if asked := tier.Name != "rebuild" && tier.Name != "machine"; asked && tier.Status != "done" {
				t.Errorf("tier %s is %s: %s", tier.Name, tier.Status, tier.Why)
			}
		}
	})
	t.Run("another directory of it", func(t *testing.T) {
		m.Run("ln", "-sfn", source+"/machines", "/etc/every-channel/flake")
		m.verify().expect(t, "drifted", 1, "source-altered /etc/every-channel/flake")
	})
	t.Run("the source itself", func(t *testing.T) {
		m.Run("ln", "-sfn", source, "/etc/every-channel/flake")
		m.verify().expect(t, "verified", 0)
	})
}

// TestNaming is of a flake that takes the commit from its name: the builder says
// that nixos-rebuild would build another system, and why.
func TestNaming(t *testing.T) {
	t.Parallel()
	m := start(t)
	// The repository is made outside: git looks for its working directory by name,
	// which a host's has not outside of it.
	repository := filepath.Join(t.TempDir(), "mono")
	for _, args := range [][]string{
		{"mkdir", repository},
		{"cp", "-r", m.Path(m.Runner().Source), filepath.Join(repository, "nixos")},
		{"chmod", "-R", "u+w", repository},
		{"sed", "-i", `s|inherit version;|inherit version; revision = self.rev or "none";|`, filepath.Join(repository, "nixos/system.nix")},
		{"git", "-C", repository, "init", "--quiet"},
		{"git", "-C", repository, "add", "--all"},
		{"git", "-C", repository, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "machines"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	m.Push(repository, "/srv/mono")
	for flake, warned := range map[string]bool{"/srv/mono/nixos#testhost": true, "path:/srv/mono?dir=nixos#testhost": false} {
		_, stderr, code := m.Exec(context.Background(), program, "manifest", "create", flake, "--out", "/srv/out"+fmt.Sprint(warned))
		if code != 0 || strings.Contains(stderr, "self.rev or self.shortRev") != warned {
			t.Errorf("%s: exit %d, warned: %v, want 0, %v: %s", flake, code, !warned, warned, stderr)
		}
		manifest := m.readManifest(m.Path("/srv/out" + fmt.Sprint(warned) + "/closure-testhost.json"))
		if manifest.Source.Dir != "nixos" {
			t.Errorf("%s: the source is %+v", flake, manifest.Source)
		}
	}
}

// TestUnlockedInput: what no machine could evaluate is not made a release of.
// Nix itself takes an input that is locked by its commit alone.
func TestUnlockedInput(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.Run("mkdir", "/srv/unlocked")
	dir := m.Path("/srv/unlocked")
	write(t, filepath.Join(dir, "flake.nix"), `{ inputs.library.url = "github:owner/library"; outputs = { self, library }: { }; }`)
	locked := `"owner":"owner","repo":"library","type":"github"`
	write(t, filepath.Join(dir, "flake.lock"), `{"nodes":{"library":{"locked":{"rev":"0123456789abcdef0123456789abcdef01234567",`+locked+`},"original":{`+locked+`}},"root":{"inputs":{"library":"library"}}},"root":"root","version":7}`)
	_, stderr, code := m.Exec(context.Background(), program, "manifest", "create", "/srv/unlocked#testhost", "--out", "/srv/out")
	if code != 4 || !strings.Contains(stderr, `lock file: no narHash of the input "library"`) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
