package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/httpclient"
)

// HTTPSource has the releases of a repository on a forge:
// https://HOST/OWNER/REPO/releases/download, followed by TAG/NAME. Forgejo, Gitea and
// GitHub share that form.
type HTTPSource struct {
	sourceOptions
	base   *url.URL
	client *http.Client
}

// Timeouts limits every wait of an [HTTPSource].
type Timeouts struct {
	Connect time.Duration // for a connection, and again for its TLS handshake
	Header  time.Duration // for the first byte of an answer
	Stall   time.Duration // for the next bytes of a body
	// Quiet is the time without a byte after which a notice names what is waited for; 0
	// for no notice. See [WithNotice].
	Quiet time.Duration
	// Retries is how often a failed request is repeated, and how often an interrupted
	// body is resumed.
	Retries int
	// Pause is the wait before the first retry; it doubles with each. MaxPause limits
	// it, and limits what a server may request with Retry-After.
	Pause, MaxPause time.Duration
	// Least is the time allowed for even the smallest asset. MinRate is how many
	// bytes of an asset's size limit add another second. Together they limit a slow
	// body.
	Least   time.Duration
	MinRate int64
}

// DefaultTimeouts returns the limits that [NewSource] sets.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Connect: 10 * time.Second, Header: 30 * time.Second, Stall: 30 * time.Second, Quiet: 5 * time.Second,
		Retries: 4, Pause: time.Second, MaxPause: time.Minute, Least: 2 * time.Minute, MinRate: 16 << 10,
	}
}

const (
	downloadPath = "/releases/download"
	maxRedirects = 5
	// maxAnswer limits one page of a forge's list of releases, whose notes can be
	// long.
	maxAnswer = 8 << 20
	// A list of releases is read page by page to its end. The server decides on the
	// page size and often sends less than requested.
	pageSize = 50
	maxPages = 100
	// maxListed limits the releases on one page, for servers that ignore the page
	// size; maxReleases limits all pages together.
	maxListed   = 1000
	maxReleases = 5000
	// maxRelease limits a forge's answer about one release.
	maxRelease = 4 << 20
)

func newHTTPSource(u *url.URL, options sourceOptions) (Source, error) {
	const want = "https://HOST/OWNER/REPO" + downloadPath
	base := *u
	base.Path = strings.TrimSuffix(base.Path, "/")
	repo, ok := strings.CutSuffix(base.Path, downloadPath)
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("parse source: %s contains a user name or password; put the token into a file and set release.tokenFile", u.Redacted())
	case u.Scheme == "http" && !httpclient.IsLoopback(u.Hostname()):
		return nil, fmt.Errorf("parse source %q: plain http is for this machine only; want %s", redacted(u.String()), want)
	case u.Host == "" || !ok || strings.Count(repo, "/") < 2 || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" || strings.Contains(repo+"/", "/../"):
		return nil, fmt.Errorf("parse source %q: want %s", redacted(u.String()), want)
	}
	s := &HTTPSource{sourceOptions: options, base: &base}
	if err := checkToken(s.token); err != nil {
		return nil, fmt.Errorf("source %s: %w", s, err)
	}
	if s.transport == nil {
		t := httpclient.NewTransport(s.timeouts.Connect, s.timeouts.Header)
		t.ForceAttemptHTTP2 = true
		// Lengths and ranges must be those of the file itself.
		t.DisableCompression = true
		s.transport = t
	}
	s.client = &http.Client{Transport: &tokenTransport{s}, CheckRedirect: s.checkRedirect}
	return s, nil
}

// retry returns how often a request is tried.
func (s *HTTPSource) retry() httpclient.Retry {
	return httpclient.Retry{Tries: s.timeouts.Retries + 1, Pause: s.timeouts.Pause, MaxPause: s.timeouts.MaxPause}
}

// checkToken rejects characters that could alter the request header.
func checkToken(token string) error {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return errors.New("the access token contains a space or another invalid character; is this the right file?")
		}
	}
	if len(token) > 4096 {
		return errors.New("the access token is longer than 4096 characters; is this the right file?")
	}
	return nil
}

// String returns the source's URL.
func (s *HTTPSource) String() string { return s.base.String() }

// Remote implements [Source].
func (s *HTTPSource) Remote() bool { return true }

