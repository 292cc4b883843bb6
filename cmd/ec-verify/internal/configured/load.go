// Package configured creates what the configuration describes, for the commands of all
// rooms: the configuration itself with a command's flags applied, the opener of releases,
// nix, and the rebuilder.
package configured

import (
	"errors"
	"fmt"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
)

// Load reads the configuration, which must not be others' to change.
func Load(t *terminal.Terminal) (config.Config, error) {
	l, err := Read(t)
	if err != nil {
		return config.Config{}, terminal.ConfigError(err)
	}
	return l.Config, CheckOwn(t, l.Config)
}

// Read reads the configuration; it has suggestions for mistaken keys.
func Read(t *terminal.Terminal) (*config.Loaded, error) {
	l, err := config.Read(t.ConfigFile)
	if mistakes, ok := errors.AsType[*config.Mistakes](err); ok {
		for i := range mistakes.All {
			m := &mistakes.All[i]
			if len(m.Known) > 0 {
				parent, own := m.Parent()
				m.Text += terminal.DidYouMean(parent, own, m.Known)
			}
		}
		// err was formatted before the suggestions were added.
		err = fmt.Errorf("configuration %w", mistakes)
	}
	return l, err
}
