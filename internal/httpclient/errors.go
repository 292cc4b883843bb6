package httpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
)

// Plain returns the error of a request in one line: without the URL, which the caller
// adds, and with the cause of a context that ended.
func Plain(ctx context.Context, err error) error {
	var wrapped *url.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return cause
	}
	return err
}

// IsTLS reports whether err means that a certificate is not trusted. Another try would not
// change that.
func IsTLS(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }
