package terminal

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/internal/node/config"
)

// DurationVar registers a flag for a duration in the notation of the configuration, with
// days and weeks.
func DurationVar(f *pflag.FlagSet, value *time.Duration, name string, preset time.Duration, usage string) {
	*value = preset
	f.Var((*config.Duration)(value), name, usage)
	if preset == 0 {
		f.Lookup(name).DefValue = "" // which help does not show
	}
}

// Complete offers words for the value of a flag.
func Complete(cmd *cobra.Command, flag string, words ...string) {
	CompleteBy(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// CompleteBy has f offer words for the value of a flag.
func CompleteBy(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	// It fails for an unknown flag only, which is a mistake in this program.
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// Once is the value of an option that may be given only once: the last of several would
// win unnoticed.
type Once string

// Set implements [pflag.Value].
func (o *Once) Set(value string) error {
	if *o != "" {
		return fmt.Errorf("it is given twice, first with %q", string(*o))
	}
	*o = Once(value)
	return nil
}

// String implements [pflag.Value].
func (o *Once) String() string { return string(*o) }

// Type implements [pflag.Value].
func (o *Once) Type() string { return "string" }
