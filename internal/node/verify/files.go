package verify

import (
	"context"
	"errors"
	"fmt"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// nameFiles reads the altered paths again, file by file, and adds to their findings which
// files differ from the release's listing. If that is unknown, the finding's detail says
// why, and the verdict is unchanged.
func (c *contentsCheck) nameFiles(ctx context.Context, altered []int) error {
	for _, release := range c.audit.releases {
		var own []closure.PathInfo
		for _, i := range altered {
			if owner, _ := c.audit.owner(i); owner == release {
				own = append(own, c.audit.paths[i])
			}
		}
		if err := c.nameFilesOf(ctx, release, own); err != nil {
			return err
		}
	}
	return nil
}

// nameFilesOf is nameFiles of the altered paths of one release.
func (r *run) nameFilesOf(ctx context.Context, c *candidate, altered []closure.PathInfo) error {
	if len(altered) == 0 {
		return nil
	}
	wanted := make(map[closure.StorePath]closure.PathInfo, len(altered))
	for _, info := range altered {
		wanted[info.Path] = info
	}
	changes := make(map[closure.StorePath]fileChanges)
	notes := make(map[closure.StorePath]string)
	for listed, err := range c.Release.Files(ctx, c.manifest.Configuration, func(p closure.StorePath) bool { return wanted[p].Path != "" }) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.noListing(c, altered, err)
			return nil
		}
		changed, err := r.compareFiles(ctx, wanted[listed.Path], listed.Files)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			notes[listed.Path] = fmt.Sprintf("it is unknown which files differ: %v", err)
		default:
			changes[listed.Path] = changed
			if len(changed.files)+changed.more == 0 {
				notes[listed.Path] = "no file differed when it was read again: it changed in the meantime, or the disk reads unsteadily"
			}
		}
		delete(wanted, listed.Path)
	}
	for path := range wanted {
		notes[path] = "it is unknown which files differ: the release's listing lacks this path"
	}
	r.annotate(c, changes, notes)
	return nil
}

// noListing tells, for altered paths, why their files are not named. That the
// release has no listing, or cannot be reached any more, is no fault; that it
// has a false one is.
func (r *run) noListing(c *candidate, altered []closure.PathInfo, err error) {
	var untrusted *release.UntrustedError
	if errors.As(err, &untrusted) {
		r.find(report.Finding{Tier: report.TierContents, Cause: report.ReleaseUntrusted, Path: string(c.Release.Tag()), Detail: err.Error()})
	}
	notes := make(map[closure.StorePath]string)
	for _, info := range altered {
		notes[info.Path] = fmt.Sprintf("it is unknown which files differ: %v", err)
	}
	r.annotate(c, nil, notes)
}

// namesFiles are the causes whose findings name the files that differ.
var namesFiles = map[report.Cause]bool{
	closure.DiskAltered:            true,
	closure.DiskAndDatabaseAltered: true,
	closure.ReplacedUnexplained:    true,
	closure.CoverUp:                true,
	closure.OtherBuild:             true,
}

func (r *run) annotate(c *candidate, changes map[closure.StorePath]fileChanges, notes map[closure.StorePath]string) {
	tag := ""
	if c != r.chosen {
		tag = c.Tag
	}
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if f.Release != tag || f.Tier != report.TierContents || f.Field != "" || !namesFiles[f.Cause] {
			continue
		}
		path := closure.StorePath(f.Path)
		if note := notes[path]; note != "" {
			if f.Detail != "" {
				f.Detail += "; "
			}
			f.Detail += note
		}
		f.Files, f.MoreFiles = changes[path].files, changes[path].more
	}
}

// fileChanges are the files of one path that differ, and how many more do.
type fileChanges struct {
	files []closure.FileChange
	more  int
}

// compareFiles reads a path again and compares its files with the listed ones.
func (r *run) compareFiles(ctx context.Context, want closure.PathInfo, listed []nar.Entry) (fileChanges, error) {
	c := closure.NewFileComparison(listed)
	h := nar.NewHasher(nar.Options{
		Read: r.Read, DropBehind: r.DropBehind, MaxSize: largest(want),
		OnEntry: func(e nar.Entry) error { c.Add(e); return nil },
	})
	if _, err := h.Sum(ctx, r.store.File(), want.Path.Base()); err != nil {
		return fileChanges{}, err
	}
	files, more := c.End()
	return fileChanges{files, more}, nil
}
