package main

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/internal/trust"
)

// passwordVar is where release sign takes the password of a key from.
const passwordVar = "COSIGN_PASSWORD"

// command runs ec-verify with args and returns its exit code and what it
// wrote.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := terminal.New(&out, &errs)
	cmd := newRootCommand(a)
	cmd.SetArgs(args)
	code = a.ExitCode(t.Context(), cmd.ExecuteContext(t.Context()))
	if strings.ContainsRune(errs.String(), '\x1b') || strings.Count(errs.String(), "\n") > 1 {
		t.Errorf("%q: more than one plain line on stderr: %q", args, errs.String())
	}
	return code, out.String(), errs.String()
}

// fresh is the time at which the releases of these tests were made: the command has only
// the node's clock.
func fresh() time.Time { return time.Now().UTC().Truncate(time.Second).Add(-time.Hour) }

// keyPair writes a key pair and returns the files.
func keyPair(t *testing.T, password []byte) (private, public string) {
	t.Helper()
	pass := func(bool) ([]byte, error) { return password, nil }
	priv, pub, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), pass)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	releasetest.File(t, dir, "k.key", priv)
	releasetest.File(t, dir, "k.pub", pub)
	return filepath.Join(dir, "k.key"), filepath.Join(dir, "k.pub")
}

func configFile(t *testing.T, c map[string]any) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	releasetest.File(t, dir, "config.json", data)
	return filepath.Join(dir, "config.json")
}

func TestReleaseSignVerifyFetchList(t *testing.T) {
	key, public := keyPair(t, nil)
	root, state := t.TempDir(), t.TempDir()
	dir := filepath.Join(root, string(releasetest.Tag))
	releasetest.Write(t, dir, releasetest.Spec{Created: fresh()})
	// An image that came after SHA256SUMS.txt was made.
	releasetest.File(t, dir, "late.iso", []byte("late"))
	config := configFile(t, map[string]any{
		"stateDir": state, "release": map[string]any{"source": []string{root}, "accept": []string{string(releasetest.Tag)}},
		"trust": trust.Policy{Keys: []trust.Key{{Name: "ci", File: public}}},
	})

	if code, out, errs := command(t, "release", "sign", dir, "--key", key, "--write-sums"); code != 0 || !strings.Contains(out, "is trusted") {
		t.Fatalf("sign: %d %q %q", code, out, errs)
	}
	if info, err := os.Stat(filepath.Join(dir, release.BundleName)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("bundle: %v, %v", info, err)
	}
	code, out, errs := command(t, "--config", config, "release", "verify", string(releasetest.Tag), "--output", "json")
	if code != 0 {
		t.Fatalf("verify: %d %q", code, errs)
	}
	var got terminal.ReleaseSummary
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.SchemaVersion != 1 || got.Signer.Name != "ci" || got.Assets != 5 {
		t.Errorf("verify: %s %+v %v", out, got, err)
	}
	if code, _, errs := command(t, "release", "verify", dir, "--key", public); code != 0 {
		t.Errorf("verify DIR: %d %q", code, errs)
	}
	boot := filepath.Join(t.TempDir(), "boot")
	if code, _, errs := command(t, "--config", config, "release", "fetch", string(releasetest.Tag), "--out", boot, "--asset", "*.iso"); code != 0 {
		t.Fatalf("fetch: %d %q", code, errs)
	}
	if names, _ := filepath.Glob(filepath.Join(boot, "*")); len(names) != 5 {
		t.Errorf("fetched %q", names)
	}
	// Nothing is overwritten.
	if code, _, errs := command(t, "--config", config, "release", "fetch", string(releasetest.Tag), "--out", boot); code == 0 || !strings.Contains(errs, "not empty") {
		t.Errorf("fetch again: %d %q", code, errs)
	}
	// To look at a release and to fetch it elsewhere keeps and remembers nothing.
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("the state directory holds %v, %v", entries, err)
	}
	if code, out, errs := command(t, "--config", config, "release", "refresh"); code != 0 {
		t.Fatalf("refresh: %d %q %q", code, out, errs)
	}
	// By its tag it is checked with what is kept here alone.
	if err := os.Rename(root, root+"-gone"); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "--config", config, "release", "verify", string(releasetest.Tag)); code != 0 || !strings.Contains(out, "the cache") {
		t.Errorf("verify without the source: %d %q %q", code, out, errs)
	}
	if err := os.Rename(root+"-gone", root); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "--config", config, "release", "list"); code != 0 || strings.Count(out, string(releasetest.Tag)) != 3 || !strings.Contains(out, "-nixos-system\n") || !strings.Contains(out, "trusted, in release.accept") || !strings.Contains(out, "not checked") {
		t.Errorf("list: %d %q %q", code, out, errs)
	}
	if code, out, _ := command(t, "--config", config, "release", "list", "--cached", "--output", "json"); code != 0 || !strings.Contains(out, `"state":"trusted"`) || !strings.Contains(out, `"sums":"`+got.Sums+`"`) || strings.Contains(out, "not checked") {
		t.Errorf("list: %d %q", code, out)
	}
}

