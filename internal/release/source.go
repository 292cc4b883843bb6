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

// A Source is a place that has releases. Its data is not trusted: [Open] makes a
// [Release] of it. Implementations are safe for concurrent use.
type Source interface {
	// Open returns the asset name of the release tag; the caller reads it to its end
	// and closes it. With the empty tag, a source with exactly one release returns
	// that one.
	//
	// The reader returns at most limit bytes: a larger asset fails with an
	// *[UntrustedError] of [ReasonTooLarge], at Open or during a read. A missing
	// asset is a *[NotFoundError], any other failure an *[UnavailableError].
	Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error)
	// Remote reports whether Open asks another machine. [Finder.Offline] skips such a
	// source, and its contents may change between two requests.
	Remote() bool
	// String names the source for people, without secrets.
	String() string
}

// A Lister is a [Source] that can list its releases.
type Lister interface {
	Source
	// Tags returns the tags of all releases in the source, newest first by their
	// numbers. It is an error if there are more than can be listed.
	Tags(ctx context.Context) ([]Tag, error)
}

// offerer is a source that may have files of a release that it does not offer, as a
// forge has those of a draft.
type offerer interface {
	// checkOffered returns a *[NotFoundError] if tag is not offered.
	checkOffered(ctx context.Context, tag Tag) error
}

// offsetOpener is a source that can skip the first bytes of an asset.
type offsetOpener interface {
	openAt(ctx context.Context, tag Tag, name string, limit, from int64) (io.ReadCloser, error)
}

// openAt opens an asset of src and skips its first from bytes.
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

// sized is implemented by readers of a source that knows the number of bytes to come;
// -1 if unknown.
type sized interface{ Size() int64 }

// originReader is the reader of a source made of several sources; it names the one
// that it reads from.
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

// origin returns in with src as its origin, unless in already has one.
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

// WithToken sends token to the source's own host only.
func WithToken(token string) SourceOption {
	return func(o *sourceOptions) { o.token = token }
}

// WithNotice calls notice with a line for people each time a request is repeated, and
// when nothing has come for [Timeouts].Quiet, to explain the wait. It is called from the
// reading goroutine, or beside it.
func WithNotice(notice func(line string)) SourceOption {
	return func(o *sourceOptions) { o.notice = notice }
}

// schemes maps URL schemes to constructors. To add a kind of source, add a file with
// its type and a line here.
var schemes = map[string]func(*url.URL, sourceOptions) (Source, error){
	"file":  newFileSource,
	"https": newHTTPSource,
	"http":  newHTTPSource,
}

// NewSource returns the source named by spec, one entry of release.source:
//
//	/DIR, ./DIR or file:///DIR                       a [DirSource]
//	https://HOST/OWNER/REPO/releases/download        an [HTTPSource]
//
// Plain http is accepted only for 127.0.0.1, [::1] and localhost.
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

// secretPattern matches the parts of a URL, even a malformed one, that may contain a
// password or a token: before an @, and in the query and the fragment.
var secretPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^([A-Za-z][A-Za-z0-9+.-]*:)?(/*)[^/?#]*@|([?#]).*$`)
})

// redacted returns spec without secrets, for errors.
func redacted(spec string) string {
	return clip(secretPattern().ReplaceAllString(spec, "${1}${2}${3}xxxxx"))
}
