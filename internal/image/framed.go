package image

import (
	"bufio"
	"errors"
	"io"
)

// framed reads a compressed stream part by part, so far as the format says that it goes.
// What embeds it sets next, which peeks at the head of a part and sets left to the bytes
// of that part with its head, or ended.
type framed struct {
	r     *bufio.Reader
	next  func() error // called where nothing is left
	left  int64        // bytes of the part that are not read yet
	ended bool         // nothing comes after them
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
