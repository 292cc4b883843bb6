package forge_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"every.channel/ec-verify/internal/publisher/forge"
	"every.channel/ec-verify/internal/publisher/forge/forgetest"
)

const tag = "boot-v1"

func quick() forge.Timeouts {
	t := forge.DefaultTimeouts()
	t.Pause, t.MaxPause, t.Tries = time.Millisecond, 5*time.Millisecond, 4
	return t
}

func client(t *testing.T, repo, token string, opts ...forge.Option) *forge.Client {
	t.Helper()
	c, err := forge.New(repo, token, append([]forge.Option{forge.WithTimeouts(quick())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// publication has files of the given contents, "NAME=CONTENTS".
func publication(t *testing.T, files ...string) forge.Publication {
	t.Helper()
	p := forge.Publication{Tag: tag, Commit: "c0ffee", Notes: "notes"}
	dir := t.TempDir()
	for _, f := range files {
		name, data, _ := strings.Cut(f, "=")
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "SHA256SUMS.txt":
			p.Identity, p.Replace = name, true
		case "SHA256SUMS.txt.sigstore.json":
			p.Signature = name
		}
		p.Files = append(p.Files, forge.File{Name: name, Path: path, Size: int64(len(data)), Digest: sha256.Sum256([]byte(data))})
	}
	return p
}

func usual(t *testing.T) forge.Publication {
	return publication(t, "a.iso=image", "release.json={}", "SHA256SUMS.txt=sums", "SHA256SUMS.txt.sigstore.json=bundle")
}

func holds(t *testing.T, s *forgetest.Server, p forge.Publication) {
	t.Helper()
	names, there, published := s.Assets(p.Tag)
	if !published {
		t.Error("the release is a draft")
	}
	var want []string
	for _, f := range p.Files {
		data, _ := os.ReadFile(f.Path)
		if there[f.Name] != string(data) {
			t.Errorf("%s holds %q, want %q", f.Name, there[f.Name], data)
		}
		want = append(want, f.Name)
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("assets %q, want %q", names, want)
	}
}

func TestPublish(t *testing.T) {
	s := &forgetest.Server{}
	repo := s.Start(t)
	p := usual(t)
	o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, s, p)
	if target, body := s.Release(tag); target != p.Commit || body != p.Notes {
		t.Errorf("commit %q, notes %q", target, body)
	}
	if !o.Created || o.Hidden || len(o.Uploaded) != 4 || len(o.Replaced) != 0 || !strings.HasSuffix(o.URL, "/releases/tag/"+tag) {
		t.Errorf("outcome %+v", o)
	}
	t.Run("again", func(t *testing.T) {
		p := publication(t, "a.iso=another image", "release.json={}", "SHA256SUMS.txt=other", "SHA256SUMS.txt.sigstore.json=other bundle")
		o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, s, p)
		if o.Created || !o.Hidden || len(o.Replaced) != 4 {
			t.Errorf("outcome %+v", o)
		}
	})
}

// TestNeverAMixture looks at what a reader sees after each change: all of the
// old release, none that has its sums, or all of the new one.
func TestNeverAMixture(t *testing.T) {
	s := &forgetest.Server{}
	repo := s.Start(t)
	first, second := usual(t), publication(t, "a.iso=new", "release.json=new", "SHA256SUMS.txt=new", "SHA256SUMS.txt.sigstore.json=new")
	var seen []string
	s.OnChange = func(s *forgetest.Server) {
		_, contents, published := s.Assets(tag)
		state := "none"
		if published && contents["SHA256SUMS.txt"] != "" {
			state = ""
			for _, f := range first.Files {
				state += " " + contents[f.Name]
			}
		}
		if len(seen) == 0 || seen[len(seen)-1] != state {
			seen = append(seen, state)
		}
	}
	for _, p := range []forge.Publication{first, second} {
		if _, err := client(t, repo, forgetest.Token).Publish(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"none", " image {} sums bundle", "none", " new new new new"}; !slices.Equal(seen, want) {
		t.Errorf("a reader saw %q, want %q", seen, want)
	}
}

// TestFound finds releases that are drafts, piled up, or on a later page.
func TestFound(t *testing.T) {
	t.Run("a draft that the forge tells of in lists only", func(t *testing.T) {
		s := &forgetest.Server{HideDrafts: true}
		repo := s.Start(t)
		s.Add("other", false)
		s.Add(tag, true, "a.iso", "a.iso")
		p := usual(t)
		o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p)
		if err != nil || o.Created {
			t.Fatal(o, err)
		}
		holds(t, s, p)
	})
	t.Run("on the third page", func(t *testing.T) {
		s := &forgetest.Server{HideDrafts: true}
		repo := s.Start(t)
		for i := range 120 {
			s.Add(fmt.Sprintf("other-%d", i), false)
		}
		s.Add(tag, true)
		p := usual(t)
		if o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p); err != nil || o.Created {
			t.Fatal(o, err)
		}
		holds(t, s, p)
	})
	t.Run("with assets beside", func(t *testing.T) {
		s := &forgetest.Server{}
		repo := s.Start(t)
		s.Add(tag, false, "old.iso", "a.iso", "a.iso")
		p := usual(t)
		plan, err := client(t, repo, forgetest.Token).Plan(context.Background(), p)
		if err != nil || !slices.Equal(plan.Beside, []string{"old.iso"}) || !slices.Equal(plan.Replaced, []string{"a.iso"}) || !plan.Hidden {
			t.Errorf("plan %+v, %v", plan, err)
		}
		for _, r := range s.Requests() {
			if !strings.HasPrefix(r, "GET ") {
				t.Errorf("a plan asked for %s", r)
			}
		}
		o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p)
		if err != nil || !slices.Equal(o.Beside, []string{"old.iso"}) {
			t.Errorf("outcome %+v, %v", o, err)
		}
		p.Prune = true
		if o, err = client(t, repo, forgetest.Token).Publish(context.Background(), p); err != nil || !slices.Equal(o.Pruned, []string{"old.iso"}) {
			t.Errorf("outcome %+v, %v", o, err)
		}
		holds(t, s, p)
	})
}