// Open implements [Source]. An interrupted body is resumed.
func (s *HTTPSource) Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error) {
	return s.openAt(ctx, tag, name, limit, 0)
}

func (s *HTTPSource) openAt(ctx context.Context, tag Tag, name string, limit, from int64) (io.ReadCloser, error) {
	if _, err := ParseTag(string(tag)); err != nil {
		return nil, err
	}
	if err := CheckAssetName(name); err != nil {
		return nil, err
	}
	what := assetOf(name, tag)
	b := &body{
		source: s, what: what, limit: limit, size: -1, done: from,
		url: s.base.JoinPath(string(tag), name).String(),
	}
	b.ctx, b.cancel = context.WithTimeoutCause(ctx, s.timeouts.Least+time.Duration(limit/s.timeouts.MinRate)*time.Second, errTrickle)
	if err := b.start(); err != nil {
		b.Close()
		return nil, err
	}
	return &sizedBody{&limitReader{b, limit - from, what, limit}, b}, nil
}

type sizedBody struct {
	io.Reader
	b *body
}

func (s *sizedBody) Close() error { return s.b.Close() }
func (s *sizedBody) Size() int64  { return s.b.size }

var errTrickle = errors.New("the transfer is too slow")

// checkRedirect follows a few redirects, never from https to http.
func (s *HTTPSource) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return redirectError(fmt.Sprintf("more than %d redirects", maxRedirects))
	}
	local := s.base.Scheme == "http" && req.URL.Scheme == "http" && httpclient.IsLoopback(req.URL.Hostname())
	if req.URL.Scheme != "https" && !local {
		return redirectError(fmt.Sprintf("redirected to %q, which is not https", clip(req.URL.Redacted())))
	}
	if req.URL.User != nil {
		return redirectError("redirected to a URL with a user name in it")
	}
	return nil
}

// redirectError is a refused redirect; a retry would not help.
type redirectError string

func (e redirectError) Error() string { return string(e) }

// tokenTransport adds the access token to requests to the source's own host only.
// net/http would also send a header on to subdomains and other ports of it.
//
// It also drops the bodies of errors and redirects. Nobody reads them, but the
// clients on top drain them before they continue, and would wait for a stalled one
// for as long as the whole asset may take.
type tokenTransport struct{ s *HTTPSource }

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.s.token != "" && t.s.isOwn(req.URL) {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "token "+t.s.token)
	}
	resp, err := t.s.transport.RoundTrip(req)
	if err == nil && resp.StatusCode/100 != 2 {
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, err
}

func (s *HTTPSource) isOwn(u *url.URL) bool {
	if u.Scheme != s.base.Scheme {
		return false
	}
	return u.Host == s.base.Host || s.isGitHub() && u.Host == gitHubAPI
}

const (
	gitHubHost = "github.com"
	gitHubAPI  = "api.github.com"
)

func (s *HTTPSource) isGitHub() bool { return s.base.Host == gitHubHost }

// attempt describes a request and why it is repeated.
type attempt struct {
	what    string
	silence *silence
	why     atomic.Pointer[string] // nil for an attempt that is still under way
}

func (a *attempt) failed(why error) {
	text := why.Error()
	a.why.Store(&text)
}

// get requests url and returns an answer with one of the statuses in want. Every
// other outcome is a typed error about what.
func (s *HTTPSource) get(ctx context.Context, what, url string, header http.Header, want ...int) (*http.Response, error) {
	a := &attempt{what: what}
	a.silence = s.watchSilence(func() string {
		if why := a.why.Load(); why != nil {
			return fmt.Sprintf("%s: %s from %s; waiting before trying again, %d times at most", what, *why, s, s.timeouts.Retries)
		}
		return fmt.Sprintf("%s: no answer from %s for %s; waiting for up to %s, %d times", what, s, s.timeouts.Quiet, s.timeouts.Header, s.timeouts.Retries+1)
	})
	defer a.silence.end()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &UnavailableError{what, s.String(), err}
	}
	req.Header.Set("User-Agent", "ec-verify")
	// Without this header, the server may compress the answer.
	req.Header.Set("Accept-Encoding", "identity")
	maps.Copy(req.Header, header)
	resp, err := httpclient.Do(ctx, s.retry(), func(n int) (*http.Response, error) {
		if n > 0 {
			s.again(a, n)
		}
		return s.getOnce(req, a, want)
	})
	if err != nil && !isUnavailable(err) && !errors.Is(err, ErrNotFound) {
		err = &UnavailableError{what, s.String(), err}
	}
	return resp, err
}

