package forgetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// answer is a status with what goes with it.
type answer struct {
	status int
	body   any
	header http.Header
}

func no(status int, format string, args ...any) answer {
	return answer{status: status, body: map[string]any{"message": fmt.Sprintf(format, args...), "url": "/api/swagger"}}
}

// notFound is how a forge says so: with a list of errors that is empty.
func notFound(message string) answer {
	return answer{status: http.StatusNotFound, body: map[string]any{"errors": []string{}, "message": cmp.Or(message, "The target couldn't be found."), "url": "/api/swagger"}}
}

// failed answers as to a user who is no administrator; an administrator would get details.
func failed() answer { return no(http.StatusInternalServerError, "") }

func write(w http.ResponseWriter, a answer) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func (s *Server) api(r *http.Request, rest string) answer {
	account, refused := s.account(r)
	if refused != nil {
		drain(r)
		return *refused
	}
	if s.SignIn && !account.signed {
		return no(http.StatusForbidden, "Only signed in user is allowed to call APIs.")
	}
	if !account.reads {
		return notFound("")
	}
	parts := strings.Split(rest, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rest == "":
		return answer{status: http.StatusOK, body: map[string]any{
			"full_name": strings.TrimPrefix(Repo, "/"), "archived": s.Archived, "empty": s.Empty, "has_releases": !s.NoReleases, "private": s.Private, "default_branch": "main",
			"permissions": map[string]bool{"admin": account.admin, "push": account.writes, "pull": true},
		}}
	case parts[0] == "git" && len(parts) == 3 && parts[1] == "commits":
		if s.Empty || s.Commits != nil && !slices.Contains(s.Commits, parts[2]) {
			return notFound(parts[2])
		}
		return answer{status: http.StatusOK, body: map[string]any{"sha": parts[2]}}
	case parts[0] == "tags" && len(parts) == 2:
		if commit, ok := s.tags[parts[1]]; ok {
			return answer{status: http.StatusOK, body: map[string]any{"name": parts[1], "id": "of the tag itself", "commit": map[string]string{"sha": commit}}}
		}
		return notFound(parts[1])
	case parts[0] == "tag_protections":
		if !account.admin {
			return no(http.StatusForbidden, "user should be an owner or a collaborator with admin write of a repository")
		}
		list := []map[string]any{}
		for _, p := range s.Protected {
			list = append(list, map[string]any{"name_pattern": p, "whitelist_usernames": []string{}, "whitelist_teams": []string{}})
		}
		return answer{status: http.StatusOK, body: list}
	case parts[0] == "releases":
		return s.ofReleases(r, account, parts[1:])
	}
	return notFound("")
}

func (s *Server) ofReleases(r *http.Request, account who, parts []string) answer {
	writing := r.Method != http.MethodGet
	switch {
	case s.NoReleases:
		return notFound("")
	case writing && !account.writes:
		return no(http.StatusForbidden, "user should have a permission to write to a repo")
	case len(parts) == 0 && r.Method == http.MethodGet:
		return s.list(r, account)
	case len(parts) == 0 && r.Method == http.MethodPost:
		return s.post(r)
	case parts[0] == "tags" && len(parts) == 2:
		rel := s.find(parts[1])
		if rel == nil || rel.isTag || rel.Draft && (s.HideDrafts || !account.writes) {
			return notFound("")
		}
		return s.shown(http.StatusOK, rel)
	}
	id, _ := strconv.ParseInt(parts[0], 10, 64)
	i := slices.IndexFunc(s.releases, func(rel *release) bool { return rel.ID == id && !rel.isTag })
	if i < 0 {
		return notFound("")
	}
	rel := s.releases[i]
	switch {
	case r.Method == http.MethodGet && len(parts) == 1:
		// A draft too, to everybody.
		return s.shown(http.StatusOK, rel)
	case r.Method == http.MethodPatch && len(parts) == 1:
		return s.patch(r, rel)
	case r.Method == http.MethodGet && len(parts) == 2:
		return answer{status: http.StatusOK, body: byName(rel.Assets)}
	case r.Method == http.MethodPost && len(parts) == 2:
		return s.upload(r, rel)
	case len(parts) == 3:
		k := slices.IndexFunc(rel.Assets, func(a asset) bool { return strconv.FormatInt(a.ID, 10) == parts[2] })
		switch {
		case k < 0:
			return notFound("")
		case r.Method == http.MethodDelete:
			rel.Assets = slices.Delete(rel.Assets, k, k+1)
			return answer{status: http.StatusNoContent}
		case r.Method == http.MethodPatch:
			var in struct{ Name string }
			if json.NewDecoder(r.Body).Decode(&in) == nil && in.Name != "" {
				rel.Assets[k].Name = in.Name
			}
			return answer{status: http.StatusCreated, body: rel.Assets[k]}
		}
	}
	return no(http.StatusMethodNotAllowed, "")
}

// find is without regard to case.
func (s *Server) find(tag string) *release {
	for _, rel := range s.releases {
		if strings.EqualFold(rel.Tag, tag) {
			return rel
		}
	}
	return nil
}

// shown is a release as an answer has it.
func (s *Server) shown(status int, rel *release) answer {
	out := *rel
	out.Assets = byName(rel.Assets)
	return answer{status: status, body: out}
}

