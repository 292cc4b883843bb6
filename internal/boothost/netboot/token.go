package netboot

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/internal/hostfile"
)

// A ChainToken is part of the boot host's URLs, so that it answers its own machines
// and not network scanners. It is not secret from anyone who can read the traffic or
// ask the boot host by TFTP. Use [ReadChainToken] to create one; it needs no escaping
// in a URL, a script or nginx's configuration.
type ChainToken string

var tokenPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._~-]{16,128}$`) })

// ReadChainToken reads a token from a file with one line, such as one of systemd's
// LoadCredential=: 16 to 128 letters, digits and ". _ ~ -".
func ReadChainToken(name string) (ChainToken, error) {
	data, err := hostfile.ReadSmall(name, 4<<10)
	if err != nil {
		return "", fmt.Errorf("read the chain token: %w", err)
	}
	token := strings.TrimSuffix(string(data), "\n")
	// Quote nothing of the file: it may be a token with a typo.
	if !tokenPattern().MatchString(token) || strings.Trim(token, ".") == "" {
		return "", fmt.Errorf("read the chain token: %s must be one line of 16 to 128 letters, digits and \". _ ~ -\"; make one with: openssl rand -hex 16", name)
	}
	return ChainToken(token), nil
}
