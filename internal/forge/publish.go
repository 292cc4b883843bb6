package forge

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// Publication is a release to be put on a forge.
type Publication struct {
	Tag    string
	Commit string // what the tag is given to where the forge has none; "" for its default branch
	Notes  string // text beside the release
	// Files are uploaded in this order: SHA256SUMS.txt and its signature come
	// last.
	Files []File
	// Identity is the one of Files that says what the others are, such as a list of
	// their checksums, but for Signature. A published release with the same one is
	// left as it is, but for what it lacks; with another one it is not touched without
	// Replace. "" replaces whatever there is.
	Identity, Signature string
	Replace             bool
	// Revise returns the text beside a release that is there already as it is to be
	// now; nil leaves it.
	Revise func(text string) string
	// Prune deletes the assets that the forge has beside Files.
	Prune bool
}

// Outcome says what Publish did, or would do.
type Outcome struct {
	URL string
	// Created: there was no release of this tag. Hidden: there was one, which was
	// published, and was a draft for the time being.
	Created, Hidden bool
	Uploaded        []string
	Replaced        []string // of those, the ones that the forge had
	Kept            []string // files that were there already, and were left
	Revised         bool     // the text beside it was brought up to date
	Beside          []string // assets that are not among the files, and were left
	Pruned          []string
}

// Plan returns what Publish would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, p Publication) (Outcome, error) {
	var o Outcome
	r, err := c.Find(ctx, p.Tag)
	if err != nil {
		return o, err
	}
	var list []Asset
	if r == nil {
		o.Created = true
	} else {
		if list, err = c.assets(ctx, r.ID); err != nil {
			return o, err
		}
		if p.Files, o.Kept, err = c.lacking(ctx, p, r, list); err != nil {
			return o, err
		}
		o.compare(p, o.Kept, list)
		o.URL, o.Hidden = r.URL, !r.Draft && len(p.Files)+len(o.Pruned) > 0
		o.Revised = p.Revise != nil && p.Revise(r.Body) != r.Body
	}
	for _, f := range p.Files {
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	return o, nil
}

// PublishedError says that a release is published with other contents.
type PublishedError struct {
	Tag, URL string
	// There and Here are the SHA-256 of its identity; There is "" where it has none.
	There, Here string
	Identity    string
}

func (e *PublishedError) Error() string {
	there := "and no " + e.Identity
	if e.There != "" {
		there = fmt.Sprintf("SHA-256 of %s %s there and %s here", e.Identity, e.There, e.Here)
	}
	return fmt.Sprintf("release %s is published at %s with other contents (%s): who has accepted them would refuse these; nothing was changed. Publish under a new tag, or pass --replace", e.Tag, e.URL, there)
}

// lacking returns the files of p that the release r lacks, and the names of those
// that it has. Of a draft nothing is believed.
func (c *Client) lacking(ctx context.Context, p Publication, r *Release, list []Asset) (files []File, kept []string, err error) {
	mine := func(a Asset) bool {
		return slices.ContainsFunc(p.Files, func(f File) bool { return f.Name == a.Name })
	}
	if r.Draft || p.Identity == "" || !slices.ContainsFunc(list, mine) {
		return p.Files, nil, nil
	}
	once := func(f File) bool {
		n := 0
		for _, a := range list {
			if a.Name == f.Name && a.Size == f.Size {
				n++
			} else if a.Name == f.Name {
				n = 2
			}
		}
		return n == 1
	}
	identity := slices.IndexFunc(p.Files, func(f File) bool { return f.Name == p.Identity })
	if identity < 0 {
		return nil, nil, fmt.Errorf("%s is not among the files", p.Identity)
	}
	there, err := c.digest(ctx, p.Tag, p.Identity)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, nil, err
	}
	if here := fmt.Sprintf("%x", p.Files[identity].Digest); there != here {
		if p.Replace {
			return p.Files, nil, nil
		}
		return nil, nil, &PublishedError{Tag: p.Tag, URL: r.URL, There: there, Here: here, Identity: p.Identity}
	}
	for _, f := range p.Files {
		has := once(f)
		if has && f.Name == p.Signature {
			there, err := c.digest(ctx, p.Tag, f.Name)
			if err != nil {
				return nil, nil, err
			}
			has = there == fmt.Sprintf("%x", f.Digest)
		}
		if has {
			kept = append(kept, f.Name)
		} else {
			files = append(files, f)
		}
	}
	return files, kept, nil
}

