package forge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/httpclient"
	"every.channel/ec-verify/pkg/excerpt"
)

// Timeouts limits every wait of a [Client].
type Timeouts struct {
	Connect time.Duration // for a connection, and again for its TLS handshake
	// Answer limits the wait for the first byte of an answer after the request is
	// sent: a forge copies a large asset to its storage before it answers.
	Answer time.Duration
	// Tries is how often a request is sent in all if its failure may be temporary.
	Tries uint
	// Pause is the wait before the second try; it doubles, up to MaxPause.
	Pause, MaxPause time.Duration
	// Least is the time that any request may take, and MinRate how many bytes add
	// another second.
	Least   time.Duration
	MinRate int64
}

// DefaultTimeouts are the limits that [New] sets.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Connect: 10 * time.Second, Answer: 10 * time.Minute, Tries: 5, Pause: 2 * time.Second, MaxPause: time.Minute,
		Least: 2 * time.Minute, MinRate: 64 << 10,
	}
}

// expectFrom is the body size in bytes from which the server is asked for permission
// first (Expect: 100-continue): a server that refuses the body closes the connection,
// and its answer, such as 413, would be lost.
const expectFrom = 1 << 20

const (
	maxAnswer = 8 << 20 // bytes of an answer
	pageSize  = 50
	maxPages  = 200
)

// Client accesses one repository on a forge. It must not be used concurrently.
type Client struct {
	repo     *url.URL // for people
	api      *url.URL // of the repository
	token    string
	timeouts Timeouts
	http     *http.Client
	progress *Progress
	// expectNothing means that the server does not support Expect.
	expectNothing bool
	header        http.Header // of the last successful answer
}

// Option changes how a Client works.
type Option func(*Client)

// WithProgress reports the progress of uploads to p.
func WithProgress(p *Progress) Option { return func(c *Client) { c.progress = p } }

// New returns a client for the repository at https://HOST/OWNER/REPO; plain http is
// accepted for this machine only. The token may be empty for reading public data.
func New(repo, token string, opts ...Option) (*Client, error) {
	const want = "want https://HOST/OWNER/REPO"
	u, err := url.Parse(strings.TrimSuffix(repo, "/"))
	if err != nil {
		return nil, fmt.Errorf("forge: not a URL; %s", want) // not quoted: it may contain a password
	}
	dir := strings.Split(u.EscapedPath(), "/")
	switch {
	case u.User != nil:
		return nil, errors.New("forge: the URL has a user name or password in it; put the token into a file")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(dir) < 3 || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path, "//"):
		return nil, fmt.Errorf("forge %q: %s", u.Redacted(), want)
	case u.Scheme == "http" && !httpclient.IsLoopback(u.Hostname()):
		return nil, fmt.Errorf("forge %q: plain http is for this machine only; %s", u.Redacted(), want)
	case strings.HasSuffix(u.Path, "/releases/download") || strings.HasSuffix(u.Path, "/releases"):
		return nil, fmt.Errorf("forge %q: releases are fetched from that address; %s", u.Redacted(), want)
	}
	api := *u
	owner, name := dir[len(dir)-2], dir[len(dir)-1]
	api.Path = strings.Join(dir[:len(dir)-2], "/") + "/api/v1/repos/" + owner + "/" + name
	api.RawPath = ""
	c := &Client{repo: u, api: &api, token: token, timeouts: DefaultTimeouts()}
	for _, opt := range opts {
		opt(c)
	}
	c.http = &http.Client{
		Transport: httpclient.NewTransport(c.timeouts.Connect, c.timeouts.Answer),
		// The token must not be sent to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// retry returns how often a request is tried.
func (c *Client) retry() httpclient.Retry {
	return httpclient.Retry{Tries: int(c.timeouts.Tries), Pause: c.timeouts.Pause, MaxPause: c.timeouts.MaxPause}
}

// String returns the repository's URL.
func (c *Client) String() string { return c.repo.String() }

// body is the body of a request; it is created again for each try.
type body struct {
	kind string // media type
	size int64
	open func() (io.ReadCloser, error)
}

func jsonBody(v any) (*body, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &body{"application/json", int64(len(data)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}, nil
}

// StatusError is an answer with an error status.
type StatusError struct {
	What   string // the request
	Repo   string
	Status int
	// Message is the forge's message, Hint the remedy.
	Message, Hint string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s: %s answered %d", e.What, e.Repo, e.Status)
	if e.Message != "" {
		s += fmt.Sprintf(" (%s)", e.Message)
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// isStatus reports whether err is an answer with that status.
func isStatus(err error, status int) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == status
}

// hints are the remedies for statuses.
var hints = map[int]string{
	http.StatusUnauthorized:          "the token is missing, expired or of another forge",
	http.StatusForbidden:             "the token may not do this: it needs the scope write:repository, and its owner to be a writer of the repository",
	http.StatusNotFound:              "is the repository's name right, are releases enabled in it, and may the token see it?",
	http.StatusConflict:              "somebody else is publishing under this tag; check the release, and run this again",
	http.StatusRequestEntityTooLarge: "the proxy before the forge takes no request of this size: raise its limit (client_max_body_size in nginx)",
	http.StatusUnprocessableEntity:   "is the tag protected, or the repository empty?",
}

// request is one request to the forge.
type request struct {
	what   string // for an error: "create the release boot-v1"
	method string
	path   string // below the repository's API
	query  url.Values
	body   *body // nil for none
	answer any   // the JSON answer is decoded into it; nil to ignore the answer
	// before runs before each repeated try; the failed try may have taken effect.
	before func(context.Context) error
}

// send sends r, and repeats it if the failure may be temporary.
func (c *Client) send(ctx context.Context, r request) error {
	_, err := httpclient.Do(ctx, c.retry(), func(n int) (struct{}, error) {
		if n > 0 && r.before != nil {
			if err := r.before(ctx); err != nil {
				return struct{}{}, httpclient.Final(err)
			}
		}
		return struct{}{}, c.once(ctx, r)
	})
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		err = fmt.Errorf("%s: %s: %w", r.what, c, cause)
	}
	return err
}

// once sends r one time. An error that a retry can't change is permanent.
func (c *Client) once(ctx context.Context, r request) error {
	size := int64(0)
	if r.body != nil {
		size = r.body.size
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeouts.Least+c.timeouts.Answer+time.Duration(size/c.timeouts.MinRate)*time.Second, errTrickle)
	defer cancel()
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return httpclient.Final(err)
	}
	if req.Body != nil {
		defer req.Body.Close()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		err = c.plain(ctx, r.what, err)
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errTrickle) || httpclient.IsTLS(err) || errors.As(err, new(*localError)) {
			return httpclient.Final(err)
		}
		return err
	}
	defer resp.Body.Close()
	return c.read(ctx, r, resp)
}