// TestFlaky: every request fails once, before or after the server has executed it, and a
// request that was executed twice has the effect of one.
func TestFlaky(t *testing.T) {
	for _, status := range []int{502, -502, 500, -504, 429} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			failed := map[string]bool{}
			s := &forgetest.Server{}
			s.Fail = func(r *http.Request) int {
				key := r.Method + r.URL.String()
				if failed[key] {
					return 0
				}
				failed[key] = true
				return status
			}
			repo := s.Start(t)
			p := usual(t)
			if _, err := client(t, repo, forgetest.Token).Publish(context.Background(), p); err != nil {
				t.Fatal(err)
			}
			holds(t, s, p)
		})
	}
}

// TestRefused: each refusal is one line that says what to do, without the
// token, and is not asked for again.
func TestRefused(t *testing.T) {
	cases := []struct {
		name, token string
		server      *forgetest.Server
		repo        string // appended
		want        string
		draft       bool // a release is left, as a draft
	}{
		{"no token", "", &forgetest.Server{}, "", "answered 401 (token is required); the token is missing", false},
		{"a wrong token", "nonsense", &forgetest.Server{}, "", "answered 401", false},
		{"a token that reads", forgetest.ReadOnly, &forgetest.Server{}, "", "answered 403 (token does not have", false},
		{"no such repository", forgetest.Token, &forgetest.Server{}, "x", "answered 404", false},
		{"too large", forgetest.Token, &forgetest.Server{ProxyLimit: 220}, "", "upload release.json (2 bytes): ", true},
		{"too large, early", forgetest.Token, &forgetest.Server{ProxyLimit: 220, Early: true}, "", "answered 413; the proxy before the forge takes no request of this size", true},
		{"a conflict", forgetest.Token, &forgetest.Server{Fail: func(r *http.Request) int {
			if r.Method == http.MethodPost {
				return 409
			}
			return 0
		}}, "", "answered 409 (on purpose, to token xxxxx); somebody else", false},
		{"a protected tag", forgetest.Token, &forgetest.Server{Fail: func(r *http.Request) int {
			if r.Method == http.MethodPost {
				return 422
			}
			return 0
		}}, "", "answered 422", false},
		{"always 502", forgetest.Token, &forgetest.Server{Fail: func(*http.Request) int { return 502 }}, "", "answered 502", false},
		{"moved", forgetest.Token, &forgetest.Server{Fail: func(*http.Request) int { return 301 }}, "", "the repository has moved", false},
		{"a draft that stays one", forgetest.Token, &forgetest.Server{Fail: func(r *http.Request) int {
			if r.Method == http.MethodPatch && !strings.Contains(r.URL.Path, "/assets/") {
				return 403
			}
			return 0
		}}, "", "is still a draft", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := c.server
			repo := s.Start(t) + c.repo
			_, err := client(t, repo, c.token).Publish(context.Background(), usual(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want it to say %q", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") || c.token != "" && strings.Contains(err.Error(), c.token) {
				t.Errorf("not one line without secrets: %q", err)
			}
			names, _, published := s.Assets(tag)
			if published {
				t.Errorf("published, with %q", names)
			}
			_, body := s.Release(tag)
			if c.draft != (body != "") {
				t.Errorf("a draft is left: %v, want %v", body != "", c.draft)
			}
			if n := len(s.Requests()); c.name != "always 502" && n > 20 {
				t.Errorf("%d requests", n)
			}
		})
	}
	t.Run("then completed", func(t *testing.T) {
		s := &forgetest.Server{ProxyLimit: 220}
		repo := s.Start(t)
		p := usual(t)
		if _, err := client(t, repo, forgetest.Token).Publish(context.Background(), p); err == nil {
			t.Fatal("want an error")
		}
		s.ProxyLimit = 0
		if o, err := client(t, repo, forgetest.Token).Publish(context.Background(), p); err != nil || o.Created {
			t.Fatal(o, err)
		}
		holds(t, s, p)
	})
}

