package netboot

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"every.channel/ec-verify/internal/hostfile"
)

// A ChainToken is what the URLs of the boot host hold, so that it answers its
// own machines and not whatever scans the network. It is no secret to who can
// read along or ask the boot host by TFTP. Only [ReadChainToken] makes one, and
// it can stand in a URL, in a script and in nginx's configuration as it is.
type ChainToken string

var tokenPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._~-]{16,128}$`) })

// ReadChainToken reads a token from a file of one line, such as systemd's
// LoadCredential= provides: 16 to 128 letters, digits and ". _ ~ -".
func ReadChainToken(name string) (ChainToken, error) {
	data, err := hostfile.ReadSmall(name, 4<<10)
	if err != nil {
		return "", fmt.Errorf("read the chain token: %w", err)
	}
	token := strings.TrimSuffix(string(data), "\n")
	// Not a word of what is in there: it may be a token with a slip in it.
	if !tokenPattern().MatchString(token) || strings.Trim(token, ".") == "" {
		return "", fmt.Errorf("read the chain token: %s must be one line of 16 to 128 letters, digits and \". _ ~ -\"; make one with: openssl rand -hex 16", name)
	}
	return ChainToken(token), nil
}
