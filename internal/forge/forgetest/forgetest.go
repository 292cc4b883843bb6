// Package forgetest is a server that stands in for a Forgejo in tests: for the
// part of its API that deals with releases, as the description that every
// Forgejo serves at /api/swagger has it, and for the addresses that assets are
// downloaded from. It is no Forgejo: it has one repository, no git, and keeps
// everything in memory. What it does as Forgejo does, and what tests are to
// rely on:
//
//   - assets of one name are kept side by side, and the download is of the first
//   - creating a release of a tag that has one is a 409
//   - a draft is listed for writers only, and its assets cannot be downloaded
//   - an asset larger than MaxSize is a 413, at the end of reading or before
//   - lists come in pages of at most 50
//   - no token, or a wrong one, is a 401; one that may only read a 403 on writing
package forgetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Token is what writes; ReadOnly what reads.
const (
	Token    = "5ecre7-token"
	ReadOnly = "r3ad-token"
)

// Repo is the path of the one repository.
const Repo = "/every/channel"

// Server is one such server. Its fields may be set before requests are made.
type Server struct {
	// MaxSize is how large an asset may be; 0 for any size. With Early the answer
	// comes before the body was read.
	MaxSize int64
	Early   bool
	// Fail is asked of each request and returns the status to fail with, or 0. A
	// negative one fails with its absolute value after the request was carried
	// out.
	Fail func(r *http.Request) int
	// HideDrafts has the request by tag not tell of drafts.
	HideDrafts bool
	// Unique has a second asset of a name be a 409, as no Forgejo does.
	Unique bool
	// OnChange is called after each request that changed something.
	OnChange func(*Server)

	under    sync.WaitGroup
	mu       sync.Mutex
	releases []*release
	next     int64
	requests []string
	url      string
}

type release struct {
	ID     int64   `json:"id"`
	Tag    string  `json:"tag_name"`
	Target string  `json:"target_commitish"`
	Name   string  `json:"name"`
	Body   string  `json:"body"`
	Draft  bool    `json:"draft"`
	URL    string  `json:"html_url"`
	Assets []asset `json:"assets"`
}

type asset struct {
	ID   int64  `json:"id"`
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
	for _, name := range assets {
		s.next++
		r.Assets = append(r.Assets, asset{ID: s.next, Name: name})
	}
}

func (s *Server) create(tag string, draft bool) *release {
	s.next++
	r := &release{ID: s.next, Tag: tag, Draft: draft, URL: s.url + Repo + "/releases/tag/" + tag, Assets: []asset{}}
	s.releases = append(s.releases, r)
	return r
}