// TestChanged: a file that changed after the check is not published.
func TestChanged(t *testing.T) {
	for name, change := range map[string]string{"other bytes": "IMAGE", "longer": "image+", "shorter": "im"} {
		t.Run(name, func(t *testing.T) {
			s := &forgetest.Server{}
			repo := s.Start(t)
			p := usual(t)
			os.WriteFile(p.Files[0].Path, []byte(change), 0o644)
			_, err := client(t, repo, forgetest.Token).Publish(context.Background(), p)
			if err == nil || !strings.Contains(err.Error(), "changed since it was checked") {
				t.Errorf("got %v", err)
			}
			if _, _, published := s.Assets(tag); published {
				t.Error("published")
			}
		})
	}
}

// TestStreams: an asset is never entirely in memory, and progress reports its upload.
func TestStreams(t *testing.T) {
	var got atomic.Int64
	s := &forgetest.Server{ProxyLimit: 1 << 20, Early: true}
	s.Fail = func(r *http.Request) int {
		if r.Method == http.MethodPost && r.ContentLength > 1<<20 {
			got.Store(r.ContentLength)
			return 413
		}
		return 0
	}
	repo := s.Start(t)
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const size = 256 << 20
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	var p forge.Progress
	pub := forge.Publication{Tag: tag, Files: []forge.File{{Name: "big", Path: path, Size: size}}}
	_, err := client(t, repo, forgetest.Token, forge.WithProgress(&p)).Publish(context.Background(), pub)
	if err == nil || !strings.Contains(err.Error(), "413") {
		t.Fatalf("got %v", err)
	}
	if n := got.Load(); n < size || n > size+1024 {
		t.Errorf("the length that was stated is %d", n)
	}
	if _, done, total := p.Snapshot(); done != size || total != size {
		t.Errorf("progress: %d of %d", done, total)
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []string{
		"", "x", "https://host", "https://host/owner", "http://host/owner/repo", "ftp://host/owner/repo", "https://user:secret@host/o/r",
		"https://host/o/r?x", "https://host/o/r/releases/download", "https://host/o/../r", "://secret@", "https://host//r",
	} {
		if _, err := forge.New(bad, ""); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	for _, good := range []string{"https://host/o/r", "https://host/sub/path/o/r/", "http://127.0.0.1:3000/o/r", "http://[::1]/o/r"} {
		if _, err := forge.New(good, ""); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestInterrupted(t *testing.T) {
	s := &forgetest.Server{}
	ctx, cancel := context.WithCancel(context.Background())
	s.Fail = func(*http.Request) int { cancel(); return 502 }
	repo := s.Start(t)
	if _, err := client(t, repo, forgetest.Token).Publish(ctx, usual(t)); err == nil {
		t.Error("want an error")
	}
	if n := len(s.Requests()); n > 2 {
		t.Errorf("%d requests after the end", n)
	}
}

// TestInterruptedAnywhere ends a run that replaces a release at each of its
// requests, before and after that was carried out: at no moment is a former asset
// gone before all the new ones are there, what is published is the former release,
// or has no identity, or is the new one, and the next run completes it.
func TestInterruptedAnywhere(t *testing.T) {
	former := usual(t)
	next := publication(t, "a.iso=new image", "release.json=new", "SHA256SUMS.txt=new sums", "SHA256SUMS.txt.sigstore.json=new bundle")
	for _, unique := range []bool{false, true} {
		for n, done := 1, false; !done; n++ {
			for _, status := range []int{502, -502} {
				s := &forgetest.Server{Unique: unique}
				repo := s.Start(t)
				if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), former); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				seen := 0
				s.Fail = func(*http.Request) int {
					if seen++; seen < n {
						return 0
					}
					cancel()
					return status
				}
				_, err := client(t, repo, forgetest.Token).Publish(ctx, next)
				cancel()
				s.Settle()
				if done = err == nil; done {
					break
				}
				pieces, published := s.Pieces(tag)
				whole := true
				for name, data := range contents(next) {
					whole = whole && (slices.Contains(pieces, name+"="+data) || slices.Contains(pieces, "incoming-"+name+"="+data))
				}
				_, there, _ := s.Assets(tag)
				for name, old := range contents(former) {
					if !whole && there[name] != old {
						t.Errorf("request %d, %d: the former %s is lost, and there is %q", n, status, name, pieces)
					}
				}
				if published && !readable(there, contents(former)) && !readable(there, contents(next)) && there["SHA256SUMS.txt"] != "" {
					t.Errorf("request %d, %d: published: %q", n, status, pieces)
				}
				s.Fail = nil
				again := next
				again.Replace = there["SHA256SUMS.txt"] == "sums" // an unfinished run needs no leave
				if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), again); err != nil {
					t.Fatalf("request %d, %d: the next run: %v", n, status, err)
				}
				holds(t, s, next)
			}
			if n > 100 {
				t.Fatal("it never ends")
			}
		}
	}
}

