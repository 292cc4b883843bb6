// Package forgetest is a server that imitates a Forgejo in tests: the part of its API for
// releases, and the addresses of downloads. It has one repository, no git except the names
// of tags and commits, no clock, and keeps everything in memory.
//
// It behaves as a Forgejo 15 was seen to behave; its own tests check each of these facts.
// Behaviour that no Forgejo 15 has, but that other forges may have, must be enabled:
// [Server.HideDrafts], [Server.Unique].
package forgetest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Version is the forge that this package does as.
const Version = "Forgejo 15"

// Access tokens. Those of one owner may do the same but for their scopes.
const (
	Token      = "5ecre7-token"  // write:repository, of somebody who may write
	ReadOnly   = "r3ad-token"    // read:repository, of the same
	Stranger   = "5tranger-tok"  // write:repository, of somebody who may read
	NoScope    = "n0scope-token" // of somebody who may write, and for something else
	PublicOnly = "publ1c-token"  // write:repository for public repositories, of somebody who may write
	Blocked    = "bl0cked-token" // of an account that is blocked
	Stale      = "5tale-token"   // of an account that must change its password
)

const (
	// Repo is the path of the one repository.
	Repo = "/every/channel"
	// Former is the path that it had once.
	Former = "/every/former"
)

// Server is one such server. Its fields may be set before requests are made.
type Server struct {
	// PageSize is MAX_RESPONSE_ITEMS; 0 for 50, which is the default.
	PageSize int
	// AllowedTypes are the extensions that an asset may have, such as ".txt"; none for
	// all.
	AllowedTypes []string
	// Quota is how many bytes all assets may have; 0 for any number.
	Quota int64
	// ProxyLimit is how large the body of a request may be for the proxy before the
	// forge; 0 for any size. With Early it answers before it has read the body.
	ProxyLimit int64
	Early      bool
	// Archived, Empty and Private are states of the repository. Without: NoReleases.
	Archived, Empty, Private, NoReleases bool
	// SignIn has everything but the API ask for a sign-in.
	SignIn bool
	// Commits are those that the repository has; nil for all.
	Commits []string
	// Protected are the tags that nobody may make, as patterns in the settings, which
	// only an administrator of the repository may read: see Admin.
	Protected []string
	Admin     bool
	// Fail is asked of each request and returns the status to fail with, or 0. A
	// negative one fails with its absolute value after the request was carried
	// out.
	Fail func(r *http.Request) int
	// HideDrafts has the request by tag not tell of drafts.
	HideDrafts bool
	// Unique has a second asset of a name be a 409.
	Unique bool
	// OnChange is called after each request that changed something.
	OnChange func(*Server)

	under    sync.WaitGroup
	mu       sync.Mutex
	releases []*release
	tags     map[string]string // the commit of each
	next     int64
	now      int64 // grows with each thing that has a time
	requests []string
	pushed   []string
	url      string
}

type release struct {
	ID         int64   `json:"id"`
	Tag        string  `json:"tag_name"`
	Target     string  `json:"target_commitish"`
	Name       string  `json:"name"`
	Body       string  `json:"body"`
	Draft      bool    `json:"draft"`
	Prerelease bool    `json:"prerelease"`
	URL        string  `json:"html_url"`
	Assets     []asset `json:"assets"`
	created    int64
	isTag      bool // it stands for a tag that has no release
}

type asset struct {
	ID   int64  `json:"id"`
	UUID string `json:"uuid"`
	Name string `json:"name"`
	Size int64  `json:"size"`
	data []byte
}

// Start serves s until the test ends, and returns the repository's URL.
func (s *Server) Start(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s.At(srv.URL)
}

// At tells s that it is served at url, and returns the repository's URL.
func (s *Server) At(url string) string {
	s.url = url
	return url + Repo
}

// Requests returns the requests so far, as "METHOD path".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Add adds a release, published or a draft, with empty assets of the names.
func (s *Server) Add(tag string, draft bool, assets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.create(tag, draft)
	if !draft {
		s.setTag(tag, "")
	}
	for _, name := range assets {
		s.attach(r, name, nil)
	}
}

// Put adds a release, published or a draft, with assets of these contents.
func (s *Server) Put(tag string, draft bool, files map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.create(tag, draft)
	if !draft {
		s.setTag(tag, "")
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		s.attach(r, name, files[name])
	}
}

// SetPrerelease marks the release of tag as one that is not for everybody.
func (s *Server) SetPrerelease(tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.releases {
		if r.Tag == tag {
			r.Prerelease = true
		}
	}
}

// Push has somebody push a tag. A draft of that tag is published as it is.
func (s *Server) Push(tag, commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushed = append(s.pushed, tag)
	s.setTag(tag, commit)
	s.now++
	for _, r := range s.releases {
		if r.Tag == tag {
			r.Draft, r.created = false, s.now
			return
		}
	}
	s.create(tag, false).isTag = true
}

// Pushes returns the tags for which the forge has started a run: those that were
// pushed, and those that publishing has made.
func (s *Server) Pushes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pushed)
}

func (s *Server) setTag(tag, commit string) {
	if s.tags == nil {
		s.tags = make(map[string]string)
	}
	s.tags[tag] = commit
}

