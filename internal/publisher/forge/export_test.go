package forge

// WithTimeouts replaces the limits on waiting.
func WithTimeouts(t Timeouts) Option { return func(c *Client) { c.timeouts = t } }
