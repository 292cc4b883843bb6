package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/release"
)

// everyCommand calls f with each command of the program.
func everyCommand(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		f(cmd)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	t := terminal.New(io.Discard, io.Discard)
	root := newRootCommand(t)
	completeRest(t, root)
	walk(root)
}

// Help is read on terminals of 80 columns, of which some break a line that fills all.
func TestHelpIsWrapped(t *testing.T) {
	const columns = 79
	everyCommand(func(cmd *cobra.Command) {
		if cmd.Parent() != nil && (cmd.Name() == "completion" || cmd.Parent().Name() == "completion") {
			return // cobra's own
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > columns {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

// Each flag that takes a value says what it is called, and something was decided
// about its completion.
func TestFlagsAreNamed(t *testing.T) {
	everyCommand(func(cmd *cobra.Command) {
		if cmd.Name() == "help" || strings.HasPrefix(cmd.CommandPath(), "ec-verify completion") {
			return
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal != "" {
				return
			}
			if name, _ := pflag.UnquoteUsage(f); name != strings.ToUpper(name) || name == "" {
				t.Errorf("%s --%s: its value is called %q", cmd.CommandPath(), f.Name, name)
			}
			if _, ok := cmd.GetFlagCompletionFunc(f.Name); !ok && len(f.Annotations) == 0 {
				t.Errorf("%s --%s: completes to files by default", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// What a release consists of is known to others from docs/trust.md.
func TestAssetsAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		release.SumsName, release.BundleName, release.InfoName,
		release.ManifestName("NAME"), release.ListingName("NAME"), release.DerivationsName("NAME"), release.MachineName("NAME"),
	} {
		if !strings.Contains(string(data), "\n| `"+name+"` | ") {
			t.Errorf("docs/trust.md has nothing about %s", name)
		}
	}
}
