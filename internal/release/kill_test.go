package release_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/pkg/closure"
)

const killVar = "EC_VERIFY_TEST_FETCH"

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if spec := os.Getenv(killVar); spec != "" {
		if err := fetchForKill(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fetchForKill fetches a release into the cache of spec, "URL STATE TAG", as a
// run does.
func fetchForKill(spec string) error {
	part := strings.Fields(spec)
	src, err := release.NewSource(part[0])
	if err != nil {
		return err
	}
	c := release.OpenCache(filepath.Join(part[1], "releases"))
	m, err := release.OpenMemory(part[1])
	if err != nil {
		return err
	}
	f := &release.Finder{
		Sources: []release.Source{src}, Cache: c, Verifier: believing{}, Keep: 1,
		Options: []release.Option{release.WithClock(func() time.Time { return releasetest.Now }), release.WithMemory(m)},
	}
	_, err = f.Find(context.Background(), release.Tag(part[2]))
	return err
}

// TestKilledWhileFetching kills a fetch at 200 moments, some of them while a
// damaged copy is exchanged for a good one or an older release is pruned. At
// each the cache holds the whole of a release or nothing of it, and the next
// run finds a state that it can go on from.
func TestKilledWhileFetching(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 200 processes")
	}
	dir := t.TempDir()
	const first, second = releasetest.Tag, release.Tag("boot-v2026.03.05")
	signed(t, dir, releasetest.Spec{Tag: first})
	signed(t, dir, releasetest.Spec{Tag: second, Created: releasetest.Created.AddDate(0, 0, 5)})
	// Every answer takes a little, so that there is a while to be killed in.
	s := forge(t, dir, func(http.ResponseWriter, *http.Request) bool { time.Sleep(2 * time.Millisecond); return false })
	url := s.URL + strings.TrimSuffix(download, "/")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(state string, tag release.Tag) *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), killVar+"="+strings.Join([]string{url, state, string(tag)}, " "))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	start := time.Now()
	if err := run(t.TempDir(), first).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(start)

	random := rand.New(rand.NewPCG(1, 2))
	var absent, present, killed, left int
	state := t.TempDir()
	// Until 200 kills have come before the end of the fetch.
	for i := 0; killed < 200 && i < 2000; i++ {
		tag := first
		switch i % 4 {
		case 0:
			state = t.TempDir()
		case 1: // a damaged copy, if there is one, is exchanged
			if path := filepath.Join(state, "releases", string(first), release.ManifestName(releasetest.Configuration)); exists(path) {
				if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		default: // the newer one pushes the older one out
			tag = second
		}
		cmd := run(state, tag)
		time.Sleep(time.Duration(random.Int64N(int64(whole))))
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		for _, tag := range []release.Tag{first, second} {
			sub := filepath.Join(state, "releases", string(tag))
			if !exists(sub) {
				absent++
				continue
			}
			present++
			r, err := release.Open(t.Context(), cache(t, filepath.Join(state, "releases")), tag, believing{}, at(releasetest.Now))
			if err != nil {
				t.Fatalf("kill %d: %s is there but not whole: %v", i, tag, err)
			}
			if string(releasetest.Read(t, sub, release.ManifestName(releasetest.Configuration))) == "damaged" {
				continue // still the old copy, as it was
			}
			if _, err := r.Manifest(t.Context(), releasetest.Configuration); err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
			for _, err := range r.Files(t.Context(), releasetest.Configuration, everyPath) {
				if err != nil {
					t.Fatalf("kill %d: %v", i, err)
				}
			}
		}
		if _, err := release.OpenMemory(state); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		if rest, _ := filepath.Glob(filepath.Join(state, "releases", ".ec-verify-tmp-*")); len(rest) > 0 {
			left++
		}
	}
	// The test shows something only if the kills fell on both sides.
	if killed < 200 || absent == 0 || present == 0 || left == 0 {
		t.Errorf("%d killed, %d absent, %d present, %d with a rest: not spread over the fetch", killed, absent, present, left)
	}
	t.Logf("a fetch takes %s; killed %d times, release absent %d and present %d times, %d rests", whole, killed, absent, present, left)
	// A run that is not killed clears away what was left.
	if err := run(state, second).Wait(); err != nil {
		t.Fatal(err)
	}
	if rest, _ := filepath.Glob(filepath.Join(state, "releases", ".ec-verify-tmp-*")); len(rest) > 0 {
		// A release that is found in the cache writes nothing, and so clears nothing.
		if _, err := cache(t, filepath.Join(state, "releases")).Prune(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if rest, _ := filepath.Glob(filepath.Join(state, "releases", ".ec-verify-tmp-*")); len(rest) > 0 {
			t.Errorf("left behind: %v", rest)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func everyPath(closure.StorePath) bool { return true }
