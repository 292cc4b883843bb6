package release_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

// leave writes what a run into parent/out that was killed has left: the sums,
// and data as the image.
func leave(t *testing.T, parent string, sums, data []byte) string {
	t.Helper()
	partial := filepath.Join(parent, ".out.partial")
	if err := os.Mkdir(partial, 0o700); err != nil {
		t.Fatal(err)
	}
	releasetest.File(t, partial, release.SumsName, sums)
	releasetest.File(t, partial, "image.iso", data)
	return partial
}

// TestCopyToGoesOn finds what an earlier run has left, right or wrong, and has
// the release in the end and nothing else.
func TestCopyToGoesOn(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{ImageSize: 200_000})
	image, sums := releasetest.Read(t, sub, "image.iso"), releasetest.Read(t, sub, release.SumsName)
	other := bytes.Repeat([]byte("x"), len(image))
	for _, c := range []struct {
		name       string
		sums, data []byte
		spoil      func(t *testing.T, partial string)
		ranges     string // what is asked for of the image, "-" for all of it
	}{
		{name: "half of it", sums: sums, data: image[:100_000], ranges: "bytes=100000-"},
		{name: "nothing of it", sums: sums, ranges: "-"},
		{name: "all of it", sums: sums, data: image, ranges: ""},
		{name: "other bytes", sums: sums, data: other[:100_000], ranges: "bytes=100000- -"},
		{name: "other bytes, as many", sums: sums, data: other, ranges: "bytes=200000- -"},
		{name: "too many bytes", sums: sums, data: append(bytes.Clone(image), 'x'), ranges: "bytes=200001- -"},
		{name: "of another release", sums: []byte("x"), data: image[:100_000], ranges: "-"},
		{name: "with strangers in it", sums: sums, data: image[:100_000], ranges: "-", spoil: func(t *testing.T, partial string) {
			releasetest.File(t, partial, "stranger", nil)
			path := filepath.Join(partial, "image.iso")
			for _, err := range []error{
				os.Mkdir(filepath.Join(partial, "dir"), 0o755), os.Remove(path), os.Symlink(filepath.Join(sub, "image.iso"), path),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}},
		{name: "with a second name", sums: sums, data: image, ranges: "-", spoil: func(t *testing.T, partial string) {
			if err := os.Link(filepath.Join(partial, "image.iso"), partial+"-2"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(partial + "-2") })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var ranges []string
			s := forge(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/image.iso") {
					mu.Lock()
					defer mu.Unlock()
					asked := r.Header.Get("Range")
					if asked == "" {
						asked = "-"
					}
					ranges = append(ranges, asked)
				}
				return false
			})
			// As a node has it: with a cache that has no images before the source.
			r, err := finder(t, t.TempDir(), source(t, s)).Find(t.Context(), releasetest.Tag)
			if err != nil {
				t.Fatal(err)
			}
			parent := t.TempDir()
			partial := leave(t, parent, c.sums, c.data)
			if c.spoil != nil {
				c.spoil(t, partial)
			}
			out := filepath.Join(parent, "out")
			if err := r.CopyTo(t.Context(), out, nil); err != nil {
				t.Fatal(err)
			}
			got, err := release.Open(t.Context(), release.NewDirSource(out), "", believing{}, at(releasetest.Now))
			if err != nil {
				t.Fatal(err)
			}
			if err := got.CheckComplete(t.Context(), out); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(partial); err == nil {
				t.Error("something is left")
			}
			if strings.Join(ranges, " ") != c.ranges {
				t.Errorf("asked for %q, want %q", ranges, c.ranges)
			}
		})
	}
}

// TestCopyToKeepsWhatWasFetched: a server that dies on the way, at once or again, and
// a run that is ended leave what they have fetched; what is not the release's is
// not kept.
func TestCopyToKeepsWhatWasFetched(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{ImageSize: 400_000})
	image := releasetest.Read(t, sub, "image.iso")
	parent := t.TempDir()
	out, partial := filepath.Join(parent, "out"), filepath.Join(parent, ".out.partial")
	var until atomic.Int64                      // so many bytes of the image are sent, and no more
	var sent atomic.Pointer[context.CancelFunc] // called then
	s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		most := int(until.Load())
		if !strings.HasSuffix(r.URL.Path, "/image.iso") || most == 0 {
			return false
		}
		header := r.Header.Get("Range")
		from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(header, "bytes="), "-"))
		if from < most {
			w.Header().Set("Content-Length", strconv.Itoa(len(image)-from))
			if from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(image)-1, len(image)))
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(image[from:most])
			if end := sent.Load(); end != nil {
				(*end)()
			}
		}
		panic(http.ErrAbortHandler)
	})
	r, err := finder(t, t.TempDir(), source(t, s)).Find(t.Context(), releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	held := func() int {
		t.Helper()
		info, err := os.Stat(partial)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%v, %v", info, err)
		}
		return len(releasetest.Read(t, partial, "image.iso"))
	}
	for _, most := range []int{150_000, 150_000, 300_000} {
		until.Store(int64(most))
		err := r.CopyTo(t.Context(), out, nil)
		var interrupted *release.InterruptedError
		var unavailable *release.UnavailableError
		if !errors.As(err, &interrupted) || !errors.As(err, &unavailable) || !strings.Contains(err.Error(), partial) {
			t.Fatalf("%d: %v", most, err)
		}
		if held() != most {
			t.Fatalf("%d of %d bytes are kept", held(), most)
		}
	}
	t.Run("ended", func(t *testing.T) {
		ended, end := context.WithCancel(t.Context())
		sent.Store(&end)
		until.Store(350_000)
		var interrupted *release.InterruptedError
		if err := r.CopyTo(ended, out, nil); !errors.As(err, &interrupted) {
			t.Errorf("got %v", err)
		}
		if held() < 300_000 {
			t.Errorf("%d bytes are kept", held())
		}
	})
	t.Run("other bytes", func(t *testing.T) {
		until.Store(0)
		other := bytes.Clone(image)
		other[len(other)-1] ^= 1
		releasetest.File(t, sub, "image.iso", other)
		if err := r.CopyTo(t.Context(), out, nil); !isUntrusted(err, release.ReasonChecksum) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Lstat(partial); err == nil {
			t.Error("they are kept")
		}
		releasetest.File(t, sub, "image.iso", image)
	})
	if err := r.CopyTo(t.Context(), out, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(partial); err == nil {
		t.Error("something is left")
	}
}

