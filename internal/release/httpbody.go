package release

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"every.channel/ec-verify/internal/httpclient"
)

// body reads one asset from an [HTTPSource]. If the connection breaks or stalls, it
// requests the rest with Range.
type body struct {
	source *HTTPSource
	what   string
	url    string
	limit  int64

	ctx    context.Context
	cancel context.CancelFunc

	resp    *http.Response
	stop    context.CancelCauseFunc // ends the current request
	etag    string
	size    int64 // in all; -1 while unknown
	done    int64 // bytes returned
	skip    int64 // bytes to discard, because the server ignored Range
	begun   bool  // the current answer has delivered bytes
	resumes int
}

var (
	errStall = errors.New("the transfer stalled")
	errCut   = errors.New("the connection ended before the body did")
	errFewer = errors.New("the file on the server is shorter than before")

	errSilent = errors.New("no answer in time")

	errElsewhere = errors.New("the server resumed at a wrong offset")
)

// start requests the bytes from done on.
func (b *body) start() error {
	header := http.Header{}
	want := []int{http.StatusOK}
	if b.done > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.done))
		if b.etag != "" {
			header.Set("If-Range", b.etag)
		}
		want = append(want, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	}
	ctx, stop := context.WithCancelCause(b.ctx)
	resp, err := b.source.get(ctx, b.what, b.url, header, want...) //nolint:bodyclose // Close and resume do
	if err != nil {
		stop(nil)
		return err
	}
	b.resp, b.stop = resp, stop
	b.skip, b.begun = 0, false
	length := resp.ContentLength
	switch resp.StatusCode {
	case http.StatusPartialContent:
		first, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != b.done {
			return b.failed(errElsewhere)
		}
		// The answer may be a part of the requested range.
		length = total
	case http.StatusRequestedRangeNotSatisfiable:
		return b.failed(errFewer)
	default:
		// The server sends the whole file again. If it is a different file by now,
		// the checksum shows that.
		b.skip = b.done
		b.etag = resp.Header.Get("ETag")
		if strings.HasPrefix(b.etag, "W/") {
			b.etag = ""
		}
	}
	if length > b.limit {
		return tooLarge(b.what, length, b.limit)
	}
	if length >= 0 {
		b.size = length
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	for {
		n, err := b.read(p)
		if n > 0 && !b.begun {
			if b.begun = true; isPage(b.resp, b.url, p[:n]) {
				return 0, b.failed(b.source.pageError(b.resp))
			}
		}
		if n > 0 && b.skip > 0 {
			again := int(min(b.skip, int64(n)))
			b.skip -= int64(again)
			n = copy(p, p[again:n])
		}
		b.done += int64(n)
		if err == nil && n == 0 {
			continue
		}
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && b.skip > 0:
			err = errFewer
		case errors.Is(err, io.EOF) && b.done < b.size:
			err = errCut
		case errors.Is(err, io.EOF):
			return n, err
		}
		if n > 0 {
			// The bytes read are valid; the next call returns the same error.
			return n, nil
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

// isPage reports whether the answer to a request for an asset is a web page instead.
// A forge, or a proxy before it, answers so with a success status if an account is
// blocked or must sign in. first is the beginning of the body.
func isPage(resp *http.Response, url string, first []byte) bool {
	first = bytes.TrimLeft(first, "\xef\xbb\xbf\t\n\f\r ")
	if resp.StatusCode != http.StatusOK || len(first) == 0 || first[0] != '<' || strings.HasSuffix(url, ".html") {
		return false
	}
	says, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	looks, _, _ := strings.Cut(http.DetectContentType(first), ";")
	for _, kind := range []string{says, looks} {
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/html", "application/xhtml+xml", "text/xml":
			return true
		}
	}
	return false
}

// pageError describes the page and suggests what to check.
func (s *HTTPSource) pageError(resp *http.Response) error {
	where := ""
	if len(resp.Request.URL.Path) > 0 && !strings.HasPrefix(resp.Request.URL.Path, s.base.Path) {
		where = fmt.Sprintf(" (%q)", clip(resp.Request.URL.Path))
	}
	hint := "check that the token in release.tokenFile is valid, and that its account is neither blocked nor required to change its password"
	if s.token == "" {
		hint = "if it requires a sign-in, set release.tokenFile"
	}
	return fmt.Errorf("the server answered with a web page instead%s; %s", where, hint)
}

// read performs one read, limited by the stall timeout.
func (b *body) read(p []byte) (int, error) {
	timer := time.AfterFunc(b.source.timeouts.Stall, func() { b.stop(errStall) })
	quiet := b.source.watchSilence(func() string {
		return fmt.Sprintf("%s: no more bytes from %s for %s; waiting for up to %s", b.what, b.source, b.source.timeouts.Quiet, b.source.timeouts.Stall)
	})
	defer quiet.end()
	n, err := b.resp.Body.Read(p)
	timer.Stop()
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, plainError(b.resp.Request.Context(), err)
}

// resume continues the transfer after err if that may help.
func (b *body) resume(err error) error {
	if b.ctx.Err() != nil {
		return b.failed(plainError(b.ctx, err))
	}
	if b.resumes++; b.resumes > b.source.timeouts.Retries {
		return b.failed(fmt.Errorf("%w, after %d bytes and %d attempts to resume", err, b.done, b.resumes-1))
	}
	b.resp.Body.Close()
	b.stop(nil)
	if b.source.notice != nil {
		b.source.notice(fmt.Sprintf("%s: %v, after %d bytes from %s; resuming (%d of %d)", b.what, err, b.done, b.source, b.resumes, b.source.timeouts.Retries))
	}
	select {
	case <-b.ctx.Done():
		return b.failed(plainError(b.ctx, err))
	case <-time.After(b.source.retry().After(b.resumes - 1)):
	}
	return b.start()
}

func (b *body) failed(err error) error {
	return &UnavailableError{b.what, b.source.String(), err}
}

// Close ends the transfer.
func (b *body) Close() error {
	if b.resp != nil {
		b.resp.Body.Close()
		b.stop(nil)
	}
	b.cancel()
	return nil
}

// contentRange parses a Content-Range of the form "bytes 5-9/10": it returns the
// first offset, and the total length or -1 if unknown.
func contentRange(s string) (first, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	begin, rest, dash := strings.Cut(s, "-")
	first, err := strconv.ParseInt(begin, 10, 64)
	_, whole, _ := strings.Cut(rest, "/")
	total, totalErr := strconv.ParseInt(whole, 10, 64)
	if totalErr != nil || total < 0 {
		total = -1
	}
	return first, total, ok && dash && err == nil
}

// plainError describes a failed request in one line.
func plainError(ctx context.Context, err error) error {
	err = httpclient.Plain(ctx, err)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() && strings.Contains(err.Error(), "awaiting response headers") {
		return errSilent
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("the server's certificate is expired or not yet valid; this machine's clock says %s: is it right? (%w)", day(time.Now()), err)
	}
	return err
}
