package release_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

const download = "/owner/repo/releases/download/"

func quick() release.Timeouts {
	return release.Timeouts{
		Connect: time.Minute, Header: time.Minute, Stall: time.Minute,
		Retries: 2, Pause: 5 * time.Millisecond, MaxPause: 50 * time.Millisecond, Least: 5 * time.Minute, MinRate: 16 << 10,
	}
}

// forge serves the releases in dir as a forge does, unless handle does something else.
func forge(t testing.TB, dir string, handle func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handle != nil && handle(w, r) {
			return
		}
		rest, ok := strings.CutPrefix(r.URL.Path, download)
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, filepath.Join(dir, filepath.FromSlash(rest)))
	}))
	t.Cleanup(s.Close)
	return s
}

func source(t testing.TB, s *httptest.Server, opts ...release.SourceOption) release.Source {
	t.Helper()
	src, err := release.NewSource(s.URL+strings.TrimSuffix(download, "/"), append([]release.SourceOption{release.WithTimeouts(quick())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestHTTPSource(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{ImageSize: 300_000})
	s := forge(t, dir, nil)
	var p release.Progress
	r, err := release.Open(t.Context(), source(t, s), releasetest.Tag, believing{}, at(releasetest.Now), release.WithProgress(&p))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckAssets(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := r.CopyTo(t.Context(), out, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(releasetest.Read(t, out, "image.iso"), releasetest.Read(t, sub, "image.iso")) {
		t.Error("image.iso differs")
	}
	if got := p.Snapshot(); got.All < 600_000 || got.Asset == "" {
		t.Errorf("progress %+v", got)
	}
}

// TestMisbehavingServer uses a real server that misbehaves for one asset. Every case ends
// in time, with the right kind of error, in one line, and leaves nothing behind.
func TestMisbehavingServer(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{ImageSize: 200_000})
	image := releasetest.Read(t, sub, "image.iso")

	// half sends the half of the image and then does what end does.
	half := func(end func(net.Conn)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(image))
			buf.Write(image[:len(image)/2])
			buf.Flush()
			end(conn)
		}
	}
	stall := make(chan struct{})
	defer close(stall)
	// stalled answers with a body that never comes.
	stalled := func(status string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(buf, "HTTP/1.1 %s\r\nLocation: %s\r\nContent-Length: 100\r\n\r\n", status, r.URL.Path)
			buf.Flush()
			io.Copy(io.Discard, conn)
		}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	const (
		fine        = "fine"
		notFound    = "not found"
		unavailable = "unavailable"
	)
	for _, c := range []struct {
		name   string
		first  int // how many requests are handled by do; 0 for all
		do     func(http.ResponseWriter, *http.Request)
		want   string        // fine, notFound, unavailable, or a Reason
		line   string        // what the message says
		asked  int           // how many requests are made; 0 for any number
		silent bool          // an answer is waited for no longer than for a moment
		stall  time.Duration // how long the next bytes are waited for; 0 for long
	}{
		{name: "404", do: status(404), want: notFound, line: "not found", asked: 1},
		{name: "410", do: status(410), want: notFound, line: "not found", asked: 1},
		{name: "401", do: status(401), want: unavailable, line: "release.tokenFile", asked: 1},
		{name: "403", do: status(403), want: unavailable, line: "release.tokenFile", asked: 1},
		{name: "500", do: status(500), want: unavailable, line: "answered 500", asked: 3},
		{name: "500 then good", first: 2, do: status(500), want: fine},
		{name: "501", do: status(501), want: unavailable, line: "answered 501", asked: 1},
		{name: "204", do: status(204), want: unavailable, line: "answered 204", asked: 1},
		{name: "429 then good", first: 1, do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		}, want: fine, asked: 2},
		{name: "429 for ever", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}, want: unavailable, line: "asks to wait 1s", asked: 3},
		{name: "429 for a day", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		}, want: unavailable, line: "asks to wait 24h0m0s", asked: 1},
		{name: "503 until a date", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, want: unavailable, line: "asks to wait", asked: 1},
		{name: "redirect loop", do: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, want: unavailable, line: "more than 5 redirects", asked: 6},
		{name: "redirect to a file", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, want: unavailable, line: "not https", asked: 1},
		{name: "redirect to http elsewhere", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://example.org/\x1b[2J")
			w.WriteHeader(http.StatusFound)
		}, want: unavailable},
		{name: "redirect with a password", do: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://user:secret@"+r.Host+r.URL.Path)
			w.WriteHeader(http.StatusFound)
		}, want: unavailable, line: "user name", asked: 1},
		{name: "no header", do: func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-stall:
			case <-r.Context().Done():
			}
		}, want: unavailable, line: "no answer in time", asked: 3, silent: true},
		{name: "stalls in the body of an error", do: stalled("500 Internal Server Error"), want: unavailable, line: "answered 500", asked: 3},
		{name: "stalls in the body of a redirect", do: stalled("302 Found"), want: unavailable, line: "more than 5 redirects", asked: 6},
		{name: "stalls in the body", do: half(func(c net.Conn) { io.Copy(io.Discard, c) }), want: unavailable, line: "the transfer stalled", stall: 500 * time.Millisecond},
		{name: "closes half-way", do: half(func(net.Conn) {}), want: unavailable, line: "ended before the body did"},
		{name: "closes half-way once", first: 1, do: half(func(net.Conn) {}), want: fine, asked: 2},
		{name: "stalls once", first: 1, do: half(func(c net.Conn) { io.Copy(io.Discard, c) }), want: fine, stall: 2 * time.Second},
		{name: "gives the rest in parts", do: func(w http.ResponseWriter, r *http.Request) {
			from, end := 0, len(image)/3
			if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
				from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
				end = min(len(image), from+len(image)/3+1)
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, end-1, len(image)))
				w.Header().Set("Content-Length", strconv.Itoa(end-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				w.Header().Set("Content-Length", strconv.Itoa(len(image)))
			}
			w.Write(image[from:end])
		}, want: fine, asked: 3},
		{name: "forgets the rest", do: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", strconv.Itoa(len(image)))
				w.Write(image[:1000])
				return
			}
			w.Write(image[:500])
		}, want: unavailable, line: "shorter than before"},
		{name: "compresses unless it is told not to", do: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "identity" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			w.Write(image)
		}, want: fine, asked: 1},
		{name: "closes at once", do: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		}, want: unavailable},
		{name: "claims too few bytes", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write(image[:1000])
		}, want: string(release.ReasonChecksum), line: "SHA-256"},
		{name: "claims too many bytes", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(image)+1))
			w.Write(image)
		}, want: unavailable, line: "ended before the body did"},
		{name: "claims more than is allowed", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(release.MaxImageSize+1))
		}, want: string(release.ReasonTooLarge), line: "at most"},
		{name: "other bytes", do: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("other bytes")) }, want: string(release.ReasonChecksum), line: "SHA-256"},
		{name: "a web page", do: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("\n<html>sign in</html>")) }, want: unavailable, line: "a web page instead", asked: 1},
		{name: "a web page that says it is none", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write([]byte("<!DOCTYPE html><title>Just a moment</title>"))
		}, want: unavailable, line: "a web page instead", asked: 1},
		{name: "a web page where a part was asked for", do: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				half(func(net.Conn) {})(w, r)
				return
			}
			w.Write([]byte("<html>sign in</html>"))
		}, want: unavailable, line: "a web page instead", asked: 2},
		{name: "403 of a rate limit", do: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", "4102444800")
			w.WriteHeader(http.StatusForbidden)
		}, want: unavailable, line: "limits the rate of requests, until 2100-01-01T00:00:00Z", asked: 1},
		{name: "not HTTP", do: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				fmt.Fprint(conn, "\x1b[2J\n\n\n")
				conn.Close()
			}
		}, want: unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/image.iso") {
					return false
				}
				n := int(asked.Add(1))
				if c.first > 0 && n > c.first {
					return false
				}
				c.do(w, r)
				return true
			})
			src := source(t, s)
			r, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
			if err != nil {
				t.Fatal(err)
			}
			// So far below the limit of the whole that who waits for that one says
			// something else, or asks fewer times; and for nothing that is answered.
			limits := quick()
			if c.stall > 0 {
				limits.Stall = c.stall
			}
			if c.silent {
				limits.Header = 500 * time.Millisecond
			}
			release.SetTimeouts(src, limits)
			parent := t.TempDir()
			out := filepath.Join(parent, "out")
			err = r.CopyTo(t.Context(), out, nil)
			if c.want == fine {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(releasetest.Read(t, out, "image.iso"), image) {
					t.Error("other bytes")
				}
			} else {
				wantError(t, err, c.want, c.line)
				// What is kept for the next time is named, and nothing else is left.
				var interrupted *release.InterruptedError
				if left, readErr := os.ReadDir(parent); readErr != nil || len(left) > 0 != errors.As(err, &interrupted) {
					t.Errorf("left behind: %v %v", left, readErr)
				}
				if kept := c.want == unavailable; kept != (interrupted != nil) {
					t.Errorf("kept for the next time: %v, want %v", !kept, kept)
				}
			}
			if n := heard(&asked, c.asked); c.asked > 0 && n != c.asked {
				t.Errorf("%d requests, want %d", n, c.asked)
			}
			s.CloseClientConnections()
		})
	}
}