// TestLooking: inspecting a newer release, with any key, does not make the running one
// refused. Accepting it for the machine's own use does, and inspecting an older release
// then reports that.
func TestLooking(t *testing.T) {
	key, public := keyPair(t, nil)
	otherKey, otherPublic := keyPair(t, nil)
	root, others, state := t.TempDir(), t.TempDir(), t.TempDir()
	for _, r := range []struct {
		root, tag, key string
		age            time.Duration
	}{{root, "boot-v1", key, 2 * time.Hour}, {root, "boot-v2", key, time.Hour}, {others, "boot-v3", otherKey, 0}, {others, "boot-v1", otherKey, 90 * time.Minute}} {
		dir := filepath.Join(r.root, r.tag)
		releasetest.Write(t, dir, releasetest.Spec{Tag: release.Tag(r.tag), Created: fresh().Add(-r.age)})
		if code, _, errs := command(t, "release", "sign", dir, "--key", r.key); code != 0 {
			t.Fatal(errs)
		}
	}
	settings := map[string]any{
		"stateDir": state, "release": map[string]any{"source": []string{root}},
		"trust": trust.Policy{Keys: []trust.Key{{Name: "ci", File: public}}},
	}
	config := configFile(t, settings)
	run := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := command(t, append([]string{"--config", config}, args...)...)
		if code != want {
			t.Errorf("%q: exit %d, want %d: %s%s", args, code, want, out, errs)
		}
		return errs
	}
	image := filepath.Join(root, "boot-v2", "image.iso")
	look := func() {
		t.Helper()
		n := 0
		for _, foreign := range [][]string{{"--key", otherPublic, "--release", others}, {"--key", public}, nil} {
			tag := "boot-v2"
			if n == 0 {
				tag = "boot-v3"
			}
			run(0, append([]string{"release", "verify", tag}, foreign...)...)
			run(0, append([]string{"release", "verify", "latest"}, foreign...)...)
			run(0, append([]string{"release", "fetch", tag, "--out", filepath.Join(t.TempDir(), "out")}, foreign...)...)
			if n > 0 {
				run(0, append([]string{"images", image, "--against", tag}, foreign...)...)
			}
			n++
		}
	}
	look()
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("looking left %v, %v", entries, err)
	}
	run(0, "release", "verify", "boot-v1")

	settings["release"] = map[string]any{"source": []string{root}, "accept": []string{"boot-v1"}}
	accepting := config
	config = configFile(t, settings)
	run(0, "release", "refresh")
	before := releasetest.Read(t, state, "accepted.json")
	config = accepting
	look()
	run(0, "release", "verify", "boot-v1")
	// What was accepted under a tag is told apart from what a stranger signed.
	if errs := run(3, "release", "verify", "boot-v1", "--key", otherPublic, "--release", others); !strings.Contains(errs, "replaced") {
		t.Error(errs)
	}
	if after := releasetest.Read(t, state, "accepted.json"); !bytes.Equal(before, after) {
		t.Errorf("looking has made %s of %s", after, before)
	}
	if names, _ := os.ReadDir(filepath.Join(state, "releases")); len(names) != 2 { // and .lock
		t.Errorf("the cache holds %v", names)
	}

	// Once the machine has taken the newer one, the way back is closed.
	settings["release"] = map[string]any{"source": []string{root}, "accept": []string{"boot-v2"}}
	config = configFile(t, settings)
	if errs := run(64, "release", "refresh", "--key", otherPublic); !strings.Contains(errs, "trust in the configuration") {
		t.Error(errs)
	}
	run(0, "release", "refresh")
	config = accepting
	for _, args := range [][]string{
		{"release", "verify", "boot-v1"},
		{"release", "fetch", "boot-v1", "--out", filepath.Join(t.TempDir(), "out")},
		{"images", image, "--against", "boot-v1"},
	} {
		if errs := run(3, args...); !strings.Contains(errs, "rolled-back") {
			t.Errorf("%q: %s", args, errs)
		}
	}
}

