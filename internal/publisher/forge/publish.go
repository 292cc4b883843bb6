package forge

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// Publication is a release to be published on a forge.
type Publication struct {
	Tag    string
	Commit string // where the forge creates a missing tag; "" for its default branch
	Notes  string // text beside the release
	// Files are uploaded in this order: SHA256SUMS.txt and its signature come last.
	Files []File
	// Identity names the file that determines all others except Signature, such as a
	// list of checksums. A published release with the same identity is only
	// completed; one with another identity is not changed without Replace. "" always
	// replaces.
	Identity, Signature string
	Replace             bool
	// Revise returns the new text beside an existing release; nil keeps the text.
	Revise func(text string) string
	// Prune deletes the forge's assets that are not in Files.
	Prune bool
}

// Outcome is what Publish did or would do.
type Outcome struct {
	URL string `json:"url"`
	// Created: there was no release of this tag. Hidden: a published release was
	// without its Identity for a moment.
	Created bool `json:"created"`
	Hidden  bool `json:"hidden"`
	// Exposed: somebody pushed the tag while the draft was filled, so the forge
	// published it incomplete.
	Exposed bool `json:"-"`
	// WasPrerelease: it was a pre-release, which "latest" never means, and no longer
	// is.
	WasPrerelease bool     `json:"-"`
	Revised       bool     `json:"-"` // the text beside it was updated
	Uploaded      []string `json:"uploaded"`
	Replaced      []string `json:"replaced"` // those that replaced an asset
	Kept          []string `json:"kept"`     // files that were already there and were kept
	Pruned        []string `json:"pruned"`
	Beside        []string `json:"beside"` // kept assets that are not among the files
}

// Plan returns what Publish would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, p Publication) (Outcome, error) {
	_, _, o, err := c.prepare(ctx, &p)
	if err != nil {
		return o, err
	}
	for _, f := range p.Files {
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	return o, nil
}

// prepare returns the release of p.Tag, nil for none, with its assets, and what is to be
// done with it; it removes from p.Files what the release has.
func (c *Client) prepare(ctx context.Context, p *Publication) (r *Release, list []Asset, o Outcome, err error) {
	if r, err = c.look(ctx, *p); err != nil {
		return nil, nil, o, err
	}
	if r == nil {
		o.Created = true
		return nil, nil, o, nil
	}
	if list, err = c.assets(ctx, r.ID); err != nil {
		return nil, nil, o, err
	}
	if p.Files, o.Kept, err = c.lacking(ctx, *p, r, list); err != nil {
		return nil, nil, o, err
	}
	o.name(*p, list)
	o.URL, o.WasPrerelease = r.URL, r.Prerelease
	o.Hidden = !r.Draft && len(o.Replaced) > 0
	o.Revised = p.Revise != nil && p.Revise(r.Body) != r.Body
	return r, list, o, nil
}

// PublishedError means that a release is published with other contents.
type PublishedError struct {
	Tag, URL string
	// There and Here are the SHA-256 of its identity; There is "" if it has none.
	There, Here string
	Identity    string
}

func (e *PublishedError) Error() string {
	there := "and no " + e.Identity
	if e.There != "" {
		there = fmt.Sprintf("SHA-256 of %s %s there and %s here", e.Identity, e.There, e.Here)
	}
	return fmt.Sprintf("release %s is published at %s with other contents (%s), and machines that accepted those would refuse these; nothing was changed: publish under a new tag, or pass --replace", e.Tag, e.URL, there)
}

// lacking returns the files of p that the release r lacks, and the names of those
// that it has. Files of a draft are always uploaded again.
func (c *Client) lacking(ctx context.Context, p Publication, r *Release, list []Asset) (files []File, kept []string, err error) {
	mine := func(a Asset) bool { return p.index(a.Name) >= 0 }
	if r.Draft || p.Identity == "" || !slices.ContainsFunc(list, mine) {
		return p.Files, nil, nil
	}
	same, err := c.sameIdentity(ctx, p, r, list)
	switch {
	case err != nil:
		return nil, nil, err
	case !same:
		return p.Files, nil, nil
	}
	for _, f := range p.Files {
		has, err := c.has(ctx, p, f, list)
		switch {
		case err != nil:
			return nil, nil, err
		case has:
			kept = append(kept, f.Name)
		default:
			files = append(files, f)
		}
	}
	return files, kept, nil
}

// index returns the place of a file in p.Files, -1 for none.
func (p *Publication) index(name string) int {
	return slices.IndexFunc(p.Files, func(f File) bool { return f.Name == name })
}

// sameIdentity reports whether the published release r, with the assets in list, has p's
// identity. If it has another one, and no earlier run left it so, that is a
// *[PublishedError] unless p is to replace it.
func (c *Client) sameIdentity(ctx context.Context, p Publication, r *Release, list []Asset) (bool, error) {
	identity := p.index(p.Identity)
	if identity < 0 {
		return false, fmt.Errorf("%s is not among the files", p.Identity)
	}
	here := p.Files[identity].sum()
	there, err := c.digest(ctx, p.Tag, p.Identity)
	if isStatus(err, http.StatusNotFound) {
		var unfinished bool
		if unfinished, err = c.unfinished(ctx, p, here, list); unfinished && err == nil {
			return false, nil
		}
	}
	if err != nil || there == here || p.Replace {
		return err == nil && there == here, err
	}
	return false, &PublishedError{Tag: p.Tag, URL: r.URL, There: there, Here: here, Identity: p.Identity}
}

