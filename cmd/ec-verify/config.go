package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/config"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

func newConfigCommand(a *app) *cobra.Command {
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "check a configuration file",
		Long: `Read FILE (or the file of --config, or the default one) and say what is wrong
with it, or that it holds. What it leaves for the command line, and what of it
can't be used on this machine, is said as well; the units, which are given no
flags, need all of it. A file, key, state directory or nix program that others than
root and the running user can change is refused, as at every run.

Exit codes:
  0    the configuration holds
  78   it does not; stderr says why`,
		Example: `  ec-verify config check /etc/ec-verify/config.json
  ec-verify config check result && echo usable`,
		Args: argCount(0, 1, "at most one file"),
		RunE: func(_ *cobra.Command, files []string) error {
			if len(files) == 1 {
				a.configFile = files[0]
			}
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			if err := checkAnyState(c); err != nil {
				return err
			}
			if err := keysThatAreNone(c); err != nil {
				return err
			}
			return a.printChecked(c)
		},
	}
	show := &cobra.Command{
		Use:     "show",
		Short:   "print the configuration in force, defaults included",
		Example: "  ec-verify config show --config ./config.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			return a.printConfig(c)
		},
	}
	return group(&cobra.Command{Use: "config", Short: "look at the configuration"}, check, show)
}

// printChecked says that c holds, and what a unit would miss in it.
func (a *app) printChecked(c config.Config) error {
	name := a.configFile
	if name == "" {
		name = config.DefaultFile
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			name += " (which does not exist: the defaults)"
		}
	}
	lines := []string{name + ": it holds"}
	for _, missing := range missingForUnits(c) {
		lines = append(lines, "the units need more: "+missing.Error())
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.stdout, report.Escape(line)); err != nil {
			return err
		}
	}
	return nil
}

// keysThatAreNone is the error of a key's file that is there and holds none. A
// file that is not there may be on the machine that the configuration is for.
func keysThatAreNone(c config.Config) error {
	if len(c.Trust.Keys) == 0 {
		return nil
	}
	_, err := trust.New(c.Trust)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return configError{err}
}

// missingForUnits returns what keeps a run without flags from beginning. The
// token is left out: only the fetching unit has it.
func missingForUnits(c config.Config) []error {
	c.Release.TokenFile = ""
	var missing []error
	for _, check := range releaseChecks(c, "") {
		if err := check(); err != nil {
			missing = append(missing, err)
		}
	}
	return missing
}

func (a *app) printConfig(c config.Config) error {
	if err := json.MarshalWrite(a.stdout, &c, jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout)
	return err
}