// again announces a retry.
func (s *HTTPSource) again(a *attempt, retry int) {
	if s.notice != nil {
		a.silence.end()
		s.notice(fmt.Sprintf("%s: %s from %s; trying again (%d of %d)", a.what, *a.why.Load(), s, retry, s.timeouts.Retries))
	}
}

// getOnce sends req one time. Retried is what may be temporary: a failed connection, 429
// and 5xx; not a redirect or a certificate error.
func (s *HTTPSource) getOnce(req *http.Request, a *attempt, want []int) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		if resp != nil {
			resp.Body.Close() // of a redirect that is not followed
		}
		err = plainError(req.Context(), err)
		a.failed(err)
		var redirect redirectError
		if req.Context().Err() != nil || httpclient.IsTLS(err) || errors.As(err, &redirect) {
			err = httpclient.Final(err)
		}
		return nil, err
	}
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	resp.Body.Close()
	a.failed(fmt.Errorf("answer %d", resp.StatusCode))
	err = s.statusError(a.what, resp)
	temporary := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
	switch wait, requested := httpclient.RetryAfter(resp); {
	case !temporary, wait > longestWait:
		return nil, httpclient.Final(err)
	case requested:
		return nil, httpclient.Later(err, wait)
	}
	return nil, err
}

// longestWait is the longest wait that a server may request with Retry-After before
// the attempt is given up.
const longestWait = 2 * time.Minute

func (s *HTTPSource) statusError(what string, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		hint := ""
		if s.token == "" {
			hint = "if the repository is private, set release.tokenFile"
		}
		return &NotFoundError{What: what, Source: s.String(), Hint: hint}
	case http.StatusUnauthorized, http.StatusForbidden:
		if resp.Header.Get("X-RateLimit-Remaining") == "0" {
			return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d and limits the rate of requests%s", resp.StatusCode, rateLimitEnd(resp))}
		}
		hint := "is the token in release.tokenFile still valid, and may it read the repository?"
		if s.token == "" {
			hint = "if the repository is private, set release.tokenFile"
		}
		return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d; %s", resp.StatusCode, hint)}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait, ok := httpclient.RetryAfter(resp); ok {
			return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d and asks to wait %s", resp.StatusCode, wait.Round(time.Second))}
		}
	}
	return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d", resp.StatusCode)}
}

// rateLimitEnd returns when the server's rate limit ends; "" if unknown.
func rateLimitEnd(resp *http.Response) string {
	n, err := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return ""
	}
	return ", until " + day(time.Unix(n, 0))
}

// Tags implements [Lister] over the forge's API: published releases without drafts
// and pre-releases, newest first by their numbers. A list that can't be read to its
// end is an *[UnavailableError].
func (s *HTTPSource) Tags(ctx context.Context) ([]Tag, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeouts.Least+4*s.timeouts.Header, errTrickle)
	defer cancel()
	list, err := s.list(ctx)
	if errors.Is(err, errListChanged) {
		// Publishing or deleting a release in the meantime moved the pages.
		list, err = s.list(ctx)
	}
	if err != nil {
		return nil, err
	}
	var tags []Tag
	for _, r := range list {
		// A tag of another form can't be fetched, and is not one of ours.
		if tag, err := ParseTag(r.TagName); err == nil && !r.Draft && !r.Prerelease {
			tags = append(tags, tag)
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int { return compareTags(b, a) })
	return slices.Compact(tags), nil
}

// listedRelease has the members read from a forge's answer. Later versions of a forge
// may add members, so unknown ones are ignored.
type listedRelease struct {
	TagName    string `json:"tag_name"`
	Draft      bool   `json:"draft"`
	Prerelease bool   `json:"prerelease"`
}

const releaseList = "the list of releases"

var errListChanged = errors.New("it changed while it was read")

