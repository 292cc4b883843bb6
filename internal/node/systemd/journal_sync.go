package systemd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/go-json-experiment/json"
)

// journalControl is the socket for requests to journald, in the form of
// https://varlink.org: JSON objects that end with a NUL.
const journalControl = "/run/systemd/journal/io.systemd.journal"

// maxReply limits a reply, in bytes.
const maxReply = 64 << 10

// synchronize returns once journald has read everything sent before, or after wait. It
// sends the request of journalctl --sync. Without it, the last entries of a program that
// ends are sometimes not attributed to its unit, because journald reads the sender's unit
// from /proc.
func synchronize(socket string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("ask the journal: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("ask the journal: %w", err)
	}
	if _, err := conn.Write([]byte("{\"method\":\"io.systemd.Journal.Synchronize\"}\x00")); err != nil {
		return fmt.Errorf("ask the journal: %w", err)
	}
	reply, err := bufio.NewReader(io.LimitReader(conn, maxReply)).ReadBytes(0)
	if err != nil {
		return fmt.Errorf("ask the journal: no answer: %w", err)
	}
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimSuffix(reply, []byte{0}), &answer); err != nil {
		return fmt.Errorf("ask the journal: %w", err)
	}
	if answer.Error != "" {
		return fmt.Errorf("ask the journal: it answers %s", answer.Error)
	}
	return nil
}
