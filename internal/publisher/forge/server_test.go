//go:build forgejo

package forge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/publisher/forge"
	"every.channel/ec-verify/internal/release"
)

// server is a real Forgejo, or Gitea, with one repository of one commit, its owner, and
// one who may write to it.
type server struct {
	t      *testing.T
	url    string
	repo   string
	token  string
	writer string // the token of one who may write and is no administrator
	commit string
}

const appINI = `I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
APP_NAME = test
WORK_PATH = %[1]s
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[2]s
ROOT_URL = http://127.0.0.1:%[2]s/
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = %[1]s/forgejo.db
[repository]
ROOT = %[1]s/repositories
[security]
INSTALL_LOCK = true
[api]
MAX_RESPONSE_ITEMS = 10
[log]
LEVEL = Warn
`

// start runs the Forgejo that EC_VERIFY_FORGEJO names until the test ends.
func start(t *testing.T) *server {
	t.Helper()
	program := os.Getenv("EC_VERIFY_FORGEJO")
	if program == "" {
		t.Fatal("EC_VERIFY_FORGEJO names no Forgejo; hack/test-forge sets it")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	config := filepath.Join(dir, "app.ini")
	if err := os.WriteFile(config, fmt.Appendf(nil, appINI, dir, port), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"--config", config, "--work-path", dir}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		return cmd
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := command(args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v: %s%s", args, err, out, errs.String())
		}
		return strings.TrimSpace(string(out))
	}
	run("migrate")
	account := func(name string) (token string) {
		run("admin", "user", "create", "--username", name, "--password", "pass-word-1234", "--email", name+"@example.org", "--must-change-password=false")
		// A Gitea logs what it does beside that.
		said := run("admin", "user", "generate-access-token", "--username", name, "--token-name", "test", "--scopes", "write:repository,write:user", "--raw")
		if token = regexp.MustCompile(`(?m)^[0-9a-f]{40}$`).FindString(said); token == "" {
			t.Fatalf("no token: %s", said)
		}
		return token
	}
	s := &server{t: t, url: "http://127.0.0.1:" + port, token: account("every"), writer: account("writer")}
	web := command("web")
	var log bytes.Buffer
	web.Stdout, web.Stderr = &log, &log
	if err := web.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = web.Process.Kill()
		_ = web.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/healthz", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("it does not answer: %s", log.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.ask(http.MethodPost, "/user/repos", map[string]any{"name": "channel", "auto_init": true, "default_branch": "main"}, nil)
	s.ask(http.MethodPut, "/repos/every/channel/collaborators/writer", map[string]string{"permission": "write"}, nil)
	var branch struct {
		Commit struct {
			ID string `json:"id"`
		} `json:"commit"`
	}
	s.ask(http.MethodGet, "/repos/every/channel/branches/main", nil, &branch)
	s.repo, s.commit = s.url+"/every/channel", branch.Commit.ID
	return s
}

// ask makes one request of the API, which must succeed.
func (s *server) ask(method, path string, in, out any) {
	s.t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/api/v1"+path, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "token "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			s.t.Fatal(err)
		}
	}
}

// attach uploads f to the release of that number.
func (s *server) attach(id int64, f forge.File) {
	s.t.Helper()
	data, err := os.ReadFile(f.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	url := fmt.Sprintf("%s/api/v1/repos/every/channel/releases/%d/assets?name=%s", s.url, id, f.Name)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Authorization", "token "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("upload %s: %d", f.Name, resp.StatusCode)
	}
}

// push makes the tag at the commit and pushes it.
func (s *server) push(tag string) {
	s.t.Helper()
	dir := s.t.TempDir()
	remote := strings.Replace(s.repo, "://", "://every:"+s.token+"@", 1)
	for _, args := range [][]string{{"init", "-q"}, {"fetch", "-q", remote, "main"}, {"push", "-q", remote, s.commit + ":refs/tags/" + tag}} {
		if out, err := exec.CommandContext(s.t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			s.t.Fatalf("git %s: %v: %s", args[0], err, strings.ReplaceAll(string(out), s.token, "xxxxx"))
		}
	}
}

// published waits until the release of tag is no draft: a forge hears of a push later.
func (s *server) published(tag string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for release := (struct {
		Draft bool `json:"draft"`
	}{Draft: true}); release.Draft; time.Sleep(50 * time.Millisecond) {
		if ctx.Err() != nil {
			s.t.Fatalf("the release %s stays a draft", tag)
		}
		s.ask(http.MethodGet, "/repos/every/channel/releases/tags/"+tag, nil, &release)
	}
}