// compare says which assets are replaced, and which are none of p's. Those in kept
// are neither.
func (o *Outcome) compare(p Publication, kept []string, list []Asset) {
	for _, a := range list {
		if slices.Contains(kept, a.Name) {
			continue
		}
		mine := slices.ContainsFunc(p.Files, func(f File) bool { return f.Name == a.Name })
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

// Publish makes the release of p.Tag hold p.Files. An error says what was not
// done; the release is then a draft, unless nothing was done to it.
func (c *Client) Publish(ctx context.Context, p Publication) (o Outcome, err error) {
	r, err := c.Find(ctx, p.Tag)
	if err != nil {
		return o, err
	}
	var text *string // to be shown beside it
	if r == nil {
		o.Created = true
		if r, err = c.create(ctx, p.Tag, p.Commit, p.Notes); err != nil {
			return o, err
		}
	} else {
		list, err := c.assets(ctx, r.ID)
		if err != nil {
			return o, err
		}
		if p.Files, o.Kept, err = c.lacking(ctx, p, r, list); err != nil {
			return o, err
		}
		if p.Revise != nil {
			if revised := p.Revise(r.Body); revised != r.Body {
				text, o.Revised = &revised, true
			}
		}
		var look Outcome
		look.compare(p, o.Kept, list)
		if !r.Draft && len(p.Files)+len(look.Pruned) == 0 {
			o.URL, o.Beside = r.URL, look.Beside
			if text != nil {
				_, err = c.setDraft(ctx, r.ID, false, text)
			}
			return o, err
		}
	}
	if c.progress != nil {
		for _, f := range p.Files {
			c.progress.total.Add(f.Size)
		}
	}
	if !r.Draft {
		o.Hidden = true
		if _, err := c.setDraft(ctx, r.ID, true, nil); err != nil {
			return o, err
		}
	}
	if err := c.fill(ctx, r.ID, p, &o); err != nil {
		return o, fmt.Errorf("%w (the release %s is a draft until this succeeds; run it again)", err, p.Tag)
	}
	published, err := c.setDraft(ctx, r.ID, false, text)
	if err != nil {
		return o, fmt.Errorf("%w (the release %s has everything and is still a draft; run this again)", err, p.Tag)
	}
	o.URL = published.URL
	return o, nil
}

// fill makes the draft id hold the files of p, and holds it to that. What it held
// before goes when all of them are there, so that nothing is lost where one of them
// cannot be uploaded.
func (c *Client) fill(ctx context.Context, id int64, p Publication, o *Outcome) error {
	old, err := c.assets(ctx, id)
	if err != nil {
		return err
	}
	o.compare(p, o.Kept, old)
	for _, f := range p.Files {
		if c.progress != nil {
			c.progress.asset.Store(&f.Name)
		}
		err := c.upload(ctx, id, f, old)
		if isDuplicate(err) && slices.ContainsFunc(old, func(a Asset) bool { return a.Name == f.Name }) {
			// A forge that keeps no two assets of one name.
			if err = c.removeNamed(ctx, id, f.Name, nil); err == nil {
				err = c.upload(ctx, id, f, old)
			}
		}
		if err != nil {
			return err
		}
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	if err := c.holds(ctx, id, p, old); err != nil {
		return err
	}
	// Backwards: should the draft be seen all the same, the signature goes before
	// what it covers.
	for _, f := range slices.Backward(p.Files) {
		for _, a := range old {
			if a.Name == f.Name {
				if err := c.remove(ctx, id, a); err != nil {
					return err
				}
			}
		}
	}
	for _, a := range old {
		if slices.Contains(o.Pruned, a.Name) {
			if err := c.remove(ctx, id, a); err != nil {
				return err
			}
		}
	}
	return c.holds(ctx, id, p, nil)
}

// isDuplicate reports whether err may say that there is an asset of that name.
func isDuplicate(err error) bool {
	return isStatus(err, http.StatusConflict) || isStatus(err, http.StatusUnprocessableEntity)
}

// holds wants the release to have each file of p once, beside the assets in old.
func (c *Client) holds(ctx context.Context, id int64, p Publication, old []Asset) error {
	list, err := c.assets(ctx, id)
	if err != nil {
		return err
	}
	for _, f := range p.Files {
		n := 0
		for _, a := range list {
			switch {
			case a.Name != f.Name || isOld(a, old):
			case a.Size == f.Size:
				n++
			default:
				n = 2
			}
		}
		if n != 1 {
			return fmt.Errorf("%s does not have exactly one %s of %d bytes; is somebody else publishing under this tag?", c, f.Name, f.Size)
		}
	}
	return nil
}

func isOld(a Asset, old []Asset) bool {
	return slices.ContainsFunc(old, func(o Asset) bool { return o.ID == a.ID })
}
