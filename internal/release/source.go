package release

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/internal/hostfile"
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
	// Remote reports whether Open asks another machine: [Finder.Offline] leaves such
	// a source out, and what it offers may change between two requests.
	Remote() bool
	// String names the source for people, without secrets.
	String() string
}

// A Lister is a [Source] that knows which releases it has.
type Lister interface {
	Source
	// Tags returns the tags of all releases that the source has now, newest
	// first by their numbers; more than it can be asked for are an error.
	Tags(ctx context.Context) ([]Tag, error)
}

// offerer is a source that may have files of a release without offering it, as a
// forge has those of a draft.
type offerer interface {
	// checkOffered returns a *[NotFoundError] where tag is not offered.
	checkOffered(ctx context.Context, tag Tag) error
}

// offsetOpener is a source that can leave out the first bytes of an asset.
type offsetOpener interface {
	openAt(ctx context.Context, tag Tag, name string, limit, from int64) (io.ReadCloser, error)
}

// openAt opens an asset as src does, without its first from bytes.
func openAt(ctx context.Context, src Source, tag Tag, name string, limit, from int64) (io.ReadCloser, error) {
	if s, ok := src.(offsetOpener); ok && from > 0 {
		return s.openAt(ctx, tag, name, limit, from)
	}
	in, err := src.Open(ctx, tag, name, limit)
	if err != nil || from == 0 {
		return in, err
	}
	if _, err := io.CopyN(io.Discard, hostfile.WithContext(ctx, in), from); err != nil {
		in.Close()
		return nil, &UnavailableError{assetOf(name, tag), src.String(), err}
	}
	return in, nil
}

// sized is what a source's readers are where the source says beforehand how
// many bytes will come, or -1.
type sized interface{ Size() int64 }

// originReader is what a source's reader is where the source is made of several:
// it says which one it reads from.
type originReader struct {
	io.ReadCloser
	origin string
}

func (o *originReader) Size() int64 {
	if s, ok := o.ReadCloser.(sized); ok {
		return s.Size()
	}
	return -1
}

// origin returns in with where it comes from, unless it knows better.
func origin(src Source, in io.ReadCloser) io.ReadCloser {
	if _, known := in.(*originReader); known {
		return in
	}
	return &originReader{in, src.String()}
}

// SourceOption changes how [NewSource] reaches a source on the network.
type SourceOption func(*sourceOptions)

type sourceOptions struct {
	token     string
	timeouts  Timeouts
	transport http.RoundTripper
	notice    func(line string) // may be nil
}

// WithToken has token sent to the source's own host, and to no other.
func WithToken(token string) SourceOption {
	return func(o *sourceOptions) { o.token = token }
}

// WithNotice has notice be called with a line for people each time that something
// is asked for again: who waits hears what for. It is called from whatever reads.
func WithNotice(notice func(line string)) SourceOption {
	return func(o *sourceOptions) { o.notice = notice }
}

// schemes has what makes a source of a URL. A new kind of source is a file with its
// type, and a line here.
var schemes = map[string]func(*url.URL, sourceOptions) (Source, error){
	"file":  newFileSource,
	"https": newHTTPSource,
	"http":  newHTTPSource,
}

// NewSource returns the source that spec, one entry of release.source, names:
//
//	/DIR, ./DIR or file:///DIR                       a [DirSource]
//	https://HOST/OWNER/REPO/releases/download        an [HTTPSource]
//
// Plain http is taken for 127.0.0.1, [::1] and localhost only.
func NewSource(spec string, opts ...SourceOption) (Source, error) {
	if filepath.IsAbs(spec) || spec == "." || spec == ".." || strings.HasPrefix(spec, "./") || strings.HasPrefix(spec, "../") {
		return NewDirSource(spec), nil
	}
	u, err := url.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("parse source %q: not a URL; want a directory such as /srv/releases or ./releases, file:///DIR or https://HOST/OWNER/REPO/releases/download", redacted(spec))
	}
	options := sourceOptions{timeouts: DefaultTimeouts()}
	for _, opt := range opts {
		opt(&options)
	}
	if open := schemes[u.Scheme]; open != nil {
		return open(u, options)
	}
	return nil, fmt.Errorf("parse source %q: want a directory such as /srv/releases or ./releases, file:///DIR or https://HOST/OWNER/REPO/releases/download", redacted(spec))
}

// secretPattern is where a URL, even a malformed one, may hold a password or a
// token: before an @, and in the query and the fragment.
var secretPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]*:)?(/*)[^/?#]*@|([?#]).*$`)
})

// redacted returns spec as an error may show it.
func redacted(spec string) string {
	return clip(secretPattern().ReplaceAllString(spec, "${1}${2}${3}xxxxx"))
}