// has reports whether list has f, and nothing else of its name. The identity determines
// the contents of all files but the signature.
func (c *Client) has(ctx context.Context, p Publication, f File, list []Asset) (bool, error) {
	if !once(list, f.Size, func(a Asset) bool { return a.Name == f.Name }) {
		return false, nil
	}
	if f.Name != p.Signature {
		return true, nil
	}
	there, err := c.digest(ctx, p.Tag, f.Name)
	return there == f.sum(), err
}

// once reports whether exactly one asset of list matches, and has that size in bytes.
func once(list []Asset, size int64, match func(Asset) bool) bool {
	found := slices.DeleteFunc(slices.Clone(list), func(a Asset) bool { return !match(a) })
	return len(found) == 1 && found[0].Size == size
}

// unfinished reports whether the release with the assets in list, which lacks p's
// identity, was left by a run with these very files.
func (c *Client) unfinished(ctx context.Context, p Publication, here string, list []Asset) (bool, error) {
	another := false
	for _, name := range []string{incoming + p.Identity, outgoing + p.Identity} {
		if !slices.ContainsFunc(list, func(a Asset) bool { return a.Name == name }) {
			continue
		}
		there, err := c.digest(ctx, p.Tag, name)
		if err != nil && !isStatus(err, http.StatusNotFound) || there == here {
			return there == here, err
		}
		another = true
	}
	if another {
		return false, nil
	}
	return c.begun(ctx, p, list)
}

// begun reports whether the assets in list that share names with p's files have the
// same contents, as when somebody pushed the tag of a draft too early. No machine has
// accepted such a release. For large files only the size is compared: they are
// uploaded again.
func (c *Client) begun(ctx context.Context, p Publication, list []Asset) (bool, error) {
	for _, a := range list {
		i := p.index(a.Name)
		switch {
		case i < 0:
			continue
		case p.Files[i].Size != a.Size:
			return false, nil
		case a.Size > maxRead:
			continue
		}
		there, err := c.digest(ctx, p.Tag, a.Name)
		if err != nil || there != p.Files[i].sum() {
			return false, err
		}
	}
	return true, nil
}

// name records which assets of list are replaced, and which do not belong to p. Kept
// assets are neither.
func (o *Outcome) name(p Publication, list []Asset) {
	o.Replaced, o.Pruned, o.Beside = nil, nil, nil
	for _, a := range list {
		if slices.Contains(o.Kept, a.Name) || isPassing(a.Name) {
			continue
		}
		mine := p.index(a.Name) >= 0
		switch {
		case mine && !slices.Contains(o.Replaced, a.Name):
			o.Replaced = append(o.Replaced, a.Name)
		case mine:
		case p.Prune:
			o.Pruned = append(o.Pruned, a.Name)
		default:
			o.Beside = append(o.Beside, a.Name)
		}
	}
}

// Publish publishes p.Files as the release of p.Tag. On an error, a release that was
// not published before is a draft, unless nothing was done to it; a published one is
// unchanged or lacks its Identity. The same call completes it.
func (c *Client) Publish(ctx context.Context, p Publication) (Outcome, error) {
	r, list, o, err := c.prepare(ctx, &p)
	if err != nil {
		return o, err
	}
	if r == nil {
		if r, err = c.create(ctx, p.Tag, p.Commit, p.Notes); err != nil {
			return o, err
		}
	}
	settings := change{Draft: r.Draft, Target: p.Commit}
	work := len(p.Files) + len(o.Pruned)
	switch {
	case work == 0 && !r.Draft && !o.Revised && !o.WasPrerelease:
		return o, nil
	case work > 0 && !o.Created:
		// This shows whether the release may be changed at all before anything is
		// sent.
		if _, err = c.edit(ctx, "begin to change the release "+p.Tag, r.ID, settings); err != nil {
			return o, err
		}
	}
	c.progress.begin(p.Files)
	if err := c.fill(ctx, r, p, list, &o); err != nil {
		if !r.Draft {
			return o, fmt.Errorf("%w (release %s stays published, unchanged or without its %s; run the command again)", err, p.Tag, p.Identity)
		}
		return o, fmt.Errorf("%w (the release %s is a draft until this succeeds; run it again)", err, p.Tag)
	}
	settings.Draft = false
	if o.Revised {
		settings.Body = p.Revise(r.Body)
	}
	published, err := c.edit(ctx, "publish the release "+p.Tag, r.ID, settings)
	switch {
	case err != nil && r.Draft:
		return o, fmt.Errorf("%w (the release %s has everything and is still a draft; run this again)", err, p.Tag)
	case err != nil:
		return o, err
	}
	o.URL = published.URL
	return o, nil
}
