package release

import (
	"context"
	"net/http"
)

// WithTransport replaces how connections are made.
func WithTransport(t http.RoundTripper) SourceOption {
	return func(o *sourceOptions) { o.transport = t }
}

// WithTimeouts replaces the limits on waiting.
func WithTimeouts(t Timeouts) SourceOption {
	return func(o *sourceOptions) { o.timeouts = t }
}

// Newest returns the tags that "latest" may mean, newest first.
func (f *Finder) Newest(ctx context.Context) ([]Tag, error) { return f.newest(ctx) }