// contents returns what is in the files of p.
func contents(p forge.Publication) map[string]string {
	out := make(map[string]string)
	for _, f := range p.Files {
		data, _ := os.ReadFile(f.Path)
		out[f.Name] = string(data)
	}
	return out
}

// readable reports whether there has all of want, among others.
func readable(there, want map[string]string) bool {
	for name, data := range want {
		if there[name] != data {
			return false
		}
	}
	return true
}

// TestRefusedEarly: a proxy that refuses a large body closes the connection during the
// upload. Its answer is reported all the same, and the request is not repeated.
func TestRefusedEarly(t *testing.T) {
	s := &forgetest.Server{}
	behind := httptest.NewServer(s)
	defer behind.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	repo := s.At("http://" + l.Addr().String())
	var refused atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if r.ContentLength > 1<<20 {
					refused.Add(1)
					if r.Header.Get("Expect") == "" {
						t.Error("a large body is sent unasked")
					}
					fmt.Fprint(c, "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
					return
				}
				r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", strings.TrimPrefix(behind.URL, "http://")
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					defer resp.Body.Close()
					resp.Close = true
					resp.Write(c)
				}
			}()
		}
	}()
	path := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	pub := forge.Publication{Tag: tag, Files: []forge.File{{Name: "big", Path: path, Size: 8 << 20}}}
	_, err = client(t, repo, forgetest.Token).Publish(t.Context(), pub)
	if err == nil || !strings.Contains(err.Error(), "answered 413; the proxy before the forge takes no request of this size") {
		t.Errorf("got %v", err)
	}
	if n := refused.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestNoExpect: a server that does not know the question is not asked again.
