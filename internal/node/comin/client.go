package comin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/excerpt"
)

// Socket is where comin listens.
const Socket = "/var/lib/comin/grpc.sock"

const (
	callWait = 10 * time.Second
	// maxMessage is the size of an answer, in bytes, beyond which comin's own client
	// takes none either.
	maxMessage = 4 << 20
	maxHeader  = 64 << 10
	// maxQuoted is how much of a foreign text an error quotes, in bytes.
	maxQuoted = 200
	// frame is the size of the header before a message: a flag, and the message's size.
	frame = 5
)

// PeerError means that the socket is served by a user who is neither root nor the one
// who asks.
type PeerError struct {
	Socket string
	User   uint32
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("%s is served by user %d and not by root: it is not comin", e.Socket, e.User)
}

// StatusError is comin's own refusal of a call.
type StatusError struct {
	Method, Code, Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("comin refuses %s: gRPC status %s: %s", e.Method, e.Code, e.Message)
}

// Client asks one comin.
type Client struct {
	socket    string
	wait      time.Duration // for one answer
	transport *http.Transport
}

// New returns a client of the comin that listens at socket.
func New(socket string) *Client {
	c := &Client{wait: callWait, socket: socket}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c.transport = &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) },
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	return c
}

// dial connects to socket if root or the running user serves it. Another user could only
// keep comin waiting; but it would look as if comin had been asked.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	user, err := peer(conn)
	if err == nil && user != 0 && int(user) != os.Geteuid() {
		err = &PeerError{socket, user}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// peer returns the user who listens at the other end.
func peer(conn net.Conn) (uint32, error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var user *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		user, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if sockErr != nil {
		return 0, sockErr
	}
	return user.Uid, nil
}

// Waiting returns the generation that waits to be deployed once it is confirmed, nil
// for none. It fails where comin does not wait for a confirmation ([ErrUngated]), or
// answers what can't be understood.
func (c *Client) Waiting(ctx context.Context) (*Generation, error) {
	answer, err := c.call(ctx, "GetState", nil)
	if err != nil {
		return nil, err
	}
	return waiting(answer)
}

// Confirm has comin deploy the generation id, and no other: comin compares id with the
// generation that waits then, and keeps one that does not in mind.
func (c *Client) Confirm(ctx context.Context, id string) error {
	_, err := c.call(ctx, "Confirm", confirmation(id))
	return err
}

// call calls a method, and returns the message of its answer.
func (c *Client) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	defer c.transport.CloseIdleConnections()
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // it is our own, and short
	body = append(body, message...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://comin/protobuf.Comin/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.transport.RoundTrip(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("comin is not running, or its socket is elsewhere (--socket): %w", err)
	case err != nil:
		return nil, fmt.Errorf("ask comin: %w", err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "application/grpc") {
		return nil, fmt.Errorf("%s is not comin: it answers with HTTP status %d, %s", c.socket, resp.StatusCode, excerpt.Of(kind, maxQuoted))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, frame+maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("comin's answer to %s: %w", method, err)
	}
	if len(data) > frame+maxMessage {
		return nil, fmt.Errorf("comin's answer to %s is longer than %d bytes", method, maxMessage)
	}
	// A call that fails at once has its status in the header.
	status := resp.Trailer
	if status.Get("Grpc-Status") == "" {
		status = resp.Header
	}
	if code := status.Get("Grpc-Status"); code != "0" {
		return nil, &StatusError{method, excerpt.Of(code, maxQuoted), excerpt.Of(status.Get("Grpc-Message"), maxQuoted)}
	}
	if len(data) < frame || data[0] != 0 || int64(binary.BigEndian.Uint32(data[1:])) != int64(len(data)-frame) {
		return nil, errors.New("comin's answer is not one complete message")
	}
	return data[frame:], nil
}
