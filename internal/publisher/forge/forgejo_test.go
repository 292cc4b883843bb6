package forge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/publisher/forge"
	"every.channel/ec-verify/internal/publisher/forge/forgetest"
)

// TestAskedBefore: some obstacles give only an empty status 500 on a Forgejo 15, or appear
// only after the upload. These are checked before, and reported in one line.
func TestAskedBefore(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *forgetest.Server
		before func(*forgetest.Server)
		want   string
	}{
		{"a commit that is not there", &forgetest.Server{Commits: []string{"dead"}}, nil, "does not have the commit c0ffee for the tag boot-v1; push it first"},
		{"a tag at another commit", &forgetest.Server{}, func(s *forgetest.Server) { s.Push(tag, "dead") }, "the tag boot-v1 is at dead in "},
		{"a published release whose tag was moved", &forgetest.Server{}, func(s *forgetest.Server) { s.Add(tag, false, "a.iso"); s.Push(tag, "dead") }, "the tag boot-v1 is at dead in "},
		{"an archived repository", &forgetest.Server{Archived: true}, nil, "is archived and takes no release"},
		{"an empty repository", &forgetest.Server{Empty: true}, nil, "push the source first"},
		{"releases turned off", &forgetest.Server{NoReleases: true}, nil, "releases are turned off"},
		{"a tag that nobody may make", &forgetest.Server{Protected: []string{"other", "boot-*"}, Admin: true}, nil, `the tag boot-v1 is protected in`},
		{"a tag in another case", &forgetest.Server{}, func(s *forgetest.Server) { s.Add("Boot-V1", false) }, `has "Boot-V1", and its tags are case-insensitive`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.server
			repo := s.Start(t)
			if c.before != nil {
				c.before(s)
			}
			_, planErr := client(t, repo, forgetest.Token).Plan(t.Context(), usual(t))
			_, err := client(t, repo, forgetest.Token).Publish(t.Context(), usual(t))
			for _, err := range []error{planErr, err} {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want one line with %q", err, c.want)
				}
			}
			for _, r := range s.Requests() {
				if !strings.HasPrefix(r, "GET ") {
					t.Errorf("it went as far as %s", r)
				}
			}
		})
	}
	// Who is no administrator is not told, and hears at the end what to look at.
	t.Run("a protected tag that is not told of", func(t *testing.T) {
		s := &forgetest.Server{Protected: []string{"boot-*"}}
		_, err := client(t, s.Start(t), forgetest.Token).Publish(t.Context(), usual(t))
		if err == nil || !strings.Contains(err.Error(), "answered 500; can it make the tag? Look whether it is protected") || !strings.Contains(err.Error(), "is still a draft") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a protected tag that is there", func(t *testing.T) {
		s := &forgetest.Server{Protected: []string{"boot-*"}, Admin: true}
		repo := s.Start(t)
		s.Push(tag, "c0ffee")
		p := usual(t)
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		holds(t, s, p)
	})
}

// TestRights: what a token may not do is said before anything is uploaded.
func TestRights(t *testing.T) {
	for _, c := range []struct {
		token, want string
		draft       bool // there is one already
	}{
		{forgetest.ReadOnly, "answered 403 (token does not have at least one of required scope(s): [write:repository])", true},
		{forgetest.ReadOnly, "[write:repository]", false},
		{forgetest.NoScope, "[read:repository]", false},
		{forgetest.Stranger, "user should have a permission to write to a repo", false},
		{forgetest.Blocked, "answered 403", false},
		{forgetest.Stale, "change your password", false},
		{"n0nsense", "answered 401 (user does not exist [uid: 0, name: xxxxx])", false},
	} {
		t.Run(c.token, func(t *testing.T) {
			s := &forgetest.Server{}
			repo := s.Start(t)
			if c.draft {
				s.Add(tag, true, "a.iso")
			}
			_, err := client(t, repo, c.token).Publish(t.Context(), usual(t))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.token) {
				t.Errorf("got %v, want %q and no token", err, c.want)
			}
			if n := slices.IndexFunc(s.Requests(), func(r string) bool { return strings.HasPrefix(r, "POST") && strings.Contains(r, "/assets") }); n >= 0 {
				t.Error("an asset was sent")
			}
		})
	}
}

