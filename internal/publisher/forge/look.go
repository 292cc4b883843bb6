package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// look checks the forge for obstacles to publishing p, and returns its existing
// release; nil for none. Only writing shows whether a token may write.
func (c *Client) look(ctx context.Context, p Publication) (*Release, error) {
	var repo struct {
		Archived    bool  `json:"archived"`
		Empty       bool  `json:"empty"`
		HasReleases *bool `json:"has_releases"`
	}
	if err := c.send(ctx, request{what: "examine the repository", method: http.MethodGet, answer: &repo}); err != nil {
		return nil, err
	}
	switch {
	case repo.Archived:
		return nil, fmt.Errorf("%s is archived and takes no release; make it writable in its settings", c)
	case repo.Empty:
		return nil, fmt.Errorf("%s is empty, so a tag can't be created; push the source first", c)
	case repo.HasReleases != nil && !*repo.HasReleases:
		return nil, fmt.Errorf("releases are turned off in %s; turn them on in its settings (Units)", c)
	}
	r, err := c.Find(ctx, p.Tag)
	if err != nil {
		return nil, err
	}
	return r, c.checkTag(ctx, p)
}

// checkTag requires that the tag of p is at its commit, or that the forge can create
// it there.
func (c *Client) checkTag(ctx context.Context, p Publication) error {
	var tag struct {
		Commit struct {
			SHA string `json:"sha"`
		} `json:"commit"`
	}
	err := c.send(ctx, request{what: "examine the tag " + p.Tag, method: http.MethodGet, path: "/tags/" + p.Tag, answer: &tag})
	switch {
	case err == nil && p.Commit != "" && tag.Commit.SHA != "" && tag.Commit.SHA != p.Commit:
		return fmt.Errorf("the tag %s is at %s in %s, and this release is of %s; publish under another tag, or build that commit", p.Tag, c.clean(tag.Commit.SHA), c, p.Commit)
	case !isStatus(err, http.StatusNotFound):
		return err
	}
	if p.Commit != "" {
		err := c.send(ctx, request{what: "examine the commit " + p.Commit, method: http.MethodGet, path: "/git/commits/" + p.Commit, query: url.Values{"stat": {"false"}, "files": {"false"}, "verification": {"false"}}})
		if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusUnprocessableEntity) {
			return fmt.Errorf("%s does not have the commit %s for the tag %s; push it first", c, p.Commit, p.Tag)
		}
		if err != nil {
			return err
		}
	}
	return c.checkProtection(ctx, p.Tag)
}

// checkProtection returns an error if nobody may create the tag. The forge tells only
// administrators of the repository.
func (c *Client) checkProtection(ctx context.Context, tag string) error {
	var list []struct {
		Pattern string   `json:"name_pattern"`
		Users   []string `json:"whitelist_usernames"`
		Teams   []string `json:"whitelist_teams"`
	}
	err := c.send(ctx, request{what: "examine the protected tags", method: http.MethodGet, path: "/tag_protections", answer: &list})
	if refused, ok := errors.AsType[*StatusError](err); ok && refused.Status/100 == 4 && refused.Status != http.StatusTooManyRequests {
		return nil
	}
	if err != nil {
		return err
	}
	for _, protection := range list {
		if len(protection.Users)+len(protection.Teams) == 0 && protects(protection.Pattern, tag) {
			return fmt.Errorf("the tag %s is protected in %s (%q), and nobody may create it; change the protection in the repository's settings (Tags)", tag, c, c.clean(protection.Pattern))
		}
	}
	return nil
}

// protects reports whether a forge's pattern certainly matches the tag: /a regular
// expression/, or a name with * and ?.
func protects(pattern, tag string) bool {
	if expression, ok := strings.CutPrefix(pattern, "/"); ok && strings.HasSuffix(expression, "/") {
		re, err := regexp.Compile(strings.TrimSuffix(expression, "/"))
		return err == nil && re.MatchString(tag)
	}
	ok, err := path.Match(pattern, tag)
	return ok && err == nil
}
