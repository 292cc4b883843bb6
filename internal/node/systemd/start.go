package systemd

import (
	"context"
	"fmt"
	"time"
)

// Start starts a unit and waits, at most that long, until it has started; a service of the
// type oneshot has then ended. It fails if the unit does.
func Start(ctx context.Context, name string, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd: %w", err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	if _, err := conn.StartUnitContext(ctx, name, "replace", done); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("start %s: %s", name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w", name, ctx.Err())
	}
}