func TestNoExpect(t *testing.T) {
	s := &forgetest.Server{}
	s.Fail = func(r *http.Request) int {
		if r.Header.Get("Expect") != "" {
			return http.StatusExpectationFailed
		}
		return 0
	}
	repo := s.Start(t)
	p := publication(t, "big="+strings.Repeat("x", 2<<20), "SHA256SUMS.txt=sums")
	if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	holds(t, s, p)
}

// isQuestion answers what is asked before anything is published: there is a
// repository, and no release and no tag.
func isQuestion(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Method != http.MethodGet:
	case strings.HasSuffix(r.URL.Path, "/o/r"), strings.Contains(r.URL.Path, "/git/commits/"):
		fmt.Fprint(w, "{}")
		return true
	case strings.Contains(r.URL.Path, "/tags/"), strings.HasSuffix(r.URL.Path, "/tag_protections"):
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	return false
}

// TestEndlessList: a forge whose list never ends, page by page, is left.
func TestEndlessList(t *testing.T) {
	var pages atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isQuestion(w, r) {
			return
		}
		pages.Add(1)
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(w, `[{"id":1,"tag_name":"other"}]`)
	}))
	defer srv.Close()
	patience := quick()
	patience.Least, patience.Answer = 2*time.Second, 2*time.Second
	_, err := client(t, srv.URL+"/o/r", forgetest.Token, forge.WithTimeouts(patience)).Plan(t.Context(), usual(t))
	if err == nil || !strings.Contains(err.Error(), "list the releases: "+srv.URL+"/o/r: ") || strings.Contains(err.Error(), "pages of them") {
		t.Errorf("got %v", err)
	}
	if n := pages.Load(); n > 50 {
		t.Errorf("%d pages were asked for", n)
	}
}