func wantError(t *testing.T, err error, kind, line string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	var unavailable *release.UnavailableError
	var untrusted *release.UntrustedError
	got := fmt.Sprintf("%T", err)
	switch {
	case errors.Is(err, release.ErrNotFound):
		got = "not found"
	case errors.As(err, &unavailable):
		got = "unavailable"
	case errors.As(err, &untrusted):
		got = string(untrusted.Reason)
	}
	if got != kind {
		t.Errorf("%s, want %s: %v", got, kind, err)
	}
	if !strings.Contains(err.Error(), line) {
		t.Errorf("message %q, want one with %q", err, line)
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b") || strings.Contains(err.Error(), "secret") {
		t.Errorf("message %q", err)
	}
}

// TestEndlessBody has every small asset grow without end.
func TestEndlessBody(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	for _, name := range []string{release.SumsName, release.BundleName, release.InfoName} {
		s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/"+name) {
				return false
			}
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return true
				}
			}
		})
		_, err := release.Open(t.Context(), source(t, s), releasetest.Tag, believing{}, at(releasetest.Now))
		wantError(t, err, string(release.ReasonTooLarge), name)
	}
}

// TestTrickle sends a byte now and then, which no stall ever notices.
func TestTrickle(t *testing.T) {
	if testing.Short() {
		t.Skip("waits")
	}
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		for r.Context().Err() == nil {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
		return true
	})
	limits := quick()
	limits.Least = 300 * time.Millisecond
	limits.MinRate = 10 << 20
	_, err := release.Open(t.Context(), source(t, s, release.WithTimeouts(limits)), releasetest.Tag, believing{}, at(releasetest.Now))
	wantError(t, err, "unavailable", "too slow")
}