// newRequest returns the HTTP request for r.
func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	u := *c.api
	u.Path += r.path
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		if req.Body, err = r.body.open(); err != nil {
			return nil, err
		}
		req.ContentLength = r.body.size
		req.Header.Set("Content-Type", r.body.kind)
		if r.body.size > expectFrom && !c.expectNothing {
			req.Header.Set("Expect", "100-continue")
		}
	}
	req.Header.Set("User-Agent", "ec-verify")
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "token "+c.token)
	}
	return req, nil
}

// read decodes the answer to r.
func (c *Client) read(ctx context.Context, r request, resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode == http.StatusExpectationFailed {
		c.expectNothing = true
	}
	if resp.StatusCode/100 != 2 {
		return c.refusal(r.what, resp, data)
	}
	switch {
	case err != nil:
		return c.plain(ctx, r.what, err)
	case len(data) > maxAnswer:
		return httpclient.Final(fmt.Errorf("%s: %s answered with more than %d bytes", r.what, c, maxAnswer))
	case r.answer == nil:
		return nil
	}
	c.header = resp.Header
	if err := json.Unmarshal(data, r.answer); err != nil {
		return httpclient.Final(fmt.Errorf("%s: %s did not answer as Forgejo does; is it one?", r.what, c))
	}
	return nil
}

var errTrickle = errors.New("it is too slow")

// refusal returns the error for an unsuccessful answer, permanent if a retry can't
// help.
func (c *Client) refusal(what string, resp *http.Response, data []byte) error {
	e := &StatusError{What: what, Repo: c.String(), Status: resp.StatusCode, Hint: hints[resp.StatusCode]}
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(data, &said) == nil {
		e.Message = c.clean(said.Message)
	}
	if e.Status == http.StatusRequestEntityTooLarge && strings.Contains(e.Message, "quota") {
		e.Hint = "the quota of the repository's owner is used up: delete files that are no longer needed, or ask the forge's administrator for more"
	}
	if e.Status == http.StatusForbidden && resp.Header.Get("X-RateLimit-Remaining") == "0" {
		return c.limited(e, resp)
	}
	switch {
	case resp.StatusCode/100 == 3:
		e.Hint = "the repository has moved; name the URL that it is at now"
		return httpclient.Final(e)
	case resp.StatusCode == http.StatusExpectationFailed:
		return e // retried without Expect
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		switch wait, requested := httpclient.RetryAfter(resp); {
		case wait > c.timeouts.MaxPause:
			e.Hint = "it asks to wait " + wait.Round(time.Second).String()
			return httpclient.Final(e)
		case requested:
			return httpclient.Later(e, wait)
		}
		return e
	}
	return httpclient.Final(e)
}

// limited returns the error for an exceeded rate limit. If the limit ends soon, the
// request is retried then.
func (c *Client) limited(e *StatusError, resp *http.Response) error {
	e.Hint = "the forge limits the rate of requests; run this again later"
	s, err := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil || s < 0 || s > 1<<40 {
		return httpclient.Final(e)
	}
	until := time.Unix(s, 0)
	if time.Until(until) < c.timeouts.MaxPause {
		return e
	}
	e.Hint = "the forge limits the rate of requests; run this again after " + until.UTC().Format(time.RFC3339)
	return httpclient.Final(e)
}

// clean reduces a forge's message to one line without secrets.
func (c *Client) clean(s string) string {
	if c.token != "" {
		s = strings.ReplaceAll(s, c.token, "xxxxx")
	}
	return excerpt.Of(strings.Join(strings.Fields(s), " "), 200)
}

// plain describes a failed request in one line.
func (c *Client) plain(ctx context.Context, what string, err error) error {
	return fmt.Errorf("%s: %s: %w", what, c, httpclient.Plain(ctx, err))
}

// localError is an error in reading the data to send.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }
