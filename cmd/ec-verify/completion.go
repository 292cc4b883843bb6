package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// placeholders are the names in usages for a file or a directory, with the completions
// that a shell offers for them.
var placeholders = map[string]cobra.ShellCompDirective{
	"FILE": cobra.ShellCompDirectiveDefault, "PATH": cobra.ShellCompDirectiveDefault,
	"DIR": cobra.ShellCompDirectiveFilterDirs, "OUT": cobra.ShellCompDirectiveFilterDirs,
	"SOURCE": cobra.ShellCompDirectiveFilterDirs,
	"A":      cobra.ShellCompDirectiveDefault, "FLAKE#CONFIGURATION": cobra.ShellCompDirectiveFilterDirs,
}

// completeRest has everything else complete to what its placeholder says: tags to
// the releases that are known here, files and directories to such, and what is
// made up, such as a duration, to nothing. Shells would offer files.
func completeRest(t *terminal.Terminal, cmd *cobra.Command) {
	offer := func(placeholder string) cobra.CompletionFunc {
		switch directive, path := placeholders[placeholder]; {
		case strings.Contains(placeholder, "TAG"):
			files := cobra.ShellCompDirectiveNoFileComp
			if placeholder == "DIR|TAG" {
				files = cobra.ShellCompDirectiveDefault
			}
			return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return configured.KnownTags(cmd.Context(), t), files
			}
		case path:
			return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return nil, directive }
		}
		return cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, done := cmd.GetFlagCompletionFunc(f.Name); done || len(f.Annotations) > 0 || f.NoOptDefVal != "" {
			return
		}
		placeholder, _ := pflag.UnquoteUsage(f)
		if f.Name == "tag" { // a new one
			placeholder = ""
		}
		terminal.CompleteBy(cmd, f.Name, offer(placeholder))
	})
	if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
		_, args, _ := strings.Cut(cmd.Use, " ")
		first, _, _ := strings.Cut(args, " ")
		cmd.ValidArgsFunction = offer(strings.TrimSuffix(strings.Trim(first, "[]"), "..."))
	}
	for _, c := range cmd.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			completeRest(t, c)
		}
	}
}