// TestSilentSource: a source that does not answer is waited for once, however many
// releases are looked for.
func TestSilentSource(t *testing.T) {
	var asked atomic.Int32
	s := forge(t, t.TempDir(), func(_ http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		<-r.Context().Done()
		return true
	})
	limits := quick()
	limits.Header = 100 * time.Millisecond
	f := finder(t, t.TempDir(), source(t, s, release.WithTimeouts(limits)))
	_, err := f.Find(t.Context(), "boot-v1")
	wantError(t, err, "unavailable", "no answer in time")
	once := limits.Retries + 1
	_, err = f.Find(t.Context(), "boot-v2")
	wantError(t, err, "unavailable", "did not answer before")
	if n := heard(&asked, once); n != once {
		t.Errorf("asked %d times, want the %d for the first release", n, once)
	}
	f.Accept = []release.Tag{release.Latest}
	for range 2 {
		_, err = f.Find(t.Context(), "boot-v3")
		wantError(t, err, "unavailable", "no answer in time")
	}
	if listed := heard(&asked, 2*once) - once; listed != once {
		t.Errorf("asked %d times for the list, want the %d of one request", listed, once)
	}
}

// heard waits for the server to hear of so many requests, and returns of how many it
// has: who does not wait for an answer may be gone before its request is read.
func heard(asked *atomic.Int32, want int) int {
	for end := time.Now().Add(time.Minute); int(asked.Load()) < want && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return int(asked.Load())
}

