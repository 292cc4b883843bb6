package release

import (
	"fmt"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
)

// ReadToken reads an access token from a file such as one of systemd's
// LoadCredential=: one line, without its newline.
func ReadToken(file string) (string, error) {
	data, err := hostfile.ReadSmall(file, 8<<10)
	if err != nil {
		return "", fmt.Errorf("read the access token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read the access token: %s is empty", printable(file))
	}
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("%s: %w", printable(file), err)
	}
	return token, nil
}