// TestReleaseTagIsNoDirectory puts an older release into the working directory, under the
// name of the requested one.
func TestReleaseTagIsNoDirectory(t *testing.T) {
	key, public := keyPair(t, nil)
	t.Chdir(t.TempDir())
	empty := configFile(t, map[string]any{})
	for _, name := range []string{"boot-v2", "latest", "dist"} {
		releasetest.Write(t, name, releasetest.Spec{Created: fresh()})
		if code, _, errs := command(t, "release", "sign", name, "--key", key); code != 0 {
			t.Fatal(errs)
		}
		want := terminal.ExitInconclusive
		if name == "dist" {
			want = 0
		}
		with := []string{"--config", empty, "release", "verify", "--key", public, "--state-dir", t.TempDir(), "--release", t.TempDir()}
		if code, out, errs := command(t, append(with, name)...); code != want {
			t.Errorf("%s: exit code %d, want %d; %q %q", name, code, want, out, errs)
		}
		if code, _, errs := command(t, append(with, "./"+name)...); code != 0 {
			t.Errorf("./%s: %d %q", name, code, errs)
		}
	}
}

func TestReleaseSignPasswords(t *testing.T) {
	key, public := keyPair(t, []byte("pass phrase"))
	dir := filepath.Join(t.TempDir(), string(releasetest.Tag))
	releasetest.Write(t, dir, releasetest.Spec{Created: fresh()})
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code == 0 || !strings.Contains(errs, passwordVar) {
		t.Errorf("no password: %d %q", code, errs)
	}
	t.Setenv(passwordVar, "wrong")
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code == 0 || !strings.Contains(errs, "wrong password") {
		t.Errorf("wrong password: %d %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, release.BundleName)); err == nil {
		t.Error("a bundle was written")
	}
	t.Setenv(passwordVar, "pass phrase")
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code != 0 {
		t.Errorf("from the environment: %d %q", code, errs)
	}
	t.Setenv(passwordVar, "wrong")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pass phrase\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "release", "sign", dir, "--key", key, "--password-file", file); code != 0 {
		t.Errorf("from a file: %d %q", code, errs)
	}
	// A second signer.
	second, secondPublic := keyPair(t, nil)
	if code, _, errs := command(t, "release", "sign", dir, "--key", second, "--add"); code != 0 {
		t.Errorf("--add: %d %q", code, errs)
	}
	config := configFile(t, map[string]any{"trust": trust.Policy{Threshold: 2, Keys: []trust.Key{{Name: "a", File: public}, {Name: "b", File: secondPublic}}}})
	if code, out, errs := command(t, "--config", config, "release", "verify", dir); code != 0 || !strings.Contains(out, `key "a"`) || !strings.Contains(out, `key "b"`) {
		t.Errorf("two signers: %d %q %q", code, out, errs)
	}
}