// TestAnotherRelease: a forge that makes another release than the one that was
// asked for gets no files.
func TestAnotherRelease(t *testing.T) {
	for name, answer := range map[string]string{
		"of another tag": `{"id":7,"tag_name":"other","draft":true}`,
		"of none":        `null`,
		"of no number":   `{"id":-1,"tag_name":"` + tag + `","draft":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case isQuestion(w, r):
				case r.Method == http.MethodGet:
					fmt.Fprint(w, "[]")
				default:
					asked = append(asked, r.Method+" "+r.URL.Path)
					fmt.Fprint(w, answer)
				}
			}))
			defer srv.Close()
			_, err := client(t, srv.URL+"/o/r", forgetest.Token).Publish(t.Context(), usual(t))
			if err == nil || !strings.Contains(err.Error(), "made another one") || len(asked) != 1 {
				t.Errorf("%v, after %q", err, asked)
			}
		})
	}
}

// TestPublishedBefore: what is published with the same identity is left, but for what
// it lacks; with another one nothing is touched unless that is meant.
func TestPublishedBefore(t *testing.T) {
	identified := func(p forge.Publication) forge.Publication {
		p.Identity, p.Signature = "SHA256SUMS.txt", "SHA256SUMS.txt.sigstore.json"
		p.Revise = func(text string) string { return strings.ReplaceAll(text, "notes", "other notes") }
		return p
	}
	plain := usual(t)
	signedAnew := publication(t, "a.iso=image", "release.json={}", "SHA256SUMS.txt=sums", "SHA256SUMS.txt.sigstore.json=another bundle")
	other := publication(t, "a.iso=other", "release.json={}", "SHA256SUMS.txt=other sums", "SHA256SUMS.txt.sigstore.json=bundle")
	longer := publication(t, "a.iso=image", "b.iso=b", "release.json={}", "SHA256SUMS.txt=sums", "SHA256SUMS.txt.sigstore.json=bundle")
	for _, c := range []struct {
		name             string
		p                forge.Publication
		replace          bool
		uploaded, kept   int
		refused, touched bool
	}{
		{"the same", plain, false, 0, 4, false, false},
		{"the same, on purpose", plain, true, 0, 4, false, false},
		{"signed anew", signedAnew, false, 1, 3, false, true},
		{"one that it lacks", longer, false, 1, 4, false, true},
		{"another one", other, false, 0, 0, true, false},
		{"another one, on purpose", other, true, 4, 0, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &forgetest.Server{}
			repo := s.Start(t)
			if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), plain); err != nil {
				t.Fatal(err)
			}
			before := len(s.Requests())
			p := identified(c.p)
			p.Replace, p.Revise = c.replace, nil
			plan, planErr := client(t, repo, forgetest.Token).Plan(t.Context(), p)
			for _, r := range s.Requests()[before:] {
				if !strings.HasPrefix(r, "GET ") {
					t.Errorf("a plan asked for %s", r)
				}
			}
			before = len(s.Requests())
			o, err := client(t, repo, forgetest.Token).Publish(t.Context(), p)
			touched := slices.ContainsFunc(s.Requests()[before:], func(r string) bool { return !strings.HasPrefix(r, "GET ") })
			var published *forge.PublishedError
			if c.refused != errors.As(err, &published) || c.refused != errors.As(planErr, &published) || !c.refused && (err != nil || planErr != nil) {
				t.Fatalf("got %v, planned %v", err, planErr)
			}
			if hidden := len(o.Replaced) > 0; touched != c.touched || o.Hidden != hidden || plan.Hidden != hidden {
				t.Errorf("touched: %v, want %v: %+v, planned %+v", touched, c.touched, o, plan)
			}
			if len(o.Uploaded) != c.uploaded || len(o.Kept) != c.kept || len(plan.Uploaded) != c.uploaded {
				t.Errorf("outcome %+v, planned %+v", o, plan)
			}
			if c.refused {
				holds(t, s, plain)
			} else {
				holds(t, s, c.p)
			}
		})
	}
	t.Run("the text", func(t *testing.T) {
		s := &forgetest.Server{}
		repo := s.Start(t)
		for range 2 {
			if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), identified(plain)); err != nil {
				t.Fatal(err)
			}
		}
		if _, body := s.Release(tag); body != "other "+plain.Notes {
			t.Errorf("it is %q, and was %q", body, plain.Notes)
		}
	})
	t.Run("a release that was made by hand", func(t *testing.T) {
		s := &forgetest.Server{}
		repo := s.Start(t)
		s.Add(tag, false, "picture.png")
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), identified(plain)); err != nil {
			t.Error(err)
		}
		s.Add("boot-v9", false, "a.iso")
		p := identified(plain)
		p.Tag, p.Replace = "boot-v9", false
		var published *forge.PublishedError
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), p); !errors.As(err, &published) {
			t.Errorf("images of an unknown kind: %v", err)
		}
	})
	t.Run("it cannot be read", func(t *testing.T) {
		s := &forgetest.Server{}
		repo := s.Start(t)
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), plain); err != nil {
			t.Fatal(err)
		}
		s.Fail = func(r *http.Request) int {
			if strings.Contains(r.URL.Path, "/releases/download/") {
				return 403
			}
			return 0
		}
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), identified(other)); err == nil || !strings.Contains(err.Error(), "answered 403") {
			t.Errorf("got %v", err)
		}
		holds(t, s, plain)
	})
}
