package release_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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

// TestKilledWhileFetching kills a fetch at each of its steps, sometimes while a damaged copy
// is replaced by a good one or an older release is pruned. At each step the cache has a
// complete release or nothing of it, and the next run can continue.
func TestKilledWhileFetching(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hundred processes")
	}
	dir := t.TempDir()
	const first, second = releasetest.Tag, release.Tag("boot-v2026.03.05")
	signed(t, dir, releasetest.Spec{Tag: first})
	signed(t, dir, releasetest.Spec{Tag: second, Created: releasetest.Created.AddDate(0, 0, 5)})
	// The forge kills who asks it for the fatal time, before it answers or in the
	// middle of its answer.
	var mu sync.Mutex
	var victim *os.Process
	var asked, fatal int
	var halfway bool
	s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if asked != fatal {
			return false
		}
		if halfway {
			data := releasetest.Read(t, dir, strings.TrimPrefix(r.URL.Path, download))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			w.Write(data[:len(data)/2])
			w.(http.Flusher).Flush()
		}
		_ = victim.Kill()
		<-r.Context().Done()
		return true
	})
	url := s.URL + strings.TrimSuffix(download, "/")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// run fetches a release by a process, which how is the beginning of.
	run := func(state string, tag release.Tag, how ...string) error {
		t.Helper()
		argv := append(how, exe)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), killVar+"="+strings.Join([]string{url, state, string(tag)}, " "))
		mu.Lock()
		err := cmd.Start()
		victim, asked = cmd.Process, 0
		mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		return cmd.Wait()
	}
	if err := run(t.TempDir(), first); err != nil {
		t.Fatal(err)
	}
	requests := asked

	aim := func(n int, half bool) {
		mu.Lock()
		defer mu.Unlock()
		fatal, halfway = n, half
	}

	var absent, present, killed, left int
	state := t.TempDir()
	// attempt is the i-th fetch that is killed, unless it ends before: at the n-th
	// request, or by how.
	attempt := func(i, n int, half bool, how ...string) (died bool) {
		t.Helper()
		tag := first
		switch i % 4 {
		case 0:
			state = t.TempDir()
		case 1: // a damaged copy is exchanged
			if err := run(state, first); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(state, "releases", string(first), release.ManifestName(releasetest.Configuration))
			if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
				t.Fatal(err)
			}
		default: // the newer one pushes the older one out
			tag = second
		}
		aim(n, half)
		died = run(state, tag, how...) != nil
		aim(0, false)
		if died {
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
		return died
	}
	for n := 1; n <= requests; n++ {
		for _, half := range []bool{false, true} {
			for i := range 4 {
				attempt(i, n, half)
			}
		}
	}
	if killed < 2*requests || absent == 0 || present == 0 || left == 0 {
		t.Errorf("killed %d times at %d requests, release absent %d and present %d times, %d rests", killed, requests, absent, present, left)
	}
	t.Logf("killed %d times at %d requests, release absent %d and present %d times, %d rests", killed, requests, absent, present, left)

	// And at each change of a name, of which most come after the last request.
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace")
	}
	const changes = "rename,renameat,renameat2,unlinkat,mkdirat,linkat,fsync,fchmod"
	absent, present, killed, left = 0, 0, 0, 0
	for n, died := 1, true; died; n++ {
		died = false
		for i := range 4 {
			died = attempt(i, 0, false, "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+changes, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", changes, n)) || died
		}
	}
	if absent == 0 || present == 0 || left == 0 {
		t.Errorf("%d killed, %d absent, %d present, %d with a rest", killed, absent, present, left)
	}
	t.Logf("killed %d times at changes, release absent %d and present %d times, %d rests", killed, absent, present, left)
	// A run that is not killed clears away what was left.
	if err := run(state, second); err != nil {
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
