package httpclient

import (
	"net"
	"net/http"
	"time"
)

// NewTransport returns a transport that waits no longer than connect for a connection,
// and again for its TLS handshake, nor longer than answer for the first byte of one.
func NewTransport(connect, answer time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connect}).DialContext,
		TLSHandshakeTimeout:    connect,
		ExpectContinueTimeout:  connect,
		ResponseHeaderTimeout:  answer,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    2,
	}
}

// IsLoopback reports whether host is this machine, for which plain http will do.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