func isUntrusted(err error, reason release.Reason) bool {
	var untrusted *release.UntrustedError
	return errors.As(err, &untrusted) && untrusted.Reason == reason
}

// TestCopyToLeavesOutWhatIsNotWanted has an earlier run have wanted more.
func TestCopyToLeavesOutWhatIsNotWanted(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	leave(t, parent, releasetest.Read(t, sub, release.SumsName), releasetest.Read(t, sub, "image.iso"))
	if err := r.CopyTo(t.Context(), filepath.Join(parent, "out"), func(name string) bool { return name != "image.iso" }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(parent, "out", "image.iso")); err == nil {
		t.Error("image.iso is there")
	}
}

func TestCopyToRefusesOthersWork(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{})
	sums := releasetest.Read(t, sub, release.SumsName)
	for name, prepare := range map[string]func(t *testing.T, partial string){
		"made by somebody else": func(t *testing.T, partial string) {
			if err := os.Chmod(partial, 0o777); err != nil {
				t.Fatal(err)
			}
		},
		"another run": func(t *testing.T, partial string) {
			d, err := os.Open(partial)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
		},
		"not a directory": func(t *testing.T, partial string) {
			if err := os.RemoveAll(partial); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(t.TempDir(), partial); err != nil {
				t.Fatal(err)
			}
		},
	} {
		r, err := open(t, dir, releasetest.Tag)
		if err != nil {
			t.Fatal(err)
		}
		parent := t.TempDir()
		partial := leave(t, parent, sums, nil)
		prepare(t, partial)
		if err := r.CopyTo(t.Context(), filepath.Join(parent, "out"), nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(partial); err != nil {
			t.Errorf("%s: taken away: %v", name, err)
		}
	}
}

// TestCopyToTarget names targets of every kind: what cannot be is said before
// anything is fetched.
func TestCopyToTarget(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	r, err := open(t, dir, releasetest.Tag)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for i, c := range []struct {
		prepare func(out string) error
		line    string // "" for success
	}{
		{func(string) error { return nil }, ""},
		{func(out string) error { return os.Mkdir(out, 0o755) }, ""},
		{func(out string) error { return os.Symlink(t.TempDir(), out) }, ""},
		{func(out string) error { return os.Symlink("nowhere", out) }, "link to nowhere"},
		{func(out string) error { return os.WriteFile(out, nil, 0o644) }, "not a directory"},
	} {
		out := "out" + strconv.Itoa(i)
		if err := c.prepare(out); err != nil {
			t.Fatal(err)
		}
		err := r.CopyTo(t.Context(), out, nil)
		if c.line != "" {
			if err == nil || !strings.Contains(err.Error(), c.line) {
				t.Errorf("%d: %v, want %q", i, err, c.line)
			}
		} else if err != nil {
			t.Error(err)
		} else if _, err := os.Stat(filepath.Join(out, release.SumsName)); err != nil {
			t.Error(err)
		}
	}
	t.Chdir(t.TempDir())
	if err := r.CopyTo(t.Context(), ".", nil); err == nil || !strings.Contains(err.Error(), "working directory") {
		t.Errorf("the working directory: %v", err)
	}
}

// TestNotices: who waits for a server that says nothing, or breaks off, hears of it
// each time that it is asked again.
func TestNotices(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{ImageSize: 200_000})
	for name, c := range map[string]struct {
		do     http.HandlerFunc
		want   string
		quiet  bool // who waits hears of it before anything is asked for again
		silent bool // the limit on the wait for an answer is what ends it
	}{
		"nothing comes, again": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "trying again (1 of 2)", false, true},
		"nothing comes":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "waiting for up to 500ms, 3 times", true, true},
		"nothing comes any more": {func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 50_000))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "no more bytes from", true, false},
		"it wants to be left alone": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "answer 503", true, false},
		"it breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, 50_000))
			panic(http.ErrAbortHandler)
		}, "after 50000 bytes", false, false},
		"it is not well": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "answer 502", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/image.iso") {
					return false
				}
				c.do(w, r)
				return true
			})
			var p release.Progress
			var mu sync.Mutex
			var lines []string
			p.OnNotice(func(line string) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
			})
			src := source(t, s, release.WithNotice(p.Notice))
			r, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
			if err != nil {
				t.Fatal(err)
			}
			limits := quick()
			if c.silent {
				limits.Header = 500 * time.Millisecond
			}
			if c.quiet {
				limits.Stall, limits.Quiet, limits.MaxPause = 500*time.Millisecond, time.Millisecond, 100*time.Millisecond
			}
			release.SetTimeouts(src, limits)
			if err := r.CopyTo(t.Context(), filepath.Join(t.TempDir(), "out"), nil); err == nil {
				t.Error("it succeeds")
			}
			if len(lines) < 2 || !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, c.want) && strings.Contains(line, "image.iso") }) {
				t.Errorf("said: %q", lines)
			}
			s.CloseClientConnections()
		})
	}
}