func TestReleaseExitCodes(t *testing.T) {
	key, public := keyPair(t, nil)
	_, stranger := keyPair(t, nil)
	root, state := t.TempDir(), t.TempDir()
	dir := filepath.Join(root, string(releasetest.Tag))
	releasetest.Write(t, dir, releasetest.Spec{Created: fresh()})
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code != 0 {
		t.Fatal(errs)
	}
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer down.Close()
	with := []string{"--release", root, "--state-dir", state}
	for _, c := range []struct {
		name string
		args []string
		want int
		line string
	}{
		{"trusted", append([]string{"verify", string(releasetest.Tag), "--key", public}, with...), 0, ""},
		{"other key", append([]string{"verify", dir, "--key", stranger}, with...), terminal.ExitUntrusted, "wrong-key"},
		{"unsigned", append([]string{"verify", dir, "--unsafe-unsigned"}, with...), 0, ""},
		{"no such tag", append([]string{"verify", "boot-v2", "--key", public}, with...), terminal.ExitInconclusive, "not found"},
		{"no such directory", append([]string{"verify", "./none", "--key", public}, with...), terminal.ExitInconclusive, "not found"},
		{"forbidden", []string{"verify", "boot-v2", "--key", public, "--state-dir", state, "--release", down.URL + "/o/r/releases/download"}, terminal.ExitInconclusive, "403"},
		{"no such asset", append([]string{"fetch", string(releasetest.Tag), "--key", public, "--out", filepath.Join(root, "out"), "--asset", "x*"}, with...), terminal.ExitInconclusive, "not found"},
		{"bad tag", append([]string{"verify", "boot v2", "--key", public}, with...), terminal.ExitUsage, "parse tag"},
		{"bad pattern", append([]string{"fetch", string(releasetest.Tag), "--key", public, "--out", "x", "--asset", "["}, with...), terminal.ExitUsage, "--asset"},
		{"bad source", []string{"verify", string(releasetest.Tag), "--key", public, "--release", "ftp://example.org"}, terminal.ExitUsage, "parse source"},
		{"no out", append([]string{"fetch", string(releasetest.Tag), "--key", public}, with...), terminal.ExitUsage, "--out"},
		{"no key to sign with", []string{"sign", dir}, terminal.ExitUsage, "--key"},
		{"no trust", append([]string{"verify", dir}, with...), terminal.ExitConfig, "trust"},
		{"no such key", append([]string{"verify", dir, "--key", "./none"}, with...), terminal.ExitConfig, "none"},
		{"no command", []string{"frobnicate"}, terminal.ExitUsage, "unknown command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			empty := configFile(t, map[string]any{})
			code, _, errs := command(t, append([]string{"--config", empty, "release"}, c.args...)...)
			if code != c.want || !strings.Contains(errs, c.line) {
				t.Errorf("exit code %d, want %d; stderr %q, want %q in it", code, c.want, errs, c.line)
			}
		})
	}
}

func TestReleaseSignRefuses(t *testing.T) {
	key, _ := keyPair(t, nil)
	dir := filepath.Join(t.TempDir(), string(releasetest.Tag))
	releasetest.Write(t, dir, releasetest.Spec{Created: fresh()})
	refused := func(what string, want ...string) {
		t.Helper()
		before := releasetest.Read(t, dir, release.SumsName)
		code, out, errs := command(t, "release", "sign", dir, "--key", key)
		if code != terminal.ExitUntrusted || out != "" || !strings.Contains(errs, "--write-sums") {
			t.Errorf("%s: %d %q %q", what, code, out, errs)
		}
		for _, w := range want {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: %q does not say %q", what, errs, w)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, release.BundleName)); err == nil {
			t.Errorf("%s: signed", what)
		}
		if !bytes.Equal(before, releasetest.Read(t, dir, release.SumsName)) {
			t.Errorf("%s: %s was written", what, release.SumsName)
		}
	}
	whole := releasetest.Read(t, dir, "image.iso")
	releasetest.File(t, dir, "image.iso", whole[:len(whole)-1])
	refused("cut short", "image.iso has other bytes")
	releasetest.File(t, dir, "late.iso", nil)
	if err := os.Remove(filepath.Join(dir, release.ListingName(releasetest.Configuration))); err != nil {
		t.Fatal(err)
	}
	refused("three things", "image.iso has other bytes", "late.iso has no line", release.ListingName(releasetest.Configuration)+" is not there")
	sums := releasetest.Read(t, dir, release.SumsName)
	releasetest.File(t, dir, release.SumsName, sums[:len(sums)-9])
	refused("sums cut short", "malformed-sums")
	releasetest.File(t, dir, release.SumsName, nil)
	refused("empty sums", "malformed-sums")
	if err := os.Remove(filepath.Join(dir, release.SumsName)); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code != terminal.ExitInconclusive || !strings.Contains(errs, "--write-sums") {
		t.Errorf("no sums: %d %q", code, errs)
	}
	if code, _, errs := command(t, "release", "sign", dir, "--key", key, "--add", "--write-sums"); code != terminal.ExitUsage {
		t.Errorf("both: %d %q", code, errs)
	}
	if code, _, errs := command(t, "release", "sign", dir, "--key", key, "--write-sums"); code != 0 {
		t.Errorf("on purpose: %d %q", code, errs)
	}
	if err := os.Remove(filepath.Join(dir, release.BundleName)); err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, dir, release.ManifestName(releasetest.Configuration), []byte("{}"))
	if code, _, errs := command(t, "release", "sign", dir, "--key", key, "--write-sums"); code != terminal.ExitUntrusted || !strings.Contains(errs, "not fit to be published") {
		t.Errorf("a broken manifest: %d %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, release.BundleName)); err == nil {
		t.Error("a broken manifest: signed")
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, "release", "sign", dir, "--key", key); code == 0 || !strings.Contains(errs, "not a regular file") {
		t.Errorf("a link: %d %q", code, errs)
	}
}

