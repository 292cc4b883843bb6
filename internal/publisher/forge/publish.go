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
	// published, and was without its Identity for a moment.
	Created, Hidden bool
	// Exposed: somebody pushed the tag while the draft was filled, and the forge has
	// published it before it was whole.
	Exposed bool
	// WasPrerelease: it was one, which "latest" never stands for, and is none now.
	WasPrerelease bool
	Uploaded      []string
	Replaced      []string // of those, the ones that the forge had
	Kept          []string // files that were there already, and were left
	Revised       bool     // the text beside it was brought up to date
	Beside        []string // assets that are not among the files, and were left
	Pruned        []string
}

// Plan returns what Publish would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, p Publication) (Outcome, error) {
	var o Outcome
	r, err := c.look(ctx, p)
	if err != nil {
		return o, err
	}
	if r == nil {
		o.Created = true
	} else if _, err := c.compare(ctx, &p, r, &o); err != nil {
		return o, err
	}
	for _, f := range p.Files {
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	return o, nil
}

// compare leaves of the files of p those that the release r lacks, says in o what
// there is to do, and returns what r has.
func (c *Client) compare(ctx context.Context, p *Publication, r *Release, o *Outcome) (list []Asset, err error) {
	if list, err = c.assets(ctx, r.ID); err != nil {
		return nil, err
	}
	if p.Files, o.Kept, err = c.lacking(ctx, *p, r, list); err != nil {
		return nil, err
	}
	o.name(*p, list)
	o.URL, o.WasPrerelease = r.URL, r.Prerelease
	o.Hidden = !r.Draft && len(o.Replaced) > 0
	o.Revised = p.Revise != nil && p.Revise(r.Body) != r.Body
	return list, nil
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
	here := fmt.Sprintf("%x", p.Files[identity].Digest)
	there, err := c.digest(ctx, p.Tag, p.Identity)
	if isStatus(err, http.StatusNotFound) {
		var unfinished bool
		if unfinished, err = c.unfinished(ctx, p, here, list); err == nil && unfinished {
			return p.Files, nil, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if there != here {
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

// unfinished reports whether the release that has the assets in list, and none that
// is p's identity, is of a run that was to put these very files there.
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

// begun reports whether what list has of p's files is p's, as where somebody pushed the
// tag of a draft before its identity was there. No machine has taken such a release. Of
// what is large the size alone is looked at: it is sent again.
func (c *Client) begun(ctx context.Context, p Publication, list []Asset) (bool, error) {
	for _, a := range list {
		i := slices.IndexFunc(p.Files, func(f File) bool { return f.Name == a.Name })
		switch {
		case i < 0:
			continue
		case p.Files[i].Size != a.Size:
			return false, nil
		case a.Size > maxRead:
			continue
		}
		there, err := c.digest(ctx, p.Tag, a.Name)
		if err != nil || there != fmt.Sprintf("%x", p.Files[i].Digest) {
			return false, err
		}
	}
	return true, nil
}

// name says which assets of list are replaced, and which are none of p's. Those that
// were kept are neither.
func (o *Outcome) name(p Publication, list []Asset) {
	o.Replaced, o.Pruned, o.Beside = nil, nil, nil
	for _, a := range list {
		if slices.Contains(o.Kept, a.Name) || isPassing(a.Name) {
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

// Publish makes the release of p.Tag have p.Files. An error says what was not done.
// One that was not published before is then a draft, unless nothing was done to it;
// one that was has what it had, or lacks its Identity, and the same call completes it.
func (c *Client) Publish(ctx context.Context, p Publication) (o Outcome, err error) {
	r, err := c.look(ctx, p)
	if err != nil {
		return o, err
	}
	var list []Asset
	if r == nil {
		o.Created = true
		if r, err = c.create(ctx, p.Tag, p.Commit, p.Notes); err != nil {
			return o, err
		}
	} else if list, err = c.compare(ctx, &p, r, &o); err != nil {
		return o, err
	}
	settings := change{Draft: r.Draft, Target: p.Commit}
	if work := len(p.Files) + len(o.Pruned); work == 0 && !r.Draft && !o.Revised && !o.WasPrerelease {
		return o, nil
	} else if work > 0 && !o.Created {
		// Whether this may be changed at all is known before anything is sent.
		if _, err = c.edit(ctx, "begin to change the release "+p.Tag, r.ID, settings); err != nil {
			return o, err
		}
	}
	if c.progress != nil {
		for _, f := range p.Files {
			c.progress.total.Add(f.Size)
		}
	}
	if err := c.fill(ctx, r, p, list, &o); err != nil {
		if !r.Draft {
			return o, fmt.Errorf("%w (the release %s stays published, and is as it was or lacks its %s; run it again)", err, p.Tag, p.Identity)
		}
		return o, fmt.Errorf("%w (the release %s is a draft until this succeeds; run it again)", err, p.Tag)
	}
	settings.Draft = false
	if o.Revised {
		settings.Body = p.Revise(r.Body)
	}
	published, err := c.edit(ctx, "publish the release "+p.Tag, r.ID, settings)
	if err != nil && r.Draft {
		return o, fmt.Errorf("%w (the release %s has everything and is still a draft; run this again)", err, p.Tag)
	} else if err != nil {
		return o, err
	}
	o.URL = published.URL
	return o, nil
}
