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

// SetTimeouts sets the limits on waiting of a source that was asked already.
func SetTimeouts(s Source, t Timeouts) {
	h := s.(*HTTPSource)
	h.timeouts = t
	h.transport.(*http.Transport).ResponseHeaderTimeout = t.Header
}