// TestRefusals has the command refuse every release of testdata/release with
// exit code 3. The clock cannot be set, so the releases' age is forgiven by a
// long grace, and the cases that are about time are moved to the present.
func TestRefusals(t *testing.T) {
	const cases = "../../testdata/release"
	paths, err := filepath.Glob(filepath.Join(cases, "*", "case.json"))
	if err != nil || len(paths) < 25 {
		t.Fatalf("%d cases, %v", len(paths), err)
	}
	keys, err := filepath.Abs(filepath.Join(cases, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			var c struct {
				Tag  release.Tag `json:"tag"`
				Keys []struct {
					Name      string    `json:"name"`
					NotBefore time.Time `json:"notBefore"`
					NotAfter  time.Time `json:"notAfter"`
				} `json:"keys"`
				Threshold int                `json:"threshold"`
				Accepted  []release.Accepted `json:"accepted"`
				Exit      int                `json:"exit"`
				Reason    release.Reason     `json:"reason"`
			}
			if err := json.Unmarshal(releasetest.Read(t, filepath.Dir(path), "case.json"), &c); err != nil {
				t.Fatal(err)
			}
			p := trust.Policy{Threshold: c.Threshold}
			for _, k := range c.Keys {
				key := trust.Key{Name: k.Name, File: filepath.Join(keys, k.Name+".pub")}
				if !k.NotBefore.IsZero() {
					key.NotBefore = now.AddDate(0, 0, 1)
				}
				if !k.NotAfter.IsZero() {
					key.NotAfter = now.AddDate(0, 0, -1)
				}
				p.Keys = append(p.Keys, key)
			}
			state, root, grace := t.TempDir(), filepath.Dir(path), "876000h"
			if len(c.Accepted) > 0 {
				data, err := json.Marshal(map[string]any{"schemaVersion": 1, "accepted": c.Accepted})
				if err != nil {
					t.Fatal(err)
				}
				releasetest.File(t, state, "accepted.json", data)
			}
			if c.Reason == release.ReasonExpired {
				root, grace = t.TempDir(), "0s"
				dir := filepath.Join(root, string(c.Tag))
				releasetest.Write(t, dir, releasetest.Spec{Tag: c.Tag, Created: now.AddDate(0, 0, -91)})
				pem, err := os.ReadFile(filepath.Join(keys, "release.TEST-ONLY.key"))
				if err != nil {
					t.Fatal(err)
				}
				k, err := trust.ParsePrivateKey(pem, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := trust.Sign(context.Background(), k, releasetest.Read(t, dir, release.SumsName))
				if err != nil {
					t.Fatal(err)
				}
				releasetest.File(t, dir, release.BundleName, b)
			}
			arg := string(c.Tag)
			if name == "sums-without-image" || name == "image-tampered" {
				arg = filepath.Join(root, arg) // which is read in whole
			}
			config := configFile(t, map[string]any{
				"stateDir": state, "trust": p,
				"release": map[string]any{"source": []string{absolute(t, root)}, "grace": grace},
			})
			code, out, errs := command(t, "--config", config, "release", "verify", arg)
			if code != c.Exit || !strings.Contains(errs, string(c.Reason)) {
				t.Errorf("exit code %d, want %d (%s); stdout %q, stderr %q", code, c.Exit, c.Reason, out, errs)
			}
		})
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
