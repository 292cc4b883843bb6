package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
)

// smallest is the smallest configuration that works; systemd/config.example.json is
// the same, for packages.
const smallest = `{
  "release": { "source": ["/srv/releases"], "accept": ["boot-v2026.02.28"] },
  "trust": { "keys": [{ "name": "ci", "file": "/etc/ec-verify/cosign.pub" }] }
}
`

// firstContact returns err, which prevented a run from starting. If there is no
// configuration at all, it prints what is missing and a minimal configuration.
func (a *app) firstContact(c config.Config, err error) error {
	if !terminal.IsConfigError(err) || a.ConfigFile != "" || systemd.StderrIsJournal() {
		return err
	}
	if _, statErr := os.Lstat(config.DefaultFile); !errors.Is(statErr, fs.ErrNotExist) {
		return err
	}
	if drops, dropErr := config.DropIns(config.DefaultFile); dropErr != nil || len(drops) > 0 {
		return err
	}
	var want []string
	if len(c.Release.Source) == 0 {
		want = append(want, "the source of releases (--release DIR or URL)")
	}
	if len(c.Trust.Keys)+len(c.Trust.Identities) == 0 && !c.UnsafeUnsigned {
		want = append(want, "whose signature is trusted (--key FILE)")
	}
	if len(c.Release.Accept) == 0 && len(want) > 0 {
		want = append(want, "which release this machine may run (--against TAG; default: the newest)")
	}
	if len(want) == 0 {
		return err
	}
	a.Complain(fmt.Errorf("there is no configuration, and these are missing: %s", strings.Join(want, "; ")))
	fmt.Fprintf(a.Stderr, "For a first check:\n  ec-verify --release /srv/releases --key cosign.pub\nFor every run, write a minimal %s:\n%s", config.DefaultFile, smallest)
	return terminal.ReportedError(terminal.ExitConfig)
}