func (s *Server) create(tag string, draft bool) *release {
	s.next++
	s.now++
	r := &release{ID: s.next, Tag: tag, Draft: draft, URL: s.url + Repo + "/releases/tag/" + tag, Assets: []asset{}, created: s.now}
	s.releases = append(s.releases, r)
	return r
}

func (s *Server) attach(r *release, name string, data []byte) asset {
	s.next++
	a := asset{ID: s.next, UUID: fmt.Sprintf("00000000-0000-4000-8000-%012d", s.next), Name: name, Size: int64(len(data)), data: data}
	r.Assets = append(r.Assets, a)
	return a
}

// Assets returns the names and contents of the assets of tag, in their order, and whether
// it is published. If two have the same name, the older one counts.
func (s *Server) Assets(tag string) (names []string, contents map[string]string, published bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents = make(map[string]string)
	for _, r := range s.releases {
		if r.Tag == tag && !r.isTag {
			for _, a := range r.Assets {
				names = append(names, a.Name)
				if _, ok := contents[a.Name]; !ok {
					contents[a.Name] = string(a.data)
				}
			}
			published = !r.Draft
		}
	}
	return names, contents, published
}

// Settle waits until no request is under way. A forge carries on with one whose
// sender has gone.
func (s *Server) Settle() { s.under.Wait() }

// Pieces returns the assets of tag as "NAME=CONTENTS", and whether it is published.
func (s *Server) Pieces(tag string) (pieces []string, published bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.releases {
		if r.Tag == tag && !r.isTag {
			for _, a := range r.Assets {
				pieces = append(pieces, a.Name+"="+string(a.data))
			}
			published = !r.Draft
		}
	}
	return pieces, published
}

// Release returns the commit and the text of the release tag.
func (s *Server) Release(tag string) (target, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.releases {
		if r.Tag == tag && !r.isTag {
			return r.Target, r.Body
		}
	}
	return "", ""
}

// Tag returns the commit of a tag, and whether there is such a tag.
func (s *Server) Tag(tag string) (commit string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	commit, ok = s.tags[tag]
	return commit, ok
}

// who is on whose behalf a request is made.
type who struct{ signed, reads, writes, scopeWrites, admin bool }

// account returns whom a token is of, or the answer that refuses it.
func (s *Server) account(r *http.Request) (who, *answer) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "token ")
	refuse := func(a answer) (who, *answer) { return who{}, &a }
	scope := func(level string) (who, *answer) {
		return refuse(no(http.StatusForbidden, "token does not have at least one of required scope(s): [%s:repository]", level))
	}
	writing := r.Method != http.MethodGet
	switch token {
	case "":
		if writing {
			return refuse(no(http.StatusUnauthorized, "token is required"))
		}
		return who{reads: !s.Private}, nil
	case Token:
		return who{signed: true, reads: true, writes: true, scopeWrites: true, admin: s.Admin}, nil
	case ReadOnly:
		if writing {
			return scope("write")
		}
		return who{signed: true, reads: true, writes: true}, nil
	case NoScope:
		if writing {
			return scope("write")
		}
		return scope("read")
	case Stranger:
		return who{signed: true, reads: !s.Private, scopeWrites: true}, nil
	case PublicOnly:
		return who{signed: true, reads: !s.Private, writes: !s.Private, scopeWrites: true}, nil
	case Blocked:
		return refuse(no(http.StatusForbidden, "user is not allowed to sign in"))
	case Stale:
		return refuse(no(http.StatusForbidden, "You must change your password. Change it at: %s/user/change_password", s.url))
	}
	return refuse(no(http.StatusUnauthorized, "user does not exist [uid: 0, name: %s]", token))
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.under.Add(1)
	defer s.under.Done()
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	status := 0
	if s.Fail != nil {
		status = s.Fail(r)
	}
	if status > 0 {
		drain(r)
		write(w, no(status, "on purpose, to %s", r.Header.Get("Authorization")))
		return
	}
	if s.ProxyLimit > 0 && r.ContentLength > s.ProxyLimit {
		if !s.Early {
			drain(r)
		}
		page(w, http.StatusRequestEntityTooLarge, "<html><body>413 Request Entity Too Large</body></html>")
		return
	}
	if moved, ok := movedFrom(r.URL.Path); ok {
		u := *r.URL
		u.Path = moved
		http.Redirect(w, r, s.url+u.RequestURI(), http.StatusMovedPermanently)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v1/repos"+Repo)
	if !ok {
		s.web(w, r)
		return
	}
	a := s.api(r, strings.Trim(rest, "/"))
	if status < 0 {
		a = no(-status, "on purpose, afterwards")
	}
	write(w, a)
	if s.OnChange != nil && r.Method != http.MethodGet {
		s.OnChange(s)
	}
}

// movedFrom returns where a path of the repository's former name is now.
func movedFrom(path string) (string, bool) {
	for _, prefix := range []string{"", "/api/v1/repos"} {
		if rest, ok := strings.CutPrefix(path, prefix+Former); ok {
			return prefix + Repo + rest, true
		}
	}
	return "", false
}
