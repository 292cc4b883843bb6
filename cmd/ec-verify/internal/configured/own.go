package configured

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
)

// CheckOwn refuses a configuration that others than root and the running user
// can change, or that names keys, tokens or programs that they can: they would
// choose whom this believes, or have their own program run.
func CheckOwn(t *terminal.Terminal, c config.Config) error {
	name := cmp.Or(t.ConfigFile, config.DefaultFile)
	named := []struct{ key, path string }{
		{"the configuration", name}, {"its drop-ins", config.DropInDir(name)}, {"release.tokenFile", c.Release.TokenFile}, {"report.keyFile", c.Report.KeyFile},
	}
	drops, err := config.DropIns(name)
	if err != nil {
		return terminal.ConfigError(err)
	}
	for _, drop := range drops {
		named = append(named, struct{ key, path string }{"the configuration", drop})
	}
	for i, k := range c.Trust.Keys {
		named = append(named, struct{ key, path string }{fmt.Sprintf("trust.keys[%d].file", i), k.File})
	}
	if dir := c.Nix.BinDir; dir != "" {
		named = append(named, struct{ key, path string }{"nix.binDir", dir})
		for _, program := range config.NixPrograms {
			named = append(named, struct{ key, path string }{"nix.binDir", filepath.Join(dir, program)})
		}
	}
	for _, n := range named {
		if n.path == "" {
			continue
		}
		if err := own(n.key, n.path); err != nil {
			return err
		}
	}
	return nil
}

// CheckOwnState refuses a state directory that others can write to: its contents decide
// which releases are too old, and which paths need not be hashed.
func CheckOwnState(c config.Config) error {
	for _, name := range []string{c.StateDir, ledger.Dir(c.StateDir), filepath.Join(ledger.Dir(c.StateDir), "ledger.db")} {
		if err := own("stateDir", name); err != nil {
			return err
		}
	}
	return nil
}

// own adds the configuration's key to an error about a path. If the path can't be
// examined, the code that reads it reports that.
func own(key, path string) error {
	err := hostfile.CheckOwn(path)
	if errors.As(err, new(*hostfile.WritableError)) {
		return terminal.ConfigErrorf("%s: %w", key, err)
	}
	return nil
}
