package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/hashicorp/go-retryablehttp"
)

// HTTPSource is the releases of a repository on a forge:
// https://HOST/OWNER/REPO/releases/download, with TAG/NAME behind it. Forgejo,
// Gitea and GitHub share that form.
type HTTPSource struct {
	base      *url.URL
	token     string
	timeouts  Timeouts
	transport http.RoundTripper
	client    *retryablehttp.Client
	notice    func(line string) // may be nil
}

// Timeouts bound every wait of an [HTTPSource].
type Timeouts struct {
	Connect time.Duration // for a connection, and again for its TLS handshake
	Header  time.Duration // for the first byte of an answer
	Stall   time.Duration // for the next bytes of a body
	// Retries is how often a request that failed is tried again, and how often
	// a body that broke off is taken up again.
	Retries int
	// Pause is the wait before the first retry; it doubles with each. MaxPause bounds it, and what a server may ask for with
	// Retry-After.
	Pause, MaxPause time.Duration
	// Least is the time that even the smallest asset may take, and MinRate how
	// many bytes of an asset's limit give it another second: together they bound
	// a body that trickles.
	Least   time.Duration
	MinRate int64
}

// DefaultTimeouts are the limits that [NewSource] sets.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Connect: 10 * time.Second, Header: 30 * time.Second, Stall: 30 * time.Second,
		Retries: 4, Pause: time.Second, MaxPause: time.Minute, Least: 2 * time.Minute, MinRate: 16 << 10,
	}
}

const (
	downloadPath = "/releases/download"
	maxRedirects = 5
	// maxAnswer bounds one page of a forge's list of releases, whose notes can
	// be long.
	maxAnswer = 8 << 20
	// A list of releases is read page by page, newest first.
	pageSize = 50
	maxPages = 4
	// maxListed bounds what a server that ignores the size of a page makes of it.
	maxListed = 1000
)

func newHTTPSource(u *url.URL, opts ...SourceOption) (*HTTPSource, error) {
	const want = "https://HOST/OWNER/REPO" + downloadPath
	base := *u
	base.Path = strings.TrimSuffix(base.Path, "/")
	repo, ok := strings.CutSuffix(base.Path, downloadPath)
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("parse source: %s has a user name or password in it; put the token into a file and name that in release.tokenFile", u.Redacted())
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("parse source %q: plain http is for this machine only; want %s", redacted(u.String()), want)
	case u.Host == "" || !ok || strings.Count(repo, "/") < 2 || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" || strings.Contains(repo+"/", "/../"):
		return nil, fmt.Errorf("parse source %q: want %s", redacted(u.String()), want)
	}
	s := &HTTPSource{base: &base, timeouts: DefaultTimeouts()}
	for _, opt := range opts {
		opt(s)
	}
	if err := checkToken(s.token); err != nil {
		return nil, fmt.Errorf("source %s: %w", s, err)
	}
	if s.transport == nil {
		s.transport = newTransport(s.timeouts)
	}
	s.client = &retryablehttp.Client{
		HTTPClient:   &http.Client{Transport: &tokenTransport{s}, CheckRedirect: s.checkRedirect},
		RetryMax:     s.timeouts.Retries,
		RetryWaitMin: s.timeouts.Pause,
		RetryWaitMax: s.timeouts.MaxPause,
		CheckRetry:   checkRetry,
		Backoff:      backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
		RequestLogHook: func(_ retryablehttp.Logger, req *http.Request, retry int) {
			if retry > 0 {
				s.again(req.Context(), retry)
			}
		},
	}
	return s, nil
}

func newTransport(t Timeouts) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: t.Connect}).DialContext,
		TLSHandshakeTimeout:    t.Connect,
		ResponseHeaderTimeout:  t.Header,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    2,
		// Lengths and ranges are those of the file itself.
		DisableCompression: true,
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkToken keeps what would change the request's form out of its header.
func checkToken(token string) error {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return errors.New("the access token has a blank or another character in it that no token has; is the file the right one?")
		}
	}
	if len(token) > 4096 {
		return errors.New("the access token is longer than 4096 characters; is the file the right one?")
	}
	return nil
}

// String returns the URL that the source was made from.
func (s *HTTPSource) String() string { return s.base.String() }

// Open implements [Source]. A body that breaks off is taken up again where it
// did.
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
	local := s.base.Scheme == "http" && req.URL.Scheme == "http" && isLoopback(req.URL.Hostname())
	if req.URL.Scheme != "https" && !local {
		return redirectError(fmt.Sprintf("redirected to %q, which is not https", clip(req.URL.Redacted())))
	}
	if req.URL.User != nil {
		return redirectError("redirected to a URL with a user name in it")
	}
	return nil
}

// redirectError is a redirect that is not followed; asking again does not
// change that.
type redirectError string

func (e redirectError) Error() string { return string(e) }

// tokenTransport adds the access token to requests to the source's own host.
// net/http would also send a header on to subdomains and other ports of it.
//
// It also leaves out the bodies that come with errors and redirects. Nobody
// reads them, but the clients on top of it drain them before they go on, and
// would wait for a stalled one for as long as the whole asset may take.
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

// attempt is what a request is for, and why it is made again.
type attempt struct {
	what string
	why  error
}

type attemptKey struct{}

// again says that a request is made once more.
func (s *HTTPSource) again(ctx context.Context, retry int) {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok && s.notice != nil {
		why := "it could not be had"
		if a.why != nil {
			why = a.why.Error()
		}
		s.notice(fmt.Sprintf("%s: %s from %s; asking again (%d of %d)", a.what, why, s, retry, s.timeouts.Retries))
	}
}

