package release

import (
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
