// Peer is what an ssh server runs in the place of nix-daemon: it runs that, passes on
// what both sides say, and alters the NAR of one path in one way.
//
// Usage, as a forced command: peer KIND NAME. The client's command is in
// SSH_ORIGINAL_COMMAND, and NAME is in the name of the path.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

// narFromPath is the operation of Nix's worker protocol that asks for a NAR.
const narFromPath = 38

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(kind, name string) error {
	daemon := exec.Command("/bin/sh", "-c", "exec "+os.Getenv("SSH_ORIGINAL_COMMAND"))
	daemon.Stderr = os.Stderr
	in, err := daemon.StdinPipe()
	if err != nil {
		return err
	}
	out, err := daemon.StdoutPipe()
	if err != nil {
		return err
	}
	if err := daemon.Start(); err != nil {
		return err
	}
	var asked atomic.Bool
	go func() {
		relayQuestions(in, name, &asked)
		in.Close()
	}()
	err = relayAnswers(bufio.NewReader(out), kind, &asked)
	daemon.Process.Kill()
	daemon.Wait()
	return err
}

// relayQuestions passes on what the client says, and notes when it asks for the NAR.
func relayQuestions(to io.Writer, name string, asked *atomic.Bool) {
	op := binary.LittleEndian.AppendUint64(nil, narFromPath)
	var seen []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := os.Stdin.Read(buf)
		seen = append(seen, buf[:n]...)
		if i := bytes.Index(seen, op); i >= 0 && bytes.Contains(seen[i:], []byte(name)) {
			asked.Store(true)
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// relayAnswers passes on what the daemon says: as it is until the NAR was asked for, and
// altered then.
func relayAnswers(from *bufio.Reader, kind string, asked *atomic.Bool) error {
	const magic = "nix-archive-1"
	start := append(binary.LittleEndian.AppendUint64(nil, uint64(len(magic))), magic...)
	for {
		if _, err := from.Peek(1); err != nil {
			return nil // it ended
		}
		ready, _ := from.Peek(from.Buffered())
		n := len(ready)
		if i := bytes.Index(ready, start); i >= 0 && asked.Load() {
			n = i
		}
		if n == 0 {
			return alter(from, kind)
		}
		if _, err := io.CopyN(os.Stdout, from, int64(n)); err != nil {
			return err
		}
	}
}

// alter writes the NAR that follows, altered where its first file has its contents.
func alter(from *bufio.Reader, kind string) error {
	w := &passed{}
	for w.last != "contents" {
		if err := w.token(from); err != nil {
			return err
		}
	}
	size, err := from.Peek(8)
	if err != nil {
		return err
	}
	switch kind {
	case "truncated":
		_, err := io.CopyN(os.Stdout, from, 8+int64(binary.LittleEndian.Uint64(size))/2)
		return err
	case "endless":
		if _, err := os.Stdout.Write(binary.LittleEndian.AppendUint64(nil, 1<<40)); err != nil {
			return err
		}
		for zeros := make([]byte, 64<<10); ; {
			if _, err := os.Stdout.Write(zeros); err != nil {
				return err
			}
		}
	case "silent":
		if _, err := io.CopyN(os.Stdout, from, 9); err != nil {
			return err
		}
		if err := os.WriteFile("/run/peer-is-silent", nil, 0o600); err != nil {
			return err
		}
		time.Sleep(10 * time.Minute)
		return nil
	case "more": // a whole NAR follows that nobody has asked for
		for w.depth > 0 {
			if err := w.token(from); err != nil {
				return err
			}
		}
		if _, err := os.Stdout.Write(w.all.Bytes()); err != nil {
			return err
		}
	case "altered":
		first, err := from.Peek(9)
		if err != nil {
			return err
		}
		first[8] ^= 1 // in the reader's own memory
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	_, err = io.Copy(os.Stdout, from)
	return err
}

// passed is what was passed on of a NAR.
type passed struct {
	all   bytes.Buffer
	last  string // token
	depth int    // of parentheses
}

// token passes on one string of a NAR.
func (p *passed) token(from io.Reader) error {
	var size [8]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint64(size[:])
	data := make([]byte, (n+7)/8*8)
	if _, err := io.ReadFull(from, data); err != nil {
		return err
	}
	p.last = string(data[:n])
	switch p.last {
	case "(":
		p.depth++
	case ")":
		p.depth--
	}
	whole := append(size[:], data...)
	p.all.Write(whole)
	_, err := os.Stdout.Write(whole)
	return err
}
