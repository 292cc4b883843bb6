package netboot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"every.channel/ec-verify/internal/hostfile"
)

// Names of the files that [Render] writes.
const (
	// TFTPName is the directory that is served by TFTP.
	TFTPName = "tftp"
	// ChainName is the script in it that iPXE continues with.
	ChainName = "chain.ipxe"
	// TokenMapName is the file that nginx includes: a map from $ec_token to
	// $ec_token_ok for the right token.
	TokenMapName = "token.map"
)

// Render writes the servers' files with the token to dir, which must exist and belong
// to this user: the TFTP directory with the chain script and links to the files in
// links, by the names that firmware requests, and the map of tokens. Each file
// appears complete. Only this user and its group can read them.
func Render(dir string, base BaseURL, token ChainToken, links map[string]string) error {
	if err := checkOwner(dir); err != nil {
		return err
	}
	root := filepath.Join(dir, TFTPName)
	if err := os.Mkdir(root, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for name, target := range links {
		if err := linkTFTP(root, name, target); err != nil {
			return err
		}
	}
	if err := removeOthers(root, links); err != nil {
		return err
	}
	// The servers run under the umask of their units; these files are for their group
	// at most.
	if err := renameio.WriteFile(filepath.Join(root, ChainName), ChainScript(base, token), 0o640, renameio.IgnoreUmask()); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, TokenMapName), tokenMap(token), 0o640, renameio.IgnoreUmask())
}

// linkTFTP makes the link name in root, to the file target.
func linkTFTP(root, name, target string) error {
	if err := CheckTFTPName(name); err != nil {
		return err
	}
	if info, err := os.Stat(target); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %s is not a regular file", name, target)
	}
	return renameio.Symlink(target, filepath.Join(root, name))
}

// removeOthers removes the links and leftovers in root that are not in links. Anything
// else is an error: it would be served although its contents are unknown.
func removeOthers(root string, links map[string]string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(root, e.Name())
		_, ours := links[e.Name()]
		switch {
		case ours || e.Name() == ChainName:
			continue
		case isLeftover(e.Name(), links):
			err = hostfile.RemoveTree(name)
		case e.Type() == os.ModeSymlink:
			err = os.Remove(name)
		default:
			err = fmt.Errorf("%s is in the way: only links are made there, and those are removed; name another directory, or remove it", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isLeftover reports whether name is a temporary file of a killed run: renameio
// prefixes a dot to the file's name.
func isLeftover(name string, links map[string]string) bool {
	for own := range links {
		if digits, ok := strings.CutPrefix(name, "."+own); ok && strings.Trim(digits, "0123456789") == "" {
			return true
		}
	}
	digits, ok := strings.CutPrefix(name, "."+ChainName)
	return ok && strings.Trim(digits, "0123456789") == ""
}

// tokenMap is for nginx, whose maps compare plain strings case-insensitively, so it
// must be a regular expression.
func tokenMap(token ChainToken) []byte {
	return fmt.Appendf(nil, "map $ec_token $ec_token_ok {\n  default 0;\n  \"~^%s$\" 1;\n}\n", regexp.QuoteMeta(string(token)))
}

var tftpPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`) })

// CheckTFTPName returns an error unless name is valid for TFTP here: 1 to 100
// letters, digits and ". _ -", and not the name of the chain script.
func CheckTFTPName(name string) error {
	if !tftpPattern().MatchString(name) || name == ChainName {
		return fmt.Errorf("name %q for TFTP: want letters, digits, '.', '_' and '-', and not %s", clip(name), ChainName)
	}
	return nil
}
