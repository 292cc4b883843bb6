package netboot

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
)

// A ChainToken is what the URLs of the boot host hold, so that it answers its
// own machines and not whatever scans the network. It is no secret to who can
// read along or ask the boot host by TFTP. Only [ReadChainToken] makes one, and
// it can stand in a URL, in a script and in nginx's configuration as it is.
type ChainToken string

var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9._~-]{16,128}$`)

// ReadChainToken reads a token from a file of one line, such as systemd's
// LoadCredential= provides: 16 to 128 letters, digits and ". _ ~ -".
func ReadChainToken(name string) (ChainToken, error) {
	data, err := readSmall(name, 4<<10)
	if err != nil {
		return "", fmt.Errorf("read the chain token: %w", err)
	}
	token := strings.TrimSuffix(string(data), "\n")
	// Not a word of what is in there: it may be a token with a slip in it.
	if !tokenPattern.MatchString(token) || strings.Trim(token, ".") == "" {
		return "", fmt.Errorf("read the chain token: %s must be one line of 16 to 128 letters, digits and \". _ ~ -\"; make one with: openssl rand -hex 16", name)
	}
	return ChainToken(token), nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "read", Path: name, Err: errNotRegular}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &os.PathError{Op: "read", Path: name, Err: fmt.Errorf("larger than %d bytes", limit)}
	}
	return data, err
}