func byName(assets []asset) []asset {
	out := slices.Clone(assets)
	slices.SortStableFunc(out, func(a, b asset) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *Server) list(r *http.Request, account who) answer {
	query := r.URL.Query()
	most := cmp.Or(s.PageSize, 50)
	number, _ := strconv.Atoi(query.Get("page"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	if limit <= 0 || limit > most {
		limit = min(most, cmp.Or(max(0, limit), 30))
	}
	seen := []release{}
	for _, rel := range s.releases {
		if !rel.isTag && (account.writes || !rel.Draft) {
			seen = append(seen, *rel)
		}
	}
	slices.SortStableFunc(seen, func(a, b release) int { return cmp.Or(cmp.Compare(b.created, a.created), cmp.Compare(b.ID, a.ID)) })
	number = max(1, number)
	from := min(len(seen), (number-1)*limit)
	to := min(len(seen), from+limit)
	header := http.Header{"X-Total-Count": {strconv.Itoa(len(seen))}}
	if to < len(seen) {
		header.Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, s.url, r.URL.Path, url.Values{"page": {strconv.Itoa(number + 1)}, "limit": {strconv.Itoa(limit)}}.Encode()))
	}
	return answer{http.StatusOK, seen[from:to], header}
}

func (s *Server) overQuota() bool {
	size := int64(0)
	for _, rel := range s.releases {
		for _, a := range rel.Assets {
			size += a.Size
		}
	}
	return s.Quota > 0 && size >= s.Quota
}

var quotaExceeded = answer{status: http.StatusRequestEntityTooLarge, body: map[string]any{"message": "quota exceeded", "user_id": 1, "username": "every"}}

func (s *Server) post(r *http.Request) answer {
	var in struct {
		Tag        string `json:"tag_name"`
		Target     string `json:"target_commitish"`
		Body       string `json:"body"`
		Draft      bool   `json:"draft"`
		Prerelease bool   `json:"prerelease"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return no(http.StatusUnprocessableEntity, "%v", err)
	}
	rel := s.find(in.Tag)
	switch {
	case s.overQuota():
		return quotaExceeded
	case s.Empty:
		return no(http.StatusUnprocessableEntity, "repo is empty")
	case rel != nil && !rel.isTag:
		return no(http.StatusConflict, "Release has no Tag")
	case s.Archived:
		return failed()
	case rel == nil:
		rel = s.create(in.Tag, in.Draft)
		in.Target = cmp.Or(in.Target, "main")
	}
	rel.isTag, rel.Draft, rel.Prerelease, rel.Target, rel.Body = false, in.Draft, in.Prerelease, in.Target, in.Body
	if a := s.makeTag(rel); a != nil {
		s.releases = slices.DeleteFunc(s.releases, func(other *release) bool { return other == rel })
		return *a
	}
	return s.shown(http.StatusCreated, rel)
}

// makeTag gives what is published its tag, unless it has one, and what is not a new
// time.
func (s *Server) makeTag(rel *release) *answer {
	s.now++
	refused := failed()
	switch _, there := s.tags[rel.Tag]; {
	case s.Archived:
		return &refused
	case rel.Draft:
		rel.created = s.now
	case there:
	case slices.ContainsFunc(s.Protected, func(pattern string) bool { ok, err := path.Match(pattern, rel.Tag); return ok && err == nil }),
		s.Commits != nil && !slices.Contains(s.Commits, rel.Target):
		return &refused
	default:
		s.setTag(rel.Tag, rel.Target)
		s.pushed = append(s.pushed, rel.Tag)
		rel.created = s.now
	}
	return nil
}

func (s *Server) patch(r *http.Request, rel *release) answer {
	var in struct {
		Draft      *bool  `json:"draft"`
		Prerelease *bool  `json:"prerelease"`
		Body       string `json:"body"`
		Target     string `json:"target_commitish"`
		Tag        string `json:"tag_name"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return no(http.StatusUnprocessableEntity, "%v", err)
	}
	if s.overQuota() {
		return quotaExceeded
	}
	changed := *rel
	changed.Body, changed.Target, changed.Tag = cmp.Or(in.Body, rel.Body), cmp.Or(in.Target, rel.Target), cmp.Or(in.Tag, rel.Tag)
	if in.Draft != nil {
		changed.Draft = *in.Draft
	}
	if in.Prerelease != nil {
		changed.Prerelease = *in.Prerelease
	}
	if other := s.find(changed.Tag); other != nil && other != rel {
		return failed()
	}
	if a := s.makeTag(&changed); a != nil {
		return *a
	}
	*rel = changed
	return s.shown(http.StatusOK, rel)
}

func (s *Server) upload(r *http.Request, rel *release) answer {
	if s.overQuota() {
		drain(r)
		return quotaExceeded
	}
	// Reading the body may take long; other requests continue meanwhile.
	s.mu.Unlock()
	name, data, err := readUpload(r)
	s.mu.Lock()
	switch {
	case err != nil:
		return no(http.StatusBadRequest, "%v", err)
	case s.AllowedTypes != nil && !slices.Contains(s.AllowedTypes, strings.ToLower(path.Ext(name))):
		return no(http.StatusBadRequest, "This file extension or type is not allowed to be uploaded.")
	case s.Unique && slices.ContainsFunc(rel.Assets, func(a asset) bool { return a.Name == name }):
		return no(http.StatusConflict, "there is one")
	}
	return answer{status: http.StatusCreated, body: s.attach(rel, name, data)}
}

func readUpload(r *http.Request) (name string, data []byte, err error) {
	f, head, err := r.FormFile("attachment")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	data, err = io.ReadAll(f)
	return cmp.Or(r.URL.Query().Get("name"), head.Filename), data, err
}
