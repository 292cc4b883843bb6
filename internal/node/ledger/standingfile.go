package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/hostfile"
)

// StandingName is the file that has the machine's standing a second time: a ledger that
// is damaged does not take it with it.
const StandingName = "standing.json"

// KeepStanding writes encoded, one line, to the file beside the ledger in dir. A second line
// has its SHA-256, which detects damage, but not an attacker.
func KeepStanding(dir, encoded string) error {
	if len(encoded) > MaxStanding {
		return fmt.Errorf("the standing has %d bytes, more than %d", len(encoded), MaxStanding)
	}
	name := filepath.Join(dir, StandingName)
	return renameio.WriteFile(name, []byte(encoded+"\n"+sha256Of(encoded)+"\n"), 0o644, renameio.WithTempDir(dir))
}

// KeptStanding returns what [KeepStanding] wrote. The error wraps [fs.ErrNotExist] if
// there is no such file or directory; a file in another form is an error as well.
func KeptStanding(dir string) (encoded string, err error) {
	name := filepath.Join(dir, StandingName)
	data, err := hostfile.ReadSmallNoFollow(name, MaxStanding+100)
	if err != nil {
		return "", err
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if encoded = string(line); string(rest) != sha256Of(encoded)+"\n" {
		return "", fmt.Errorf("%s is damaged: it is not as it was written", name)
	}
	return encoded, nil
}

func sha256Of(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
