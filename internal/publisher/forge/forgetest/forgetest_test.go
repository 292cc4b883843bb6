package forgetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// exchange makes one request without following redirects, and returns the status, the
// header and the body.
func exchange(t *testing.T, s *Server, token, method, path, body string) (int, http.Header, string) {
	t.Helper()
	kind := "application/json"
	if name, ok := strings.CutPrefix(body, "file "); ok {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormFile("attachment", name)
		io.WriteString(part, "contents of "+name)
		w.Close()
		kind, body = w.FormDataContentType(), b.String()
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

const api = "/api/v1/repos" + Repo

// TestForgejo15 holds the stand-in to what a Forgejo 15 was seen to do.
func TestForgejo15(t *testing.T) {
	if Version != "Forgejo 15" {
		t.Fatalf("what is here was seen on Forgejo 15, and not on %s", Version)
	}
	type step struct {
		token, method, path, body string
		status                    int
		says                      string // is in the body
	}
	// The first release of a server is 1, the first asset of it 2.
	draft := func(s *Server) { s.Add("boot-v1", true, "b", "a") }
	for _, c := range []struct {
		name   string
		server *Server
		before func(*Server)
		steps  []step
	}{
		{"a draft is hidden from readers in lists, by its tag and where assets are downloaded", &Server{}, draft, []step{
			{"", "GET", api + "/releases", "", 200, "[]"},
			{Stranger, "GET", api + "/releases/tags/boot-v1", "", 404, ""},
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 404, ""},
			{Token, "GET", api + "/releases", "", 200, `"draft":true`},
			{Token, "GET", api + "/releases/tags/boot-v1", "", 200, `"draft":true`},
		}},
		{"a draft answers by its number to everybody, and so do its assets", &Server{}, draft, []step{
			{"", "GET", api + "/releases/1", "", 200, `"draft":true`},
			{"", "GET", api + "/releases/1/assets", "", 200, `"name":"a"`},
			{"", "GET", "/attachments/00000000-0000-4000-8000-000000000002", "", 200, ""},
		}},
		{"a draft is downloaded with any token of somebody who may write", &Server{}, draft, []step{
			{ReadOnly, "GET", Repo + "/releases/download/boot-v1/a", "", 200, ""},
			{Stranger, "GET", Repo + "/releases/download/boot-v1/a", "", 404, ""},
		}},
		{"a pushed tag publishes its draft as it is", &Server{}, func(s *Server) { draft(s); s.Push("boot-v1", "c0ffee") }, []step{
			{"", "GET", api + "/releases/tags/boot-v1", "", 200, `"draft":false`},
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 200, ""},
		}},
		{"a pushed tag without a release is none, until one is made of it", &Server{}, func(s *Server) { s.Push("boot-v1", "c0ffee") }, []step{
			{Token, "GET", api + "/releases/tags/boot-v1", "", 404, ""},
			{Token, "GET", api + "/releases", "", 200, "[]"},
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1","draft":true}`, 201, `"tag_name":"boot-v1"`},
		}},
		{"to publish makes the tag at the target", &Server{}, draft, []step{
			{Token, "PATCH", api + "/releases/1", `{"draft":false,"target_commitish":"c0ffee"}`, 200, `"draft":false`},
			{Token, "GET", api + "/tags/boot-v1", "", 200, `"sha":"c0ffee"`},
		}},
		{"to publish at a commit that is not there is 500 with an empty message", &Server{Commits: []string{"c0ffee"}}, draft, []step{
			{Token, "PATCH", api + "/releases/1", `{"draft":false,"target_commitish":"dead"}`, 500, `"message":""`},
			{Token, "GET", api + "/releases/1", "", 200, `"draft":true`},
			{Token, "GET", api + "/git/commits/dead", "", 404, `"message":"dead"`},
		}},
		{"to publish under a protected tag is 500 with an empty message", &Server{Protected: []string{"boot-*"}}, draft, []step{
			{Token, "PATCH", api + "/releases/1", `{"draft":false}`, 500, `"message":""`},
			{Token, "GET", api + "/tag_protections", "", 403, "admin"},
		}},
		{"a protected tag that is there does not matter", &Server{Protected: []string{"boot-*"}}, func(s *Server) { s.Push("boot-v1", "c0ffee") }, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1"}`, 201, `"draft":false`},
		}},
		{"a draft in an archived repository is 500 with an empty message", &Server{Archived: true}, nil, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1","draft":true}`, 500, `"message":""`},
			{Token, "GET", api, "", 200, `"archived":true`},
		}},
		{"a release of an empty repository is 422", &Server{Empty: true}, nil, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1","draft":true}`, 422, "repo is empty"},
		}},
		{"the target is what was sent, wherever the tag stands", &Server{}, func(s *Server) { s.Push("boot-v1", "c0ffee") }, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1","target_commitish":"other"}`, 201, `"target_commitish":"other"`},
			{Token, "GET", api + "/tags/boot-v1", "", 200, `"sha":"c0ffee"`},
		}},
		{"a pre-release stays one unless it is named", &Server{}, func(s *Server) { draft(s); s.SetPrerelease("boot-v1") }, []step{
			{Token, "PATCH", api + "/releases/1", `{"draft":false}`, 200, `"prerelease":true`},
			{Token, "PATCH", api + "/releases/1", `{"prerelease":false}`, 200, `"prerelease":false`},
		}},
		{"an empty text is none, and what is not named stays", &Server{}, draft, []step{
			{Token, "PATCH", api + "/releases/1", `{"body":"text"}`, 200, `"draft":true`},
			{Token, "PATCH", api + "/releases/1", `{"body":"","draft":false}`, 200, `"body":"text"`},
		}},
		{"tags are found without regard to case, and told as they are", &Server{}, func(s *Server) { s.Add("Boot-V1", false) }, []step{
			{Token, "GET", api + "/releases/tags/boot-v1", "", 200, `"tag_name":"Boot-V1"`},
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v1"}`, 409, "Release has no Tag"},
		}},
		{"assets are listed by name", &Server{}, draft, []step{
			{Token, "GET", api + "/releases/1/assets", "", 200, `[{"id":3,"uuid":"00000000-0000-4000-8000-000000000003","name":"a","size":0},{"id":2,`},
		}},
		{"of two assets of a name the older is downloaded", &Server{}, func(s *Server) { s.Add("boot-v1", false, "a") }, []step{
			{Token, "POST", api + "/releases/1/assets?name=a", "file a", 201, `"name":"a"`},
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 200, ""},
			{Token, "DELETE", api + "/releases/1/assets/2", "", 204, ""},
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 200, "contents of a"},
		}},
		{"an asset is renamed", &Server{}, func(s *Server) { s.Add("boot-v1", false, "a") }, []step{
			{Token, "PATCH", api + "/releases/1/assets/2", `{"name":"b"}`, 201, `"name":"b"`},
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 404, ""},
			{"", "GET", Repo + "/releases/download/boot-v1/b", "", 200, ""},
		}},
		{"a quota is 413 in JSON, on creating, uploading and publishing", &Server{Quota: 1}, func(s *Server) { s.Add("boot-v1", true); s.attach(s.releases[0], "a", []byte("x")) }, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v2"}`, 413, "quota exceeded"},
			{Token, "POST", api + "/releases/1/assets?name=b", "file b", 413, "quota exceeded"},
			{Token, "PATCH", api + "/releases/1", `{"draft":false}`, 413, "quota exceeded"},
		}},
		{"a proxy's 413 is a page", &Server{ProxyLimit: 10}, nil, []step{
			{Token, "POST", api + "/releases", `{"tag_name":"boot-v2"}`, 413, "<html>"},
		}},
		{"a type that is not allowed is 400", &Server{AllowedTypes: []string{".txt"}}, draft, []step{
			{Token, "POST", api + "/releases/1/assets?name=a.iso", "file a.iso", 400, "This file extension or type is not allowed"},
			{Token, "POST", api + "/releases/1/assets?name=a.TXT", "file a.TXT", 201, ""},
		}},
		{"a missing scope is 403 and named, on reading too", &Server{}, draft, []step{
			{NoScope, "GET", api, "", 403, "required scope(s): [read:repository]"},
			{ReadOnly, "PATCH", api + "/releases/1", "{}", 403, "required scope(s): [write:repository]"},
		}},
		{"who may not write is 403 with another text", &Server{}, draft, []step{
			{Stranger, "PATCH", api + "/releases/1", "{}", 403, "user should have a permission to write to a repo"},
		}},
		{"a token for what is public finds nothing private", &Server{Private: true}, draft, []step{
			{PublicOnly, "GET", api, "", 404, ""},
			{"", "GET", api, "", 404, ""},
			{Token, "GET", api, "", 200, ""},
		}},
		{"a wrong token is 401 and repeated", &Server{}, nil, []step{
			{"n0nsense", "GET", api, "", 401, "n0nsense"},
			{"", "POST", api + "/releases", "{}", 401, "token is required"},
		}},
		{"404 has a list of errors", &Server{}, nil, []step{
			{Token, "GET", api + "/releases/7", "", 404, `{"errors":[],"message":"The target couldn't be found."`},
		}},
		{"releases that are turned off are 404", &Server{NoReleases: true}, nil, []step{
			{Token, "GET", api + "/releases", "", 404, ""},
			{Token, "GET", api, "", 200, `"has_releases":false`},
		}},
		{"a sign-in wall is a page for downloads and 403 for the API", &Server{SignIn: true}, func(s *Server) { s.Add("boot-v1", false, "a") }, []step{
			{"", "GET", Repo + "/releases/download/boot-v1/a", "", 303, ""},
			{"", "GET", "/user/login", "", 200, "<!DOCTYPE html>"},
			{"", "GET", api, "", 403, "signed in"},
			{Token, "GET", Repo + "/releases/download/boot-v1/a", "", 200, ""},
		}},
		{"a blocked account gets a page for a download", &Server{}, func(s *Server) { s.Add("boot-v1", false, "a") }, []step{
			{Blocked, "GET", Repo + "/releases/download/boot-v1/a", "", 200, "<!DOCTYPE html>"},
			{Blocked, "GET", api, "", 403, ""},
			{Stale, "GET", Repo + "/releases/download/boot-v1/a", "", 303, ""},
			{Stale, "GET", api, "", 403, "change your password"},
		}},
		{"a renamed repository leads on, for what is posted too", &Server{}, nil, []step{
			{Token, "GET", "/api/v1/repos" + Former, "", 301, ""},
			{Token, "POST", "/api/v1/repos" + Former + "/releases", "{}", 301, ""},
			{"", "GET", Former + "/releases/download/boot-v1/a", "", 301, ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.server.Start(t)
			if c.before != nil {
				c.before(c.server)
			}
			for _, st := range c.steps {
				status, header, body := exchange(t, c.server, st.token, st.method, st.path, st.body)
				if status != st.status || !strings.Contains(body, st.says) {
					t.Errorf("%s %s as %q: %d %s, want %d and %q in it", st.method, st.path, st.token, status, body, st.status, st.says)
				}
				if status/100 == 3 && header.Get("Location") == "" {
					t.Errorf("%s %s leads nowhere", st.method, st.path)
				}
			}
		})
	}
	t.Run("lists are newest first, and a draft made again is new", func(t *testing.T) {
		s := &Server{}
		s.Start(t)
		for i := range 3 {
			s.Add(fmt.Sprintf("boot-v%d", i+1), false)
		}
		exchange(t, s, Token, "PATCH", api+"/releases/1", `{"draft":true}`)
		exchange(t, s, Token, "PATCH", api+"/releases/1", `{"draft":false}`)
		if got, want := tags(t, s, ""), []string{"boot-v1", "boot-v3", "boot-v2"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("a page has as many as the forge allows, and says how many there are", func(t *testing.T) {
		s := &Server{PageSize: 10}
		s.Start(t)
		for i := range 12 {
			s.Add(fmt.Sprintf("boot-v%d", i+1), false)
		}
		_, header, _ := exchange(t, s, "", "GET", api+"/releases?limit=50", "")
		if len(tags(t, s, "?limit=50")) != 10 || len(tags(t, s, "?limit=50&page=2")) != 2 || header.Get("X-Total-Count") != "12" || !strings.Contains(header.Get("Link"), `rel="next"`) {
			t.Errorf("%v", header)
		}
		if _, header, _ = exchange(t, s, "", "GET", api+"/releases?limit=50&page=2", ""); header.Get("Link") != "" {
			t.Errorf("after the last page: %v", header)
		}
	})
	t.Run("a download can be taken up again", func(t *testing.T) {
		s := &Server{}
		s.Start(t)
		s.Add("boot-v1", false, "a")
		exchange(t, s, Token, "POST", api+"/releases/1/assets?name=b", "file b")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+Repo+"/releases/download/boot-v1/b", nil)
		req.Header.Set("Range", "bytes=9-")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if data, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusPartialContent || string(data) != "of b" || resp.Header.Get("ETag") == "" {
			t.Errorf("%d %q %v", resp.StatusCode, data, resp.Header)
		}
	})
}

func tags(t *testing.T, s *Server, query string) (names []string) {
	t.Helper()
	_, _, body := exchange(t, s, "", "GET", api+"/releases"+query, "")
	var list []struct {
		Tag string `json:"tag_name"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		names = append(names, r.Tag)
	}
	return names
}
