package release

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// A Source is a place that releases come from. What it gives is not trusted:
// [Open] is what makes a [Release] of it. Implementations are safe for
// concurrent use.
type Source interface {
	// Open returns the asset name of the release tag, which the caller reads to
	// its end and closes. With the empty tag a source that holds exactly one
	// release gives that one.
	//
	// Reading gives at most limit bytes: an asset that is larger fails with an
	// *[UntrustedError] of [ReasonTooLarge], at Open or while it is read. What
	// does not exist is a *[NotFoundError], everything else that goes wrong an
	// *[UnavailableError].
	Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error)
	// String names the source for people, without secrets.
	String() string
}

// A Lister is a [Source] that knows which releases it has.
type Lister interface {
	Source
	// Tags returns the tags of the releases that the source has now, newest
	// first by their numbers, at most a few hundred.
	Tags(ctx context.Context) ([]Tag, error)
}

// sized is what a source's readers are where the source says beforehand how
// many bytes will come, or -1.
type sized interface{ Size() int64 }

// NewSource returns the source that spec, one entry of release.source, names:
//
//	/DIR, ./DIR or file:///DIR                       a [DirSource]
func NewSource(spec string) (Source, error) {
	if filepath.IsAbs(spec) || spec == "." || spec == ".." || strings.HasPrefix(spec, "./") || strings.HasPrefix(spec, "../") {
		return NewDirSource(spec), nil
	}
	u, err := url.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("parse source %q: not a URL; want a directory such as /srv/releases or file:///DIR", clip(spec))
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("parse source %q: want file:///DIR", clip(spec))
		}
		return NewDirSource(u.Path), nil
	}
	return nil, fmt.Errorf("parse source %q: want a directory such as /srv/releases or file:///DIR", clip(spec))
}