func TestNoServer(t *testing.T) {
	src, err := release.NewSource("http://127.0.0.1:1/o/r/releases/download", release.WithTimeouts(quick()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now))
	wantError(t, err, "unavailable", "refused")
}

func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	ctx, cancel := context.WithCancel(t.Context())
	s := forge(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	_, err := release.Open(ctx, source(t, s), releasetest.Tag, believing{}, at(releasetest.Now))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one that is context.Canceled", err)
	}
}

// TestResume breaks every body off after some bytes and looks at what is
// asked for next, with a server that knows Range and one that does not.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	sub := signed(t, dir, releasetest.Spec{ImageSize: 400_000})
	image := releasetest.Read(t, sub, "image.iso")
	for _, knowsRange := range []bool{true, false} {
		var ranges []string
		var mu sync.Mutex
		s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/image.iso") {
				return false
			}
			mu.Lock()
			ranges = append(ranges, r.Header.Get("Range"))
			last := len(ranges) == 3
			mu.Unlock()
			from := 0
			if v, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && knowsRange {
				from, _ = strconv.Atoi(strings.TrimSuffix(v, "-"))
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(image)-1, len(image)))
				w.Header().Set("Content-Length", strconv.Itoa(len(image)-from))
				w.WriteHeader(http.StatusPartialContent)
			} else {
				w.Header().Set("Content-Length", strconv.Itoa(len(image)))
			}
			end := len(image)
			if !last {
				end = min(end, from+100_000*len(ranges))
			}
			w.Write(image[from:end])
			return true
		})
		r, err := release.Open(t.Context(), source(t, s), releasetest.Tag, believing{}, at(releasetest.Now))
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.Asset(t.Context(), "image.iso")
		if err != nil {
			t.Fatalf("range %v: %v", knowsRange, err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || !bytes.Equal(got, image) {
			t.Errorf("range %v: %d bytes, %v", knowsRange, len(got), err)
		}
		if len(ranges) != 3 || ranges[0] != "" || ranges[1] == "" || ranges[2] == ranges[1] {
			t.Errorf("range %v: asked for %q", knowsRange, ranges)
		}
	}
}

// TestToken follows the access token through redirects: only the source's own host and port
// receive it.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	const token = "s3cret-token"
	var elsewhere, own atomic.Int32
	other := forge(t, dir, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(fmt.Sprint(r.Header, r.URL), token) {
			elsewhere.Add(1)
		}
		return false
	})
	s := forge(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "token "+token {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		own.Add(1)
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
		return true
	})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		base := strings.Replace(s.URL, "127.0.0.1", host, 1)
		src, err := release.NewSource(base+strings.TrimSuffix(download, "/"), release.WithTimeouts(quick()), release.WithToken(token))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := release.Open(t.Context(), src, releasetest.Tag, believing{}, at(releasetest.Now)); err != nil {
			t.Error(err)
		}
		if strings.Contains(src.String(), token) {
			t.Error("the source's name has the token in it")
		}
	}
	if own.Load() == 0 || elsewhere.Load() != 0 {
		t.Errorf("the token came to its host %d times and elsewhere %d times", own.Load(), elsewhere.Load())
	}
	// Without one, the error says what may be missing.
	_, err := release.Open(t.Context(), source(t, s), releasetest.Tag, believing{}, at(releasetest.Now))
	wantError(t, err, "not found", "release.tokenFile")
}

