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
	for _, f := range p.Files {
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	if r == nil {
		o.Created = true
		return o, nil
	}
	o.URL, o.Hidden = r.URL, !r.Draft
	list, err := c.assets(ctx, r.ID)
	if err != nil {
		return o, err
	}
	o.compare(p, list)
	return o, nil
}

// compare says which assets are replaced, and which are none of p's.
func (o *Outcome) compare(p Publication, list []Asset) {
	for _, a := range list {
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
	if c.progress != nil {
		for _, f := range p.Files {
			c.progress.total.Add(f.Size)
		}
	}
	r, err := c.Find(ctx, p.Tag)
	if err != nil {
		return o, err
	}
	if r == nil {
		o.Created = true
		if r, err = c.create(ctx, p.Tag, p.Commit, p.Notes); err != nil {
			return o, err
		}
	}
	if !r.Draft {
		o.Hidden = true
		if _, err := c.setDraft(ctx, r.ID, true); err != nil {
			return o, err
		}
	}
	if err := c.fill(ctx, r.ID, p, &o); err != nil {
		return o, fmt.Errorf("%w (the release %s is a draft until this succeeds; run it again)", err, p.Tag)
	}
	published, err := c.setDraft(ctx, r.ID, false)
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
	o.compare(p, old)
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