// TestLimits: each of the limits of a forge is told as what it is.
func TestLimits(t *testing.T) {
	t.Run("a quota", func(t *testing.T) {
		s := &forgetest.Server{Quota: 1}
		_, err := client(t, s.Start(t), forgetest.Token).Publish(t.Context(), usual(t))
		if err == nil || !strings.Contains(err.Error(), "answered 413 (quota exceeded); the quota of the repository's owner is used up") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a type of file", func(t *testing.T) {
		s := &forgetest.Server{AllowedTypes: []string{".txt", ".json"}}
		repo := s.Start(t)
		p := usual(t)
		// The image is large, and what is small is sent first.
		if err := os.Truncate(p.Files[0].Path, 8<<20); err != nil {
			t.Fatal(err)
		}
		p.Files[0].Size = 8 << 20
		_, err := client(t, repo, forgetest.Token).Publish(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), `answered 400 (This file extension or type is not allowed to be uploaded.); add ".iso" to ALLOWED_TYPES of [repository.release]`) {
			t.Errorf("got %v", err)
		}
		if pieces, _ := s.Pieces(tag); len(pieces) > 0 {
			t.Errorf("it was asked after %q", pieces)
		}
	})
	for _, c := range []struct {
		name, reset, want string
		tries             int
	}{
		{"a rate limit", "4102444800", "run this again after 2100-01-01T00:00:00Z", 1},
		{"a rate limit without a time", "", "run this again later", 1},
		{"a rate limit that has passed", "1", "run this again later", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			l := limiting(func(w http.ResponseWriter) {
				asked++
				w.Header().Set("X-RateLimit-Remaining", "0")
				if c.reset != "" {
					w.Header().Set("X-RateLimit-Reset", c.reset)
				}
				w.WriteHeader(http.StatusForbidden)
			})
			_, err := client(t, l.start(t), forgetest.Token).Plan(t.Context(), usual(t))
			if err == nil || !strings.Contains(err.Error(), "answered 403; the forge limits the rate of requests") || !strings.Contains(err.Error(), c.want) || asked != c.tries {
				t.Errorf("got %v after %d requests", err, asked)
			}
		})
	}
}

// TestPrerelease: a draft that was made by hand as a pre-release, at the default
// branch, is published as a release, at the commit that it is of.
func TestPrerelease(t *testing.T) {
	for _, draft := range []bool{true, false} {
		s := &forgetest.Server{}
		repo := s.Start(t)
		s.Add(tag, draft)
		s.SetPrerelease(tag)
		p := usual(t)
		if !draft {
			s.Push(tag, p.Commit)
		}
		o, err := client(t, repo, forgetest.Token).Publish(t.Context(), p)
		if err != nil || !o.WasPrerelease {
			t.Fatalf("%+v, %v", o, err)
		}
		holds(t, s, p)
		if o, err = client(t, repo, forgetest.Token).Publish(t.Context(), p); err != nil || o.WasPrerelease {
			t.Errorf("once more: %+v, %v", o, err)
		}
		if at, _ := s.Tag(tag); at != p.Commit {
			t.Errorf("the tag is at %s, want %s", at, p.Commit)
		}
	}
}

// TestTagPushedMeanwhile: a tag that is pushed while the draft is filled publishes it
// as it is: without its identity, until everything is there.
func TestTagPushedMeanwhile(t *testing.T) {
	for _, at := range []string{"c0ffee", "dead"} {
		s := &forgetest.Server{}
		repo := s.Start(t)
		uploads := 0
		s.OnChange = func(s *forgetest.Server) {
			if uploads++; uploads == 3 {
				s.Push(tag, at)
			}
			_, there, published := s.Assets(tag)
			if _, has := there["SHA256SUMS.txt"]; published && has && len(there) != 4 {
				t.Errorf("published, with its identity and %v", there)
			}
		}
		p := usual(t)
		o, err := client(t, repo, forgetest.Token).Publish(t.Context(), p)
		if at != p.Commit {
			if err == nil || !strings.Contains(err.Error(), "the tag boot-v1 is at dead") {
				t.Errorf("at another commit: %v", err)
			}
			if _, there, _ := s.Assets(tag); there["SHA256SUMS.txt"] != "" {
				t.Error("the release of another commit is whole")
			}
			continue
		}
		if err != nil || !o.Exposed {
			t.Fatalf("%+v, %v", o, err)
		}
		holds(t, s, p)
	}
}

