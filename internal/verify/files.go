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

// nameFiles reads the altered paths once more, file by file, and adds to their
// findings which files differ from the release's listing. What cannot be told
// changes no verdict: it is said in the finding's detail.
func (r *run) nameFiles(ctx context.Context, altered []closure.PathInfo) error {
	if len(altered) == 0 {
		return nil
	}
	wanted := make(map[closure.StorePath]closure.PathInfo, len(altered))
	for _, info := range altered {
		wanted[info.Path] = info
	}
	changes := make(map[closure.StorePath][]closure.FileChange)
	notes := make(map[closure.StorePath]string)
	for listed, err := range r.chosen.Release.Files(ctx, r.manifest.Configuration, func(p closure.StorePath) bool { return wanted[p].Path != "" }) {
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.noListing(altered, err)
			return nil
		}
		got, err := r.listFiles(ctx, wanted[listed.Path])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			notes[listed.Path] = fmt.Sprintf("which files differ could not be told: %v", err)
		default:
			changes[listed.Path] = closure.CompareFiles(listed.Files, got)
			if len(changes[listed.Path]) == 0 {
				notes[listed.Path] = "no file differed when it was read again: it changed in the meantime, or the disk reads unsteadily"
			}
		}
		delete(wanted, listed.Path)
	}
	for path := range wanted {
		notes[path] = "which files differ could not be told: the release's listing does not have this path"
	}
	r.annotate(changes, notes)
	return nil
}

// noListing tells, for altered paths, why their files are not named. That the
// release has no listing, or cannot be reached any more, is no fault; that it
// has a false one is.
func (r *run) noListing(altered []closure.PathInfo, err error) {
	var untrusted *release.UntrustedError
	if errors.As(err, &untrusted) {
		r.find(report.Finding{Tier: report.TierContents, Cause: report.ReleaseUntrusted, Path: string(r.chosen.Release.Tag()), Detail: err.Error()})
	}
	notes := make(map[closure.StorePath]string)
	for _, info := range altered {
		notes[info.Path] = fmt.Sprintf("which files differ could not be told: %v", err)
	}
	r.annotate(nil, notes)
}

// namesFiles are the causes whose findings say which files differ.
var namesFiles = map[report.Cause]bool{
	closure.DiskAltered:            true,
	closure.DiskAndDatabaseAltered: true,
	closure.ReplacedUnexplained:    true,
	closure.CoverUp:                true,
	closure.OtherBuild:             true,
}

func (r *run) annotate(changes map[closure.StorePath][]closure.FileChange, notes map[closure.StorePath]string) {
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if f.Tier != report.TierContents || f.Field != "" || !namesFiles[f.Cause] {
			continue
		}
		path := closure.StorePath(f.Path)
		if note := notes[path]; note != "" {
			if f.Detail != "" {
				f.Detail += "; "
			}
			f.Detail += note
		}
		files := changes[path]
		if len(files) > report.MaxFiles {
			f.MoreFiles = len(files) - report.MaxFiles
			files = files[:report.MaxFiles]
		}
		f.Files = files
	}
}

// maxNamed bounds the files of one path that are held to be compared.
const maxNamed = 1 << 20

// listFiles returns the files of a path with their hashes.
func (r *run) listFiles(ctx context.Context, want closure.PathInfo) ([]nar.Entry, error) {
	var files []nar.Entry
	h := nar.NewHasher(nar.Options{Read: r.Read, DropBehind: r.DropBehind, MaxSize: largest(want), OnEntry: func(e nar.Entry) error {
		if len(files) == maxNamed {
			return fmt.Errorf("it holds more than %d files", maxNamed)
		}
		files = append(files, e)
		return nil
	}})
	if _, err := h.Sum(ctx, r.store.File(), want.Path.Base()); err != nil {
		return nil, err
	}
	return files, nil
}
