package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// cost is what one command took.
type cost struct {
	Wall, CPU time.Duration
	RSS       int64 // peak, in bytes
}

// measured is what each entry took, round by round.
type measured map[string][]cost

// sorted returns one figure of all rounds, the least first.
func sorted(all []cost, of func(cost) time.Duration) []time.Duration {
	values := make([]time.Duration, 0, len(all))
	for _, c := range all {
		values = append(values, of(c))
	}
	slices.Sort(values)
	return values
}

func wall(c cost) time.Duration { return c.Wall }
func cpu(c cost) time.Duration  { return c.CPU }

// peak returns the most memory that any of the rounds took.
func peak(all []cost) (bytes int64) {
	for _, c := range all {
		bytes = max(bytes, c.RSS)
	}
	return bytes
}

// measure runs a command, ignores its output, and prints its cost.
func measure(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	log, err := os.CreateTemp("", "benchmark-")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	cmd.Stdout, cmd.Stderr = log, log
	start := time.Now()
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%q: %w\n%s", argv, err, said)
	}
	c := cost{Wall: time.Since(start), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.RSS = usage.Maxrss << 10 // Linux counts KiB
	}
	return json.NewEncoder(os.Stdout).Encode(c)
}