// list returns all pages of the list.
func (s *HTTPSource) list(ctx context.Context) ([]listedRelease, error) {
	var all []listedRelease
	fail := func(err error) ([]listedRelease, error) { return nil, &UnavailableError{releaseList, s.String(), err} }
	for page := 1; ; page++ {
		list, header, err := s.listPage(ctx, page)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		total, err := strconv.Atoi(header.Get("X-Total-Count"))
		links := header.Get("Link")
		switch {
		case len(all) > maxReleases || err == nil && total > maxReleases:
			return fail(fmt.Errorf("it has more than %d releases, the maximum; name a tag", maxReleases))
		case len(list) > 0 && err == nil && len(all) < total, len(list) > 0 && err != nil && links == "", strings.Contains(links, `rel="next"`) && len(list) > 0:
			if page == maxPages {
				return fail(fmt.Errorf("it has more than %d pages (%d releases so far), the maximum; name a tag", maxPages, len(all)))
			}
		case err == nil && len(all) < total:
			return fail(errListChanged)
		default:
			return all, nil
		}
	}
}

func (s *HTTPSource) listPage(ctx context.Context, page int) ([]listedRelease, http.Header, error) {
	var list []listedRelease
	header, err := s.ask(ctx, releaseList, s.apiURL("", url.Values{"page": {strconv.Itoa(page)}, s.pageSizeName(): {strconv.Itoa(pageSize)}}), maxAnswer, &list)
	if err != nil {
		return nil, nil, err
	}
	if len(list) > maxListed {
		return nil, nil, &UnavailableError{releaseList, s.String(), fmt.Errorf("a page of it has %d releases instead of %d", len(list), pageSize)}
	}
	return list, header, nil
}

// ask decodes the answer of the forge's API into out, at most limit bytes. A missing
// resource is a *[NotFoundError].
func (s *HTTPSource) ask(ctx context.Context, what, url string, limit int64, out any) (http.Header, error) {
	resp, err := s.get(ctx, what, url, http.Header{"Accept": {"application/json"}}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(&limitReader{resp.Body, limit, what, limit})
	if err != nil {
		if isTyped(err) {
			err = fmt.Errorf("an answer is larger than %d bytes", limit)
		}
		return nil, &UnavailableError{what, s.String(), plainError(ctx, err)}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, &UnavailableError{what, s.String(), fmt.Errorf("unexpected answer from the server: %s", jsonError(err))}
	}
	return resp.Header, nil
}

// checkOffered implements [offerer]: drafts are not found. A draft may be incomplete
// or withdrawn, and a forge serves it to every token whose owner may write. Without a
// token no forge serves drafts, and GitHub never serves one under its tag.
func (s *HTTPSource) checkOffered(ctx context.Context, tag Tag) error {
	if s.token == "" || s.isGitHub() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeouts.Least, errTrickle)
	defer cancel()
	what := "release " + string(tag)
	var r listedRelease
	_, err := s.ask(ctx, what, s.apiURL("/tags/"+string(tag), nil), maxRelease, &r)
	switch {
	case errors.Is(err, ErrNotFound):
		// The release is missing, or the server has no such API: the download will
		// show which.
		return nil
	case err != nil:
		return err
	case r.Draft:
		return &NotFoundError{What: what, Source: s.String(), Hint: "it exists only as a draft"}
	case r.TagName != string(tag):
		return &NotFoundError{What: what, Source: s.String(), Hint: fmt.Sprintf("the server returned %q instead", clip(r.TagName))}
	}
	return nil
}

// apiURL returns the API address of the releases. GitHub has its API on a separate
// host; Forgejo and Gitea have it on the same host, before the path of the
// repository.
func (s *HTTPSource) apiURL(rest string, query url.Values) string {
	u := *s.base
	dir := strings.Split(strings.TrimSuffix(u.Path, downloadPath), "/")
	owner, repo := dir[len(dir)-2], dir[len(dir)-1]
	prefix := strings.Join(dir[:len(dir)-2], "/") + "/api/v1"
	if s.isGitHub() {
		u.Host, prefix = gitHubAPI, ""
	}
	u.Path = prefix + "/repos/" + owner + "/" + repo + "/releases" + rest
	u.RawQuery = query.Encode()
	return u.String()
}

// pageSizeName returns the name of the page-size parameter.
func (s *HTTPSource) pageSizeName() string {
	if s.isGitHub() {
		return "per_page"
	}
	return "limit"
}