// holds wants every reader to find the files of p, and the tag at the commit.
func (s *server) holds(p forge.Publication) {
	s.t.Helper()
	for _, f := range p.Files {
		resp, err := http.Get(s.repo + "/releases/download/" + p.Tag + "/" + f.Name)
		if err != nil {
			s.t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want, _ := os.ReadFile(f.Path); resp.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
			s.t.Errorf("%s: %d %q, want %q", f.Name, resp.StatusCode, got, want)
		}
	}
	var tag struct {
		Commit struct {
			SHA string `json:"sha"`
		} `json:"commit"`
	}
	s.ask(http.MethodGet, "/repos/every/channel/tags/"+p.Tag, nil, &tag)
	if tag.Commit.SHA != s.commit {
		s.t.Errorf("the tag is at %s, want %s", tag.Commit.SHA, s.commit)
	}
}

func (s *server) publication(tag string, files ...string) forge.Publication {
	p := publication(s.t, files...)
	p.Tag, p.Commit = tag, s.commit
	return p
}

// TestForgejoServer publishes to a real Forgejo, and looks as machines do.
func TestForgejoServer(t *testing.T) {
	s := start(t)
	c := client(t, s.repo, s.token)
	files := []string{"a.iso=image", "release.json={}", "SHA256SUMS.txt=sums", "SHA256SUMS.txt.sigstore.json=bundle"}

	first := s.publication("boot-v1", files...)
	if o, err := c.Publish(t.Context(), first); err != nil || !o.Created {
		t.Fatalf("%+v, %v", o, err)
	}
	s.holds(first)
	if o, err := c.Publish(t.Context(), first); err != nil || len(o.Uploaded) != 0 {
		t.Errorf("again: %+v, %v", o, err)
	}
	next := s.publication("boot-v1", "a.iso=other", "release.json={}", "SHA256SUMS.txt=others", "SHA256SUMS.txt.sigstore.json=bundle")
	if o, err := c.Publish(t.Context(), next); err != nil || !o.Hidden {
		t.Errorf("replaced: %+v, %v", o, err)
	}
	s.holds(next)

	missing := s.publication("boot-v2", files...)
	missing.Commit = strings.Repeat("0123456789", 4)
	if _, err := c.Publish(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "does not have the commit") {
		t.Errorf("a commit that is not there: %v", err)
	}

	// A draft that somebody pushes the tag of is published as it is.
	s.ask(http.MethodPost, "/repos/every/channel/releases", map[string]any{"tag_name": "boot-v3", "target_commitish": s.commit, "draft": true, "prerelease": true}, nil)
	s.ask(http.MethodPost, "/repos/every/channel/tags", map[string]any{"tag_name": "boot-v4", "target": s.commit}, nil)
	for _, tag := range []string{"boot-v3", "boot-v4"} {
		p := s.publication(tag, files...)
		if _, err := c.Publish(t.Context(), p); err != nil {
			t.Errorf("%s: %v", tag, err)
			continue
		}
		s.holds(p)
	}
	if _, err := c.Publish(t.Context(), s.publication("Boot-v1", files...)); err == nil || !strings.Contains(err.Error(), "tags are case-insensitive") {
		t.Errorf("a tag in another case: %v", err)
	}

	// A protected tag: an administrator can see who may make it, and who only writes
	// hears nothing but a 500 when everything is there. A draft is published by the
	// rights of whoever made it.
	s.ask(http.MethodPost, "/repos/every/channel/tag_protections", map[string]any{"name_pattern": "boot-v5*", "whitelist_usernames": []string{"every"}}, nil)
	_, err := client(t, s.repo, s.writer).Publish(t.Context(), s.publication("boot-v5", files...))
	if err == nil || !strings.Contains(err.Error(), "answered 500; can it make the tag? Look whether it is protected") || !strings.Contains(err.Error(), "is still a draft") {
		t.Errorf("a protected tag: %v", err)
	}
	allowed := s.publication("boot-v5.1", files...)
	if _, err := c.Publish(t.Context(), allowed); err != nil {
		t.Errorf("a protected tag, by who may make it: %v", err)
	}
	s.holds(allowed)

	// Half a draft that the push of its tag has published.
	var half struct {
		ID int64 `json:"id"`
	}
	s.ask(http.MethodPost, "/repos/every/channel/releases", map[string]any{"tag_name": "boot-v6", "target_commitish": s.commit, "draft": true}, &half)
	sixth := s.publication("boot-v6", files...)
	sixth.Replace = false
	s.attach(half.ID, sixth.Files[0])
	s.push("boot-v6")
	s.published("boot-v6")
	if _, err := c.Publish(t.Context(), sixth); err != nil {
		t.Errorf("half a release: %v", err)
	}
	s.holds(sixth)

	for n := range 15 {
		s.ask(http.MethodPost, "/repos/every/channel/releases", map[string]any{"tag_name": fmt.Sprintf("other-%d", n), "target_commitish": s.commit}, nil)
	}
	source, err := release.NewSource(s.repo + "/releases/download")
	if err != nil {
		t.Fatal(err)
	}
	tags, err := source.(release.Lister).Tags(t.Context())
	if i := slices.IndexFunc(tags, release.Tag.MayBeLatest); err != nil || i < 0 || tags[i] != "boot-v6" {
		t.Errorf("the newest is not boot-v6: %v, %v", tags, err)
	}
}
