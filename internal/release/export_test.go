package release

import (
	"net/http"
)

// WithTransport sets the HTTP transport.
func WithTransport(t http.RoundTripper) SourceOption {
	return func(o *sourceOptions) { o.transport = t }
}

// WithTimeouts sets the limits on waiting.
func WithTimeouts(t Timeouts) SourceOption {
	return func(o *sourceOptions) { o.timeouts = t }
}
