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

// KeepStanding writes told, one line, to the file beside the ledger in dir. A second line
// has its SHA-256, which detects damage, but not an attacker.
func KeepStanding(dir, told string) error {
	if len(told) > MaxStanding {
		return fmt.Errorf("the standing has %d bytes, more than %d", len(told), MaxStanding)
	}
	name := filepath.Join(dir, StandingName)
	return renameio.WriteFile(name, []byte(told+"\n"+sha256Of(told)+"\n"), 0o644, renameio.WithTempDir(dir))
}

// KeptStanding returns what [KeepStanding] wrote. The error wraps [fs.ErrNotExist] if
// there is no such file or directory; a file in another form is an error as well.
func KeptStanding(dir string) (told string, err error) {
	name := filepath.Join(dir, StandingName)
	data, err := hostfile.ReadSmallNoFollow(name, MaxStanding+100)
	if err != nil {
		return "", err
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if told = string(line); string(rest) != sha256Of(told)+"\n" {
		return "", fmt.Errorf("%s is damaged: it is not as it was written", name)
	}
	return told, nil
}

func sha256Of(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
