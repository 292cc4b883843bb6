package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Release has the members that are read of a forge's release.
type Release struct {
	ID    int64  `json:"id"`
	Tag   string `json:"tag_name"`
	Draft bool   `json:"draft"`
	// Prerelease is a release that "latest" does not mean.
	Prerelease bool   `json:"prerelease"`
	URL        string `json:"html_url"`
	Body       string `json:"body"`
}

// Asset is one file of a forge's release.
type Asset struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// Find returns the release of tag, including a draft if the token's owner may write;
// nil for none.
func (c *Client) Find(ctx context.Context, tag string) (*Release, error) {
	r := new(Release)
	err := c.send(ctx, request{what: "find the release " + tag, method: http.MethodGet, path: "/releases/tags/" + url.PathEscape(tag), answer: r})
	switch {
	case err == nil && r.Tag == tag:
		return r, nil
	case err == nil && strings.EqualFold(r.Tag, tag):
		return nil, fmt.Errorf("find the release %s: %s has %q, and its tags are case-insensitive; publish under another tag", tag, c, c.clean(r.Tag))
	case err != nil && !isStatus(err, http.StatusNotFound):
		return nil, err
	}
	// There is none by that name, or the forge does not show drafts there. All pages
	// together may take as long as one answer.
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeouts.Least+c.timeouts.Answer, errTrickle)
	defer cancel()
	seen := 0
	for page := 1; page <= maxPages; page++ {
		var list []Release
		query := url.Values{"page": {strconv.Itoa(page)}, "limit": {strconv.Itoa(pageSize)}}
		if err := c.send(ctx, request{what: "list the releases", method: http.MethodGet, path: "/releases", query: query, answer: &list}); err != nil {
			return nil, err
		}
		for i := range list {
			if list[i].Tag == tag {
				return &list[i], nil
			}
		}
		seen += len(list)
		// The forge decides on the page size, and states the total number.
		if total, err := strconv.Atoi(c.header.Get("X-Total-Count")); len(list) == 0 || err == nil && seen >= total {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("list the releases: %s has more than %d pages of them", c, maxPages)
}

// create creates a draft of the release tag. When the draft is published, the forge
// creates the tag at commit, if commit is not empty.
func (c *Client) create(ctx context.Context, tag, commit, notes string) (*Release, error) {
	in, err := jsonBody(map[string]any{"tag_name": tag, "target_commitish": commit, "name": tag, "body": notes, "draft": true, "prerelease": false})
	if err != nil {
		return nil, err
	}
	r := new(Release)
	err = c.send(ctx, request{what: "create the release " + tag, method: http.MethodPost, path: "/releases", body: in, answer: r})
	if isStatus(err, http.StatusConflict) || err != nil && ctx.Err() == nil {
		// It exists after all: a failed try took effect, or somebody else was
		// quicker.
		if found, findErr := c.Find(ctx, tag); findErr == nil && found != nil {
			return found, nil
		}
	}
	if err == nil && (r.Tag != tag || r.ID <= 0) {
		return nil, fmt.Errorf("create the release %s: %s made another one (%q)", tag, c, c.clean(r.Tag))
	}
	return r, err
}

// change is an edit of a release. An empty text means unchanged; a forge would take
// it as no text.
type change struct {
	Draft      bool   `json:"draft"`
	Prerelease bool   `json:"prerelease"`
	Target     string `json:"target_commitish,omitzero"`
	Body       string `json:"body,omitzero"`
}

// edit changes a release; what describes the change, for errors.
func (c *Client) edit(ctx context.Context, what string, id int64, to change) (*Release, error) {
	in, err := jsonBody(to)
	if err != nil {
		return nil, err
	}
	r := new(Release)
	err = c.send(ctx, request{what: what, method: http.MethodPatch, path: fmt.Sprintf("/releases/%d", id), body: in, answer: r})
	if refused, ok := errors.AsType[*StatusError](err); ok && refused.Status == http.StatusInternalServerError && refused.Message == "" && !to.Draft {
		// What a forge answers where it cannot make the tag, without saying so.
		refused.Hint = "can it make the tag? Look whether it is protected in the settings of the repository, or push the tag yourself"
	}
	if err != nil {
		return nil, err
	}
	if r.Draft != to.Draft || r.Prerelease {
		return nil, fmt.Errorf("%s: %s did not do it", what, c)
	}
	return r, nil
}

// isDraft reports whether the release id is one now.
func (c *Client) isDraft(ctx context.Context, id int64) (bool, error) {
	r := new(Release)
	err := c.send(ctx, request{what: "examine the release", method: http.MethodGet, path: fmt.Sprintf("/releases/%d", id), answer: r})
	return r.Draft, err
}

// assets returns those of a release.
func (c *Client) assets(ctx context.Context, id int64) ([]Asset, error) {
	var list []Asset
	err := c.send(ctx, request{what: "list the assets", method: http.MethodGet, path: fmt.Sprintf("/releases/%d/assets", id), answer: &list})
	return list, err
}

// remove deletes one asset. One that is gone is deleted.
func (c *Client) remove(ctx context.Context, id int64, a Asset) error {
	err := c.send(ctx, request{what: "delete the asset " + a.Name, method: http.MethodDelete, path: fmt.Sprintf("/releases/%d/assets/%d", id, a.ID)})
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// rename gives an asset another name.
func (c *Client) rename(ctx context.Context, id int64, a Asset, name string) error {
	what := fmt.Sprintf("rename the asset %s to %s", a.Name, name)
	in, err := jsonBody(map[string]string{"name": name})
	if err != nil {
		return err
	}
	var renamed Asset
	if err := c.send(ctx, request{what: what, method: http.MethodPatch, path: fmt.Sprintf("/releases/%d/assets/%d", id, a.ID), body: in, answer: &renamed}); err != nil {
		return err
	}
	if renamed.Name != name {
		return fmt.Errorf("%s: %s has it as %q", what, c, c.clean(renamed.Name))
	}
	return nil
}

// removeNamed deletes every asset of that name but those in keep.
func (c *Client) removeNamed(ctx context.Context, id int64, name string, keep []Asset) error {
	list, err := c.assets(ctx, id)
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.Name != name || isOld(a, keep) {
			continue
		}
		if err := c.remove(ctx, id, a); err != nil {
			return err
		}
	}
	return nil
}

func isOld(a Asset, old []Asset) bool {
	return slices.ContainsFunc(old, func(o Asset) bool { return o.ID == a.ID })
}
