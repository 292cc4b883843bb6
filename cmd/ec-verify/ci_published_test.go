package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

// TestCIPublished has hack/ci-published look at releases of a checkout's commit: it
// says yes of the one that is published, of that commit and with that key, and of no
// other.
func TestCIPublished(t *testing.T) {
	program, err := exec.LookPath("ec-verify")
	if err != nil {
		t.Fatal(err)
	}
	checkout := t.TempDir()
	script, err := os.ReadFile("../../hack/ci-published")
	if err != nil {
		t.Fatal(err)
	}
	shell(t, checkout, nil, "git init -q . && git -c user.name=x -c user.email=x@example.org commit -q --allow-empty -m x && mkdir hack")
	if err := os.WriteFile(filepath.Join(checkout, "hack/ci-published"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	head, _ := shell(t, checkout, nil, "git rev-parse HEAD")
	key, public := keyPair(t, nil)
	_, stranger := keyPair(t, nil)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(forgetest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	forge := &forgetest.Server{}
	repo := forge.Start(t)
	for tag, commit := range map[string]string{"boot-v1": strings.TrimSpace(head), "boot-v2": releasetest.Commit} {
		dir := filepath.Join(t.TempDir(), tag)
		releasetest.Write(t, dir, releasetest.Spec{Tag: release.Tag(tag), Created: fresh()})
		if err := release.WriteInfo(dir, release.Info{Tag: release.Tag(tag), Commit: commit, CreatedAt: fresh(), BestBefore: fresh().AddDate(0, 0, 90)}); err != nil {
			t.Fatal(err)
		}
		if err := release.WriteSums(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"release", "sign", dir, "--key", key},
			{"release", "publish", dir, "--tag", tag, "--forge", repo, "--token-file", token, "--key", public, "--state-dir", t.TempDir()},
		} {
			if code, _, errs := command(t, args...); code != 0 {
				t.Fatal(errs)
			}
		}
	}
	forge.Add("boot-v3", true)
	read := func(name string) string { return string(releasetest.Read(t, filepath.Dir(name), filepath.Base(name))) }
	for _, c := range []struct{ name, tag, key, forge, want, says string }{
		{"published", "boot-v1", read(public), repo, "yes", "nothing is built"},
		{"of another commit", "boot-v2", read(public), repo, "no", "another commit"},
		{"with another key", "boot-v1", read(stranger), repo, "no", "wrong-key"},
		{"a draft", "boot-v3", read(public), repo, "no", "boot-v3 is not published"},
		{"not there", "boot-v4", read(public), repo, "no", "boot-v4 is not published"},
		{"no tag", "", read(public), repo, "no", "no tag was named"},
		{"no tag of a release", "-x; rm", read(public), repo, "no", "is no tag"},
		{"no key", "boot-v1", "", repo, "no", "not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs := shell(t, checkout, []string{"EC_VERIFY=" + program, "RELEASE_TAG=" + c.tag, "EC_SIGNING_PUBLIC_KEY=" + c.key, "EC_RELEASE_TOKEN=" + forgetest.Token, "FORGE_URL=" + c.forge}, "hack/ci-published")
			if out != "published="+c.want+"\n" || !strings.Contains(errs, c.says) {
				t.Errorf("%q, %q; want %s and %q", out, errs, c.want, c.says)
			}
			if strings.Contains(errs, forgetest.Token) {
				t.Errorf("the token is told: %q", errs)
			}
		})
	}
}

// shell runs a script in dir, which must succeed, and returns what it wrote.
func shell(t *testing.T, dir string, environment []string, script string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environment...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, errs.String())
	}
	return out.String(), errs.String()
}
