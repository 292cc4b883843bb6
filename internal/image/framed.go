package image

import (
	"bufio"
	"errors"
	"io"
)

// framed reads a compressed stream part by part, up to the end that the format defines. The
// embedding type sets next. It peeks at the head of a part, and sets left to the size of
// that part including its head, or sets ended.
type framed struct {
	r     *bufio.Reader
	next  func() error // called when left is 0
	left  int64        // unread bytes of the part
	ended bool         // no part follows
}

func (f *framed) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.ended {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