// TestInterruptedAndPushed stops a run that publishes a second release at some request, and
// pushes its tag at some moment, for 50 pairs that were drawn once. Machines ignore a
// release without its identity: they see the first release or all of the second, and the
// next run completes it.
func TestInterruptedAndPushed(t *testing.T) {
	draw := rand.New(rand.NewPCG(13, 50))
	for range 50 {
		end, status, pushed := 1+draw.IntN(20), []int{502, -502}[draw.IntN(2)], 1+draw.IntN(9)
		s := &forgetest.Server{}
		repo := s.Start(t)
		first, second := usual(t), publication(t, "a.iso=new image", "release.json=new", "SHA256SUMS.txt=new sums", "SHA256SUMS.txt.sigstore.json=new bundle")
		second.Tag, second.Replace = "boot-v2", false
		if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		look := func(s *forgetest.Server) {
			if _, there, published := s.Assets(second.Tag); published && there[second.Identity] != "" && !readable(there, contents(second)) {
				t.Errorf("request %d, %d, pushed after %d: machines see %q of the second", end, status, pushed, there)
			}
			if _, there, published := s.Assets(first.Tag); !published || !readable(there, contents(first)) {
				t.Errorf("request %d, %d, pushed after %d: machines see %q of the first", end, status, pushed, there)
			}
		}
		changes := 0
		s.OnChange = func(s *forgetest.Server) {
			if changes++; changes == pushed {
				s.Push(second.Tag, second.Commit)
			}
			look(s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		s.Fail = func(*http.Request) int {
			if seen++; seen < end {
				return 0
			}
			cancel()
			return status
		}
		_, err := client(t, repo, forgetest.Token).Publish(ctx, second)
		cancel()
		s.Settle()
		look(s)
		s.Fail = nil
		if _, again := client(t, repo, forgetest.Token).Publish(t.Context(), second); again != nil {
			t.Fatalf("request %d, %d, pushed after %d: after %v the next run: %v", end, status, pushed, err, again)
		}
		holds(t, s, second)
		look(s)
	}
}

// TestReplaced: what is published stays so while it is replaced.
func TestReplaced(t *testing.T) {
	s := &forgetest.Server{}
	repo := s.Start(t)
	if _, err := client(t, repo, forgetest.Token).Publish(t.Context(), usual(t)); err != nil {
		t.Fatal(err)
	}
	s.OnChange = func(s *forgetest.Server) {
		if _, _, published := s.Assets(tag); !published {
			t.Error("it is a draft")
		}
	}
	next := publication(t, "a.iso=image", "release.json={}", "SHA256SUMS.txt=sums", "SHA256SUMS.txt.sigstore.json=another bundle")
	o, err := client(t, repo, forgetest.Token).Publish(t.Context(), next)
	if err != nil || !o.Hidden || !slices.Equal(o.Uploaded, []string{next.Signature}) {
		t.Errorf("%+v, %v", o, err)
	}
	holds(t, s, next)
}

// TestMoved: a renamed repository leads on, and is not followed with a token.
func TestMoved(t *testing.T) {
	s := &forgetest.Server{}
	repo := strings.TrimSuffix(s.Start(t), forgetest.Repo) + forgetest.Former
	_, err := client(t, repo, forgetest.Token).Publish(t.Context(), usual(t))
	var refused *forge.StatusError
	if !errors.As(err, &refused) || refused.Status != http.StatusMovedPermanently || !strings.Contains(err.Error(), "the repository has moved") {
		t.Errorf("got %v", err)
	}
}

// TestManyReleases finds a draft behind more releases than a page has, however small
// that is, and asks for no page after the last.
func TestManyReleases(t *testing.T) {
	s := &forgetest.Server{HideDrafts: true, PageSize: 10}
	repo := s.Start(t)
	s.Add(tag, true)
	for i := range 45 {
		s.Add(fmt.Sprintf("other-%d", i), false)
	}
	if o, err := client(t, repo, forgetest.Token).Publish(t.Context(), usual(t)); err != nil || o.Created {
		t.Fatalf("%+v, %v", o, err)
	}
	pages := 0
	before := len(s.Requests())
	p := usual(t)
	p.Tag = "boot-v2"
	if _, err := client(t, repo, forgetest.Token).Plan(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests()[before:] {
		if strings.HasSuffix(r, "/releases") {
			pages++
		}
	}
	if pages != 5 {
		t.Errorf("%d pages of 46 releases were asked for", pages)
	}
}

// limiting answers everything the same way.
type limiting func(w http.ResponseWriter)

func (l limiting) ServeHTTP(w http.ResponseWriter, _ *http.Request) { l(w) }

func (l limiting) start(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	return srv.URL + "/o/r"
}
