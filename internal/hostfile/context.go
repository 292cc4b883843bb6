package hostfile

import (
	"context"
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
