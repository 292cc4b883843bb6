//go:build interop

package trust_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// These tests exchange signatures with cosign itself. hack/test-interop builds
// both majors and names them in the environment. cosign runs without network,
// so that nothing here depends on a service.

// cosign is one version of it, with how it is told to keep to the bundle
// format and to go without a transparency log.
type cosign struct {
	path string
	sign func(t *testing.T, dir string) []string
	// verify are the further flags of verify-blob.
	verify func(t *testing.T, dir string) []string
}

func cosigns(t *testing.T) map[string]cosign {
	t.Helper()
	emptyRoot := func(t *testing.T, dir string) string {
		return write(t, dir, "trusted-root.json", `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)
	}
	emptyConfig := func(t *testing.T, dir string) string {
		return write(t, dir, "signing-config.json", `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}`)
	}
	return map[string]cosign{
		"v3": {
			path: tool(t, "COSIGN_V3"),
			sign: func(t *testing.T, dir string) []string {
				return []string{"--signing-config", emptyConfig(t, dir), "--trusted-root", emptyRoot(t, dir)}
			},
			verify: func(*testing.T, string) []string { return nil },
		},
		"v2": {
			path: tool(t, "COSIGN_V2"),
			sign: func(*testing.T, string) []string { return []string{"--new-bundle-format", "--tlog-upload=false"} },
			verify: func(t *testing.T, dir string) []string {
				return []string{"--new-bundle-format", "--trusted-root", emptyRoot(t, dir)}
			},
		},
	}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set; run hack/test-interop", name)
	}
	return path
}

func write(t *testing.T, dir, name, data string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs cosign in dir, without network where that can be had.
func (c cosign) run(t *testing.T, dir string, args ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=pass phrase", "HOME="+dir, "TUF_ROOT="+dir)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("cosign %s\n%s", strings.Join(args, " "), out)
	return err
}

func (c cosign) signBlob(t *testing.T, dir string) []byte {
	t.Helper()
	args := append([]string{"sign-blob", "--yes", "--key", "cosign.key", "--bundle", release.BundleName}, c.sign(t, dir)...)
	if err := c.run(t, dir, append(args, release.SumsName)...); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, release.BundleName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (c cosign) verifyBlob(t *testing.T, dir string) error {
	t.Helper()
	args := append([]string{"verify-blob", "--key", "release.pub", "--insecure-ignore-tlog", "--bundle", release.BundleName}, c.verify(t, dir)...)
	return c.run(t, dir, append(args, release.SumsName)...)
}

// generate has cosign make a key pair and returns the public key.
func (c cosign) generate(t *testing.T, dir string) string {
	t.Helper()
	if err := c.run(t, dir, "generate-key-pair"); err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile(filepath.Join(dir, "cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return string(pub)
}

func TestCosignSigns(t *testing.T) {
	for name, c := range cosigns(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := newVerifier(t, trust.Policy{Keys: []trust.Key{{Name: "cosign", PEM: c.generate(t, dir)}}})
			write(t, dir, release.SumsName, string(sums))
			b := c.signBlob(t, dir)
			if got, err := v.Verify(t.Context(), sums, b); err != nil || got.Name != "cosign" {
				t.Errorf("%v, %v", got, err)
			}
			_, err := v.Verify(t.Context(), append([]byte("x"), sums...), b)
			wantReason(t, err, release.ReasonOtherContent)
		})
	}
}

func TestCosignVerifies(t *testing.T) {
	for name, c := range cosigns(t) {
		for _, kind := range []string{"ecdsa", "ed25519"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				dir := t.TempDir()
				k := newKey(t, kind)
				pub, err := k.PublicPEM()
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, "release.pub", string(pub))
				write(t, dir, release.SumsName, string(sums))
				write(t, dir, release.BundleName, string(sign(t, k, sums)))
				if err := c.verifyBlob(t, dir); err != nil {
					t.Errorf("refused: %v", err)
				}
				write(t, dir, release.SumsName, "x"+string(sums))
				if err := c.verifyBlob(t, dir); err == nil {
					t.Error("takes a signature over something else")
				}
			})
		}
	}
}

// TestCosignsKeySigns signs here with the encrypted key that cosign made.
func TestCosignsKeySigns(t *testing.T) {
	for name, c := range cosigns(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "release.pub", c.generate(t, dir))
			pem, err := os.ReadFile(filepath.Join(dir, "cosign.key"))
			if err != nil {
				t.Fatal(err)
			}
			k, err := trust.ParsePrivateKey(pem, func() ([]byte, error) { return []byte("pass phrase"), nil })
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, release.SumsName, string(sums))
			write(t, dir, release.BundleName, string(sign(t, k, sums)))
			if err := c.verifyBlob(t, dir); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// TestCosignTakesEachLine takes a file with two signatures apart: each line is
// a bundle that cosign verifies.
func TestCosignTakesEachLine(t *testing.T) {
	a, b := newKey(t, "ecdsa"), newKey(t, "ecdsa")
	both, err := trust.AddBundle(sign(t, a, sums), sign(t, b, sums), sums)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(both), "\n"), "\n")
	for name, c := range cosigns(t) {
		for i, k := range []*trust.PrivateKey{a, b} {
			dir := t.TempDir()
			pub, err := k.PublicPEM()
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "release.pub", string(pub))
			write(t, dir, release.SumsName, string(sums))
			write(t, dir, release.BundleName, lines[i])
			if err := c.verifyBlob(t, dir); err != nil {
				t.Errorf("%s, line %d: %v", name, i, err)
			}
		}
	}
}
