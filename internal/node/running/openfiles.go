package running

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openFiles calls do for each file that a process has open: its number, and the kernel's
// name for it, cut off after 63 bytes.
func openFiles(dir string, do func(number string, target []byte)) error {
	fds, err := os.Open(dir + "/fd")
	if err != nil {
		return err
	}
	defer fds.Close()
	var target [63]byte // longer than that of any socket
	for {
		names, err := fds.Readdirnames(1000)
		for _, name := range names {
			n, _ := unix.Readlinkat(int(fds.Fd()), name, target[:]) // it may be closed meanwhile
			do(name, target[:max(n, 0)])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
