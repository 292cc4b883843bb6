package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
)

// complete offers words for the value of a flag.
func complete(cmd *cobra.Command, flag string, words ...string) {
	completeBy(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func completeBy(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	// It fails for an unknown flag only, which is a mistake in this program.
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// placeholders are what usages call a value or an argument that is a file or a
// directory, with what a shell is to offer for it.
var placeholders = map[string]cobra.ShellCompDirective{
	"FILE": cobra.ShellCompDirectiveDefault, "PATH": cobra.ShellCompDirectiveDefault,
	"DIR": cobra.ShellCompDirectiveFilterDirs, "OUT": cobra.ShellCompDirectiveFilterDirs,
	"SOURCE": cobra.ShellCompDirectiveFilterDirs,
	"A":      cobra.ShellCompDirectiveDefault, "FLAKE#CONFIGURATION": cobra.ShellCompDirectiveFilterDirs,
}

// completeRest has everything else complete to what its placeholder says: tags to
// the releases that are known here, files and directories to such, and what is
// made up, such as a duration, to nothing. Shells would offer files.
func (a *app) completeRest(cmd *cobra.Command) {
	offer := func(placeholder string) cobra.CompletionFunc {
		switch directive, path := placeholders[placeholder]; {
		case strings.Contains(placeholder, "TAG"):
			files := cobra.ShellCompDirectiveNoFileComp
			if placeholder == "DIR|TAG" {
				files = cobra.ShellCompDirectiveDefault
			}
			return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return a.knownTags(cmd.Context()), files
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
		completeBy(cmd, f.Name, offer(placeholder))
	})
	if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
		_, args, _ := strings.Cut(cmd.Use, " ")
		first, _, _ := strings.Cut(args, " ")
		cmd.ValidArgsFunction = offer(strings.TrimSuffix(strings.Trim(first, "[]"), "..."))
	}
	for _, c := range cmd.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			a.completeRest(c)
		}
	}
}

// knownTags returns the tags that can be completed without asking anybody: those
// that the configuration accepts, those in the cache, and latest.
func (a *app) knownTags(ctx context.Context) []string {
	c, err := config.Load(a.configFile)
	if err != nil {
		c = config.Default()
	}
	tags := append(slices.Clone(c.Release.Accept), string(release.Latest))
	if cached, err := release.NewDirSource(cacheDir(c)).Tags(ctx); err == nil {
		for _, tag := range cached {
			tags = append(tags, string(tag))
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}
