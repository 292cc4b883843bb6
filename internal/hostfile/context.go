package hostfile

import (
	"context"
	"errors"
	"io"
)

// WithContext returns a reader of r that fails with the error of ctx once ctx is
// done, because reading a large file from a slow disk can take minutes. It does not
// interrupt a Read in progress.
func WithContext(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// ErrorKeeper reads from R and keeps its error other than io.EOF in Err, which tells a
// fault of R from a fault in what was read.
type ErrorKeeper struct {
	R   io.Reader
	Err error
}

func (k *ErrorKeeper) Read(p []byte) (int, error) {
	n, err := k.R.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		k.Err = err
	}
	return n, err
}
