package forge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"

	"every.channel/ec-verify/internal/httpclient"
)

// maxRead limits an asset that is read back, in bytes.
const maxRead = 4 << 20

// digest returns the SHA-256, in hexadecimal, of a small asset of a published
// release, downloaded without special rights. A missing asset is a [StatusError] of
// 404.
func (c *Client) digest(ctx context.Context, tag, name string) (string, error) {
	what := "read " + name + " of the release " + tag
	return httpclient.Do(ctx, c.retry(), func(int) (string, error) { return c.digestOnce(ctx, what, tag, name) })
}

func (c *Client) digestOnce(ctx context.Context, what, tag, name string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeouts.Least+c.timeouts.Answer, errTrickle)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.repo.JoinPath("releases", "download", tag, name).String(), nil)
	if err != nil {
		return "", httpclient.Final(err)
	}
	req.Header.Set("User-Agent", "ec-verify")
	if c.token != "" {
		req.Header.Set("Authorization", "token "+c.token)
	}
	// If the forge stores assets elsewhere, it redirects there, and net/http drops
	// the token.
	resp, err := (&http.Client{Transport: c.http.Transport}).Do(req)
	if err != nil {
		err = c.plain(ctx, what, err)
		if ctx.Err() != nil || httpclient.IsTLS(err) {
			return "", httpclient.Final(err)
		}
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", c.refusal(what, resp, nil)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(resp.Body, maxRead+1))
	switch {
	case err != nil:
		return "", c.plain(ctx, what, err)
	case n > maxRead:
		return "", httpclient.Final(fmt.Errorf("%s: %s answered with more than %d bytes", what, c, maxRead))
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
