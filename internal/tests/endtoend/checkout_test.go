package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image/imagetest"
)

// TestCheckout tests what the scripts read from a checkout before they build: a nix that
// does nothing ends them there.
func TestCheckout(t *testing.T) {
	t.Parallel()
	imagetest.Need(t, "git")
	work := t.TempDir()
	imagetest.Shell(t, work, `mkdir bin repo; printf '#!/bin/sh\nexit 9\n' >bin/nix; printf '#!/bin/sh\n' >bin/ec-verify; chmod 755 bin/*
export GIT_CONFIG_GLOBAL=/dev/null; cd repo; git init -q -b main; git config user.name x; git config user.email x@example.org
printf '/build-a/\n/bin/\n' >.gitignore; cp -r '`+absolute(t, filepath.Join("..", "..", "..", "hack"))+`' hack; printf '#!/bin/sh\n' >hack/ci-tool; git add .; GIT_AUTHOR_DATE=@1700000000 GIT_COMMITTER_DATE=@1700000000 git commit -q -m old
git tag boot-v1; GIT_COMMITTER_DATE=@1750000000 git tag -a -m back boot-v3 boot-v1
date >later; git add .; GIT_AUTHOR_DATE=@1720000000 GIT_COMMITTER_DATE=@1720000000 git commit -q -m new; git tag boot-v2`)
	repo := filepath.Join(work, "repo")
	run := func(script string) (string, int) {
		t.Helper()
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir = repo
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(work, "bin")+":"+os.Getenv("PATH"), "EC_VERIFY="+filepath.Join(work, "bin", "ec-verify"), "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, c := range []struct {
		name, script string
		code         int
		want         string
	}{
		{"the time of the commit", "hack/build-release boot-v2 out", 1, "created 2024-07-03T09:46:40Z"},
		{"of a commit without a tag", "hack/build-release boot-v4 out", 1, "created 2024-07-03T09:46:40Z"},
		{"of an annotated tag", "git checkout -q boot-v3; hack/build-release boot-v3 out; code=$?; git checkout -q boot-v2; exit $code", 1, "created 2025-06-15T15:06:40Z"},
		{"as given", "SOURCE_DATE_EPOCH=1760000000 hack/build-release boot-v2 out", 1, "created 2025-10-09T08:53:20Z"},
		{"no time", "SOURCE_DATE_EPOCH=today hack/build-release boot-v2 out", 64, "want seconds since 1970"},
		{"another commit's tag", "hack/build-release boot-v1 out", 1, "check out the tag, or take another one"},
		{"a tag that CI made plain", "git clone -q . ../clone; cd ../clone; git checkout -q boot-v3^{}; git tag -f boot-v3 HEAD 2>&1; RELEASE_TAG=boot-v3 hack/ci-build --out out", 1, "created 2025-06-15T15:06:40Z"},
		{"an origin that does not answer", "cd ../clone; git remote set-url origin /nowhere; RELEASE_TAG=boot-v3 hack/ci-build --out out", 1, "origin does not say"},
		{"changes", "echo x >untracked; SOURCE_DATE_EPOCH=1760000000 hack/build-release boot-v2 out; code=$?; rm untracked; exit $code", 1, "changes that are not committed"},
		{"what the docs have people make", "mkdir build-a; echo x >build-a/x; hack/build-release boot-v2 out; code=$?; rm -r build-a; exit $code", 1, "created 2024"},
		{"an old Nix", "mkdir ../old; printf '#!/bin/sh\necho \"nix (Nix) 2.8.0\"\n' >../old/nix; chmod 755 ../old/nix; PATH=$PWD/../old:$PATH hack/build-release boot-v2 out", 1, "this is nix (Nix) 2.8.0, and a release takes Nix 2.18 or newer"},
		{"latest", "hack/build-release latest out", 64, "cannot name one"},
		{"another form", "hack/build-release v2026.11.23 out", 64, "does not begin with boot-v"},
		{"a form that latest does not find", "hack/build-release boot-0123456789 out", 1, "found by its name alone"},
		{"not empty", "mkdir full; touch full/x; git add full; git -c user.name=x -c user.email=x commit -q -m x; hack/build-release boot-v9 full; code=$?; git checkout -q boot-v2; exit $code", 1, "remove what is in it"},
		{"no checkout", "cp -r hack ../plain; cd ..; SOURCE_DATE_EPOCH=1760000000 repo/hack/build-release --flake ./plain boot-v2 out", 1, "is no git checkout: whether it has changes cannot be told"},
		{"no checkout and no time", "cd ..; repo/hack/build-release --flake ./plain boot-v2 out", 1, "set SOURCE_DATE_EPOCH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, code := run(c.script); code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit %d, want %d; %q in %s", code, c.code, c.want, out)
			}
		})
	}
	t.Run("another user's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root to give a checkout to somebody else")
		}
		imagetest.Shell(t, work, "chown -R 12345:12345 repo")
		for _, epoch := range []string{"", "SOURCE_DATE_EPOCH=1760000000 "} {
			if out, code := run(epoch + "hack/build-release boot-v2 out"); code != 1 || !strings.Contains(out, "belongs to another user") || !strings.Contains(out, "safe.directory") {
				t.Errorf("exit %d: %s", code, out)
			}
		}
	})
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
