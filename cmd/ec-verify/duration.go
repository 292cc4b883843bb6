package main

import (
	"time"

	"github.com/spf13/pflag"

	"every.channel/ec-verify/internal/node/config"
)

// durationVar registers a flag that takes what a duration of the configuration
// does: days and weeks too.
func durationVar(f *pflag.FlagSet, value *time.Duration, name string, preset time.Duration, usage string) {
	*value = preset
	f.Var((*config.Duration)(value), name, usage)
	if preset == 0 {
		f.Lookup(name).DefValue = "" // which help does not show
	}
}
