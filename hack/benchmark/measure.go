package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// cost is what one command took.
type cost struct {
	Wall, CPU time.Duration
	RSS       int64 // peak, in bytes
}

// measure runs a command, whose output is not looked at, and prints its cost.
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

// hashMemory hashes as many bytes as it is told, from memory.
func hashMemory(count string) error {
	left, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		return err
	}
	buffer := make([]byte, 256<<10)
	h := sha256.New()
	for left > 0 {
		n := min(left, int64(len(buffer)))
		h.Write(buffer[:n])
		left -= n
	}
	fmt.Printf("%x\n", h.Sum(nil))
	return nil
}