func TestTags(t *testing.T) {
	pages := map[string]string{
		"1": `[{"tag_name":"boot-v2026.2.9","extra":{}},{"tag_name":"v9"},{"tag_name":"boot-v2026.3.1","draft":true},{"tag_name":"boot-v2026.4.1","prerelease":true},{"tag_name":"../x"}]`,
		"2": `[{"tag_name":"boot-v2026.2.28"},{"tag_name":"boot-v2026.2.9"}]`,
		"3": `[]`,
	}
	var paths []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.String())
		io.WriteString(w, pages[r.URL.Query().Get("page")])
	}))
	defer s.Close()
	for base, want := range map[string]string{
		"/owner/repo":       "/api/v1/repos/owner/repo/releases?limit=50&page=1",
		"/forge/owner/repo": "/forge/api/v1/repos/owner/repo/releases?limit=50&page=1",
	} {
		paths = nil
		src, err := release.NewSource(s.URL+base+"/releases/download", release.WithTimeouts(quick()))
		if err != nil {
			t.Fatal(err)
		}
		tags, err := src.(release.Lister).Tags(t.Context())
		if err != nil || fmt.Sprint(tags) != "[v9 boot-v2026.2.28 boot-v2026.2.9]" {
			t.Errorf("%v, %v", tags, err)
		}
		if len(paths) != 3 || paths[0] != want {
			t.Errorf("asked for %q, want %q first and 3 in all", paths, want)
		}
	}
	// A list without end is read for a while only, and no answer is no list.
	for answer, asked := range map[string]int{`[{"tag_name":"boot-v1"}]`: 100, `{"message":"no"}`: 1, `[{"tag_name":1}]`: 1, "": 1, strings.Repeat(" ", 9<<20): 1, "[" + strings.Repeat("{},", 300_000) + "{}]": 1} {
		pages, paths = map[string]string{}, nil
		for n := range 101 {
			pages[fmt.Sprint(n)] = answer
		}
		src := source(t, s).(release.Lister)
		tags, err := src.Tags(t.Context())
		if len(paths) != asked {
			t.Errorf("%.20q: %d pages", answer, len(paths))
		}
		if asked == 1 {
			wantError(t, err, "unavailable", "list of releases")
		} else {
			wantError(t, err, "unavailable", "more than 100 pages (100 releases so far), the maximum; name a tag")
		}
		if len(tags) > 0 {
			t.Errorf("%.20q: %v", answer, tags)
		}
	}
}

func TestNewSource(t *testing.T) {
	for spec, want := range map[string]string{
		"/srv/releases":        "/srv/releases",
		"file:///srv/releases": "/srv/releases",
		"./out":                "out",
		"https://forge.example.org/o/r/releases/download":           "https://forge.example.org/o/r/releases/download",
		"https://forge.example.org:3000/sub/o/r/releases/download/": "https://forge.example.org:3000/sub/o/r/releases/download",
		"http://[::1]:80/o/r/releases/download":                     "http://[::1]:80/o/r/releases/download",
	} {
		src, err := release.NewSource(spec)
		if err != nil || src.String() != want {
			t.Errorf("NewSource(%q) = %v, %v", spec, src, err)
		}
	}
	for _, spec := range []string{
		"", "releases", "ftp://example.org/o/r/releases/download", "https://example.org", "https://example.org/o/releases/download",
		"https://example.org/o/r", "https://example.org/o/r/releases/download?x=1", "https://example.org/o/r/releases/download#x",
		"https://user:secret@example.org/o/r/releases/download", "http://example.org/o/r/releases/download",
		"http://127.0.0.1.example.org/o/r/releases/download", "file://host/dir", "file:relative", "https://example.org/o/%2e%2e/r/releases/download",
		"https://user:secret@[::1/o/r/releases/download", "https://user:secret@host:x/o/r/releases/download", "ftp://user:secret@h/", "https:user:secret@h",
		"https://example.org/o/r/releases/download?token=secret", "https://example.org/o/r/releases/download#secret", "http://example.org/?a=b#secret",
		"https:///o/r/releases/download", "https://example.org/o/../r/releases/download", "\x00",
	} {
		src, err := release.NewSource(spec)
		if err == nil {
			t.Errorf("NewSource(%q) = %v, want an error", spec, src)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has the password in it: %v", err)
		}
	}
	for _, token := range []string{"q9 q9", "q9q\n", "q9q\r\nX: y", "\xff", strings.Repeat("a", 4097)} {
		if _, err := release.NewSource("https://example.org/o/r/releases/download", release.WithToken(token)); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("token %.20q: %v", token, err)
		}
	}
}