// Assets returns the names and contents of the assets of tag, in their order,
// and whether it is published.
func (s *Server) Assets(tag string) (names []string, contents map[string]string, published bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents = make(map[string]string)
	for _, r := range s.releases {
		if r.Tag == tag {
			for _, a := range r.Assets {
				names = append(names, a.Name)
				contents[a.Name] = string(a.data)
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
		if r.Tag == tag {
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
		if r.Tag == tag {
			return r.Target, r.Body
		}
	}
	return "", ""
}

// answer is a status with what goes with it.
type answer struct {
	status int
	body   any
}

func no(status int, format string, args ...any) answer {
	return answer{status, map[string]string{"message": fmt.Sprintf(format, args...)}}
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
		_, _ = io.Copy(io.Discard, r.Body)
		write(w, no(status, "on purpose, to %s", r.Header.Get("Authorization")))
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, Repo+"/releases/download/"); ok {
		s.download(w, rest)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v1/repos"+Repo+"/releases")
	if !ok {
		write(w, no(http.StatusNotFound, "The target couldn't be found."))
		return
	}
	a := s.serve(r, strings.Trim(rest, "/"))
	if status < 0 {
		a = no(-status, "on purpose, afterwards")
	}
	write(w, a)
	if s.OnChange != nil && r.Method != http.MethodGet {
		s.OnChange(s)
	}
}

func write(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func (s *Server) serve(r *http.Request, rest string) answer {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "token ")
	switch {
	case token != Token && token != ReadOnly && token != "":
		return no(http.StatusUnauthorized, "invalid username, password or token")
	case token == "" && r.Method != http.MethodGet:
		return no(http.StatusUnauthorized, "token is required")
	case token == ReadOnly && r.Method != http.MethodGet:
		return no(http.StatusForbidden, "token does not have at least one of required scope(s): [write:repository]")
	}
	parts := strings.Split(rest, "/")
	var data []byte
	var name string
	if r.Method == http.MethodPost && len(parts) == 2 {
		if s.MaxSize > 0 && s.Early && r.ContentLength > s.MaxSize {
			return no(http.StatusRequestEntityTooLarge, "")
		}
		f, head, err := r.FormFile("attachment")
		if err != nil {
			return no(http.StatusBadRequest, "%v", err)
		}
		defer f.Close()
		if data, err = io.ReadAll(f); err != nil {
			return no(http.StatusBadRequest, "%v", err)
		}
		name = head.Filename
		if n := r.URL.Query().Get("name"); n != "" {
			name = n
		}
		if s.MaxSize > 0 && int64(len(data)) > s.MaxSize {
			return no(http.StatusRequestEntityTooLarge, "attachment exceeds the limit")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && rest == "":
		return s.list(r, token == Token)
	case r.Method == http.MethodPost && rest == "":
		return s.post(r)
	case parts[0] == "tags" && len(parts) == 2:
		for _, rel := range s.releases {
			if rel.Tag == parts[1] && (!rel.Draft || !s.HideDrafts && token == Token) {
				return answer{http.StatusOK, rel}
			}
		}
		return no(http.StatusNotFound, "The target couldn't be found.")
	}
	id, _ := strconv.ParseInt(parts[0], 10, 64)
	i := slices.IndexFunc(s.releases, func(rel *release) bool { return rel.ID == id })
	if i < 0 {
		return no(http.StatusNotFound, "The target couldn't be found.")
	}
	rel := s.releases[i]
	switch {
	case r.Method == http.MethodPatch && len(parts) == 1:
		var in struct {
			Draft *bool   `json:"draft"`
			Body  *string `json:"body"`
		}
		if json.NewDecoder(r.Body).Decode(&in) == nil && in.Draft != nil {
			rel.Draft = *in.Draft
			if in.Body != nil {
				rel.Body = *in.Body
			}
		}
		return answer{http.StatusOK, rel}
	case r.Method == http.MethodGet && len(parts) == 2:
		return answer{http.StatusOK, rel.Assets}
	case r.Method == http.MethodPost && len(parts) == 2:
		if s.Unique && slices.ContainsFunc(rel.Assets, func(a asset) bool { return a.Name == name }) {
			return no(http.StatusConflict, "there is one")
		}
		s.next++
		a := asset{ID: s.next, Name: name, Size: int64(len(data)), data: data}
		rel.Assets = append(rel.Assets, a)
		return answer{http.StatusCreated, a}
	case r.Method == http.MethodDelete && len(parts) == 3:
		before := len(rel.Assets)
		rel.Assets = slices.DeleteFunc(rel.Assets, func(a asset) bool { return strconv.FormatInt(a.ID, 10) == parts[2] })
		if len(rel.Assets) == before {
			return no(http.StatusNotFound, "The target couldn't be found.")
		}
		return answer{status: http.StatusNoContent}
	}
	return no(http.StatusMethodNotAllowed, "")
}

func (s *Server) list(r *http.Request, writer bool) answer {
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	if limit <= 0 || limit > 50 {
		limit = 50
	}
	seen := []*release{}
	for _, rel := range s.releases {
		if writer || !rel.Draft {
			seen = append(seen, rel)
		}
	}
	from := min(len(seen), max(0, page-1)*limit)
	return answer{http.StatusOK, seen[from:min(len(seen), from+limit)]}
}

func (s *Server) post(r *http.Request) answer {
	var in struct {
		Tag    string `json:"tag_name"`
		Target string `json:"target_commitish"`
		Body   string `json:"body"`
		Draft  bool   `json:"draft"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return no(http.StatusBadRequest, "%v", err)
	}
	for _, rel := range s.releases {
		if rel.Tag == in.Tag {
			return no(http.StatusConflict, "Release is has no Tag")
		}
	}
	rel := s.create(in.Tag, in.Draft)
	rel.Target, rel.Body = in.Target, in.Body
	return answer{http.StatusCreated, rel}
}

// download serves TAG/NAME of what is published.
func (s *Server) download(w http.ResponseWriter, rest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag, name, _ := strings.Cut(rest, "/")
	for _, r := range s.releases {
		if r.Tag != tag || r.Draft {
			continue
		}
		for _, a := range r.Assets {
			if a.Name == name {
				_, _ = w.Write(a.data)
				return
			}
		}
	}
	w.WriteHeader(http.StatusNotFound)
}
