package trust_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/internal/trust"
)

const offlineVar = "EC_VERIFY_TEST_OFFLINE"

// TestMain makes sure, in the process that [TestOffline] starts, that there is
// no network.
func TestMain(m *testing.M) {
	if os.Getenv(offlineVar) != "" {
		if err := noNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func noNetwork() error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 {
			return fmt.Errorf("the network interface %s is up", i.Name)
		}
	}
	if conn, err := net.DialTimeout("udp", "192.0.2.1:53", time.Second); err == nil {
		conn.Close()
		return fmt.Errorf("there is a route to elsewhere")
	}
	return nil
}

// TestOffline runs the tests of verification in a network name space of their
// own, where not even the loopback is up.
func TestOffline(t *testing.T) {
	if os.Getenv(offlineVar) != "" {
		t.Fatal("TestOffline was started by itself")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []string{"TestSignAndVerify", "TestKeyless", "TestRefusals", "TestFindFromCacheAlone"}
	cmd := exec.CommandContext(t.Context(), exe, "-test.v", "-test.run", "^("+strings.Join(tests, "|")+")$")
	cmd.Env = append(os.Environ(), offlineVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	out, err := cmd.CombinedOutput()
	if err != nil && os.Geteuid() != 0 && strings.Contains(err.Error(), "operation not permitted") {
		t.Skip("neither root nor allowed to make a network name space")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range tests {
		if !strings.Contains(string(out), "--- PASS: "+name+" ") {
			t.Errorf("%s did not run:\n%s", name, out)
		}
	}
}

// TestFindFromCacheAlone finds a release that was kept before, with sources
// that cannot be reached.
func TestFindFromCacheAlone(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	k := newKey(t, "ecdsa")
	sub := filepath.Join(dir, string(releasetest.Tag))
	releasetest.Write(t, sub, releasetest.Spec{})
	resign(t, sub, k)
	find := func(spec string) (*release.Release, error) {
		src, err := release.NewSource(spec)
		if err != nil {
			t.Fatal(err)
		}
		cache := release.OpenCache(filepath.Join(state, "releases"))
		memory, err := release.OpenMemory(state)
		if err != nil {
			t.Fatal(err)
		}
		f := release.Finder{
			Sources: []release.Source{src}, Cache: cache,
			Verifier: newVerifier(t, trust.Policy{Keys: []trust.Key{named(t, "release", k)}}),
			Options:  []release.Option{release.WithMemory(memory), release.WithClock(func() time.Time { return releasetest.Now })},
		}
		return f.Find(t.Context(), releasetest.Tag)
	}
	if _, err := find(dir); err != nil {
		t.Fatal(err)
	}
	r, err := find("https://forge.example.org/owner/repo/releases/download")
	if err != nil {
		t.Fatal(err)
	}
	if r.Signer().Name != "release" {
		t.Errorf("signed by %s", r.Signer())
	}
	if _, err := r.Manifest(t.Context(), releasetest.Configuration); err != nil {
		t.Error(err)
	}
}
