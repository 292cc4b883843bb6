package hostfile

import (
	"context"
	"io"
)

// WithContext returns a reader of r that fails with the error of ctx once that is done:
// a large file on a slow disk is read for minutes. A call of r that is under way is not
// interrupted.
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
