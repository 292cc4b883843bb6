package forge

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Name prefixes of assets that are not in place: one not there yet, and one
// temporarily removed.
const (
	incoming = "incoming-"
	outgoing = "outgoing-"
)

// isPassing reports whether the name is that of an asset not in place.
func isPassing(name string) bool {
	return strings.HasPrefix(name, incoming) || strings.HasPrefix(name, outgoing)
}

// fill uploads the files of p to the release r, which has the assets in old.
//
// A concurrent reader, of a draft that the forge publishes or of the published
// release, sees the old files, then a release without p's identity, then the new
// files. A file that replaces another is uploaded under a temporary name, and the
// identity always is. When everything is on the forge, the old identity is deleted,
// then the other files are renamed into place, and the identity comes last.
func (c *Client) fill(ctx context.Context, r *Release, p Publication, old []Asset, o *Outcome) error {
	if err := c.askTypes(ctx, r.ID, p.Files, old); err != nil {
		return err
	}
	var passing []Asset            // by their final names
	sent := make(map[string]int64) // the asset of each file
	for _, f := range ordered(p) {
		c.progress.file(f.Name)
		as := f
		if f.Name == p.Identity || slices.Contains(o.Replaced, f.Name) {
			as.Name = incoming + f.Name
		}
		a, err := c.upload(ctx, r.ID, as, old)
		if isDuplicate(err) && slices.ContainsFunc(old, func(a Asset) bool { return a.Name == as.Name }) {
			// The forge keeps only one asset per name, or an earlier run left one.
			if err = c.removeNamed(ctx, r.ID, as.Name, nil); err == nil {
				a, err = c.upload(ctx, r.ID, as, old)
			}
		}
		if err != nil {
			return err
		}
		sent[f.Name] = a.ID
		if as.Name != f.Name {
			passing = append(passing, Asset{ID: a.ID, Name: f.Name})
		}
		o.Uploaded = append(o.Uploaded, f.Name)
	}
	if r.Draft {
		draft, err := c.isDraft(ctx, r.ID)
		if err != nil {
			return err
		}
		o.Exposed = !draft
	}
	if err := c.holds(ctx, r.ID, p, sent); err != nil {
		return err
	}
	if err := c.checkTag(ctx, p); err != nil {
		return err
	}
	return c.settle(ctx, r.ID, p, old, passing, o)
}

// ordered returns the files of p in upload order: small ones first, since a forge
// refuses them as early as large ones; the signature and the identity last.
func ordered(p Publication) []File {
	rank := func(f File) int {
		switch f.Name {
		case p.Identity:
			return 2
		case p.Signature:
			return 1
		}
		return 0
	}
	files := slices.Clone(p.Files)
	slices.SortStableFunc(files, func(a, b File) int {
		if d := rank(a) - rank(b); d != 0 || p.Identity == "" {
			return d
		}
		return cmp.Compare(a.Size, b.Size)
	})
	return files
}

// settle gives the uploaded assets passing their final names, in the order of upload: the
// identity comes last.
func (c *Client) settle(ctx context.Context, id int64, p Publication, old, passing []Asset, o *Outcome) error {
	var rest, identities []Asset
	for _, a := range old {
		switch {
		case p.Identity != "" && a.Name == p.Identity:
			identities = append(identities, a)
		case slices.Contains(o.Replaced, a.Name) || slices.Contains(o.Pruned, a.Name) || isPassing(a.Name):
			rest = append(rest, a)
		}
	}
	var back *Asset // the identity, if it stays the same
	if len(o.Replaced) > 0 {
		var err error
		if back, err = c.retire(ctx, id, identities, o); err != nil {
			return err
		}
	}
	for _, a := range rest {
		if err := c.remove(ctx, id, a); err != nil {
			return err
		}
	}
	for _, a := range passing {
		if err := c.rename(ctx, id, Asset{ID: a.ID, Name: incoming + a.Name}, a.Name); err != nil {
			return err
		}
	}
	if back != nil {
		if err := c.rename(ctx, id, Asset{ID: back.ID, Name: outgoing + back.Name}, back.Name); err != nil {
			return err
		}
	}
	return c.holds(ctx, id, p, nil)
}

// retire removes the assets that are a release's identity, or renames one that is kept and
// returns it.
func (c *Client) retire(ctx context.Context, id int64, identities []Asset, o *Outcome) (back *Asset, err error) {
	for _, a := range identities {
		if slices.Contains(o.Kept, a.Name) {
			err, back = c.rename(ctx, id, a, outgoing+a.Name), &a
		} else {
			err = c.remove(ctx, id, a)
		}
		if err != nil {
			return nil, err
		}
	}
	return back, nil
}

// isDuplicate reports whether err may mean that an asset of that name exists.
func isDuplicate(err error) bool {
	return isStatus(err, http.StatusConflict) || isStatus(err, http.StatusUnprocessableEntity)
}

// holds checks that the release has each file of p: as the asset in sent or, if sent
// is nil, exactly once under its name.
func (c *Client) holds(ctx context.Context, id int64, p Publication, sent map[string]int64) error {
	list, err := c.assets(ctx, id)
	if err != nil {
		return err
	}
	for _, f := range p.Files {
		if !once(list, f.Size, func(a Asset) bool {
			if sent != nil {
				return a.ID == sent[f.Name]
			}
			return a.Name == f.Name
		}) {
			return fmt.Errorf("%s does not have exactly one %s of %d bytes; is somebody else publishing under this tag?", c, f.Name, f.Size)
		}
	}
	return nil
}

// askTypes uploads the beginning of a file to ask whether the forge accepts its type,
// for each type that only has large files: a refusal would otherwise come late.
func (c *Client) askTypes(ctx context.Context, id int64, files []File, old []Asset) error {
	smallest := make(map[string]File)
	for _, f := range files {
		kind := extension(f.Name)
		if other, ok := smallest[kind]; !ok || f.Size < other.Size {
			smallest[kind] = f
		}
	}
	for _, f := range files {
		if f.Size <= expectFrom || smallest[extension(f.Name)].Name != f.Name {
			continue
		}
		a, err := c.uploadPart(ctx, id, f, probeSize, old)
		if err != nil {
			return err
		}
		if err := c.remove(ctx, id, a); err != nil {
			return err
		}
	}
	return nil
}

// probeSize is how many bytes of a file a forge reads to detect its type.
const probeSize = 1024

func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return strings.ToLower(name[i:])
	}
	return ""
}
