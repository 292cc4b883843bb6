package main

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/config"
)

func newConfigCommand(a *app) *cobra.Command {
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "check a configuration file",
		Long:  "Read FILE (or the file of --config, or the default one) and say what is wrong with it, if anything.",
		Example: `  ec-verify config check /etc/ec-verify/config.json
  ec-verify config check result && echo usable`,
		Args: argCount(0, 1, "at most one file"),
		RunE: func(_ *cobra.Command, files []string) error {
			if len(files) == 1 {
				a.configFile = files[0]
			}
			_, err := a.loadConfig()
			return err
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

func (a *app) printConfig(c config.Config) error {
	if err := json.MarshalWrite(a.stdout, &c, jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout)
	return err
}