// get asks for url and returns an answer of one of the statuses in want. Every
// other outcome is a typed error about what.
func (s *HTTPSource) get(ctx context.Context, what, url string, header http.Header, want ...int) (*http.Response, error) {
	ctx = context.WithValue(ctx, attemptKey{}, &attempt{what: what})
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &UnavailableError{what, s.String(), err}
	}
	req.Header.Set("User-Agent", "ec-verify")
	// A request that does not say this leaves the compression to the server.
	req.Header.Set("Accept-Encoding", "identity")
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if resp != nil {
			resp.Body.Close() // of a redirect that is not followed
		}
		return nil, &UnavailableError{what, s.String(), plainError(ctx, err)}
	}
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	resp.Body.Close()
	return nil, s.statusError(what, resp)
}

func (s *HTTPSource) statusError(what string, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		hint := ""
		if s.token == "" {
			hint = "where the repository is private, set release.tokenFile"
		}
		return &NotFoundError{What: what, Source: s.String(), Hint: hint}
	case http.StatusUnauthorized, http.StatusForbidden:
		hint := "is the token in release.tokenFile still valid, and may it read the repository?"
		if s.token == "" {
			hint = "where the repository is private, set release.tokenFile"
		}
		return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d; %s", resp.StatusCode, hint)}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait, ok := retryAfter(resp); ok {
			return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d and asks to wait %s", resp.StatusCode, wait.Round(time.Second))}
		}
	}
	return &UnavailableError{what, s.String(), fmt.Errorf("the server answered %d", resp.StatusCode)}
}

// checkRetry retries what may pass by itself: a failed connection, 429 and
// 5xx; not a redirect, a certificate or a request that is wrong.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		switch {
		case err != nil:
			a.why = plainError(ctx, err)
		case resp != nil:
			a.why = fmt.Errorf("answer %d", resp.StatusCode)
		}
	}
	if resp != nil {
		// A server that asks for more patience than there is gets no request more.
		if wait, ok := retryAfter(resp); ok && wait > longestWait {
			return false, nil
		}
	}
	var redirect redirectError
	if isTLSError(err) || errors.As(err, &redirect) {
		return false, err
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// longestWait is the longest that a server may ask for with Retry-After before
// the attempt is given up at once.
const longestWait = 2 * time.Minute

// backoff waits as long as the server asks for, and otherwise twice as long
// each time.
func backoff(low, high time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil {
		if wait, ok := retryAfter(resp); ok {
			return min(wait, high)
		}
	}
	return retryablehttp.DefaultBackoff(low, high, attempt, nil)
}

// Tags implements [Lister] over the forge's API: published releases, no
// drafts and pre-releases, newest first by their numbers.
func (s *HTTPSource) Tags(ctx context.Context) ([]Tag, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeouts.Least+maxPages*s.timeouts.Header, errTrickle)
	defer cancel()
	var tags []Tag
	for page := 1; page <= maxPages; page++ {
		list, err := s.listPage(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			// What has another form cannot be fetched, and is none of ours.
			if tag, err := ParseTag(r.TagName); err == nil && !r.Draft && !r.Prerelease && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
		if len(list) == 0 {
			break
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int { return compareTags(b, a) })
	return tags, nil
}

// listedRelease is what is read of a release in a forge's answer. The forge
// may say more with each version, so unknown members are let be.
type listedRelease struct {
	TagName    string `json:"tag_name"`
	Draft      bool   `json:"draft"`
	Prerelease bool   `json:"prerelease"`
}

func (s *HTTPSource) listPage(ctx context.Context, page int) ([]listedRelease, error) {
	const what = "the list of releases"
	resp, err := s.get(ctx, what, s.listURL(page), http.Header{"Accept": {"application/json"}}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(&limitReader{resp.Body, maxAnswer, what, maxAnswer})
	if err != nil {
		if isTyped(err) {
			err = fmt.Errorf("a page of it is larger than %d bytes", maxAnswer)
		}
		return nil, &UnavailableError{what, s.String(), plainError(ctx, err)}
	}
	var list []listedRelease
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, &UnavailableError{what, s.String(), fmt.Errorf("the server's answer is not a list of releases: %s", jsonError(err))}
	}
	if len(list) > maxListed {
		return nil, &UnavailableError{what, s.String(), fmt.Errorf("a page of it has %d releases, %d were asked for", len(list), pageSize)}
	}
	return list, nil
}

// listURL returns the address of one page of releases. GitHub has its API on
// a host of its own; Forgejo and Gitea have theirs under the same host, before
// the path of the repository.
func (s *HTTPSource) listURL(page int) string {
	u := *s.base
	dir := strings.Split(strings.TrimSuffix(u.Path, downloadPath), "/")
	owner, repo := dir[len(dir)-2], dir[len(dir)-1]
	prefix := strings.Join(dir[:len(dir)-2], "/")
	q := url.Values{"page": {fmt.Sprint(page)}}
	if s.isGitHub() {
		u.Host, u.Path = gitHubAPI, "/repos/"+owner+"/"+repo+"/releases"
		q.Set("per_page", fmt.Sprint(pageSize))
	} else {
		u.Path = prefix + "/api/v1/repos/" + owner + "/" + repo + "/releases"
		q.Set("limit", fmt.Sprint(pageSize))
	}
	u.RawQuery = q.Encode()
	return u.String()
}
