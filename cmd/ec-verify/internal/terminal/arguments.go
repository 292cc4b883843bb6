package terminal

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/release"
)

// NoArgs is for commands that take flags only.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		hint := DidYouMean("", args[0], names)
		if likely := likelyMeant(args[0]); likely != "" && !cmd.HasParent() {
			hint = "; did you mean " + likely + "?"
		}
		return UsageErrorf("unknown command %q for %s%s (%[2]s --help lists them)", args[0], cmd.CommandPath(), hint)
	}
	return UsageErrorf("%s takes no arguments, only flags; got %q", cmd.CommandPath(), args[0])
}

// flagNames finds the names of flags in a usage.
var flagNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`) })

// unknownFlag returns the error for a command line that can't be parsed.
func unknownFlag(cmd *cobra.Command, err error) error {
	hint := ""
	var about interface{ GetSpecifiedName() string }
	if errors.As(err, &about) && len(about.GetSpecifiedName()) > 1 && cmd.Flags().Lookup(about.GetSpecifiedName()) == nil {
		var names []string
		for _, m := range flagNames().FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			names = append(names, m[1])
		}
		hint = DidYouMean("--", about.GetSpecifiedName(), names)
	}
	return UsageErrorf("%w%s (%s --help lists the flags)", err, hint, cmd.CommandPath())
}

// DidYouMean names those of names that are like word. Cobra knows how, but only
// for the names of commands.
func DidYouMean(prefix, word string, names []string) string {
	parent := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, name := range names {
		parent.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	like := parent.SuggestionsFor(word)
	if len(like) == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, strings.Join(like, " or "+prefix))
}

// ArgCount is for commands that take between low and high arguments.
func ArgCount(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return UsageErrorf("%s takes %s; got %d arguments (%s --help shows examples)", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// Group makes cmd a command that only has subcommands.
func Group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args = NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subcommands...)
	return cmd
}

// IsDirectory reports whether name leads to a directory.
func IsDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// likelyMeant returns the command line that somebody meant who gave a word that is
// no command, "" for none.
func likelyMeant(word string) string {
	switch word {
	case "check", "verify", "run", "audit", "scan":
		return "ec-verify without a command, which verifies this machine"
	case "diff":
		return "ec-verify compare, or ec-verify explain PATH"
	case "init", "setup":
		return "ec-verify doctor, which says what is missing"
	case "show", "last":
		return "ec-verify report show"
	case "log", "history":
		return "ec-verify status"
	}
	if _, err := release.ParseTag(word); err == nil && strings.ContainsAny(word, "0123456789") {
		return "ec-verify --against " + word
	}
	return ""
}
