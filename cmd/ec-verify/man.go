package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// newManCommand writes the man pages; packaging calls it, people read them
// with man.
func newManCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "write the man pages into a directory",
		Example: "  ec-verify man share/man/man1",
		Hidden:  true,
		Args:    argCount(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			if err := os.MkdirAll(dirs[0], 0o755); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return writePages(root, dirs[0])
		},
	}
}

// writePages writes the page of cmd, and those of the commands below it.
func writePages(cmd *cobra.Command, dir string) error {
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := writePages(c, dir); err != nil {
			return err
		}
	}
	// No date, since the pages of one version are the same bytes whenever they are
	// written; the writer of pages has none of that kind, and it is taken out again.
	epoch := time.Unix(0, 0).UTC()
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	var page bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{
		Title: strings.ToUpper(name), Section: "1", Date: &epoch, Source: "ec-verify", Manual: "ec-verify manual",
	}, &page); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	undated := bytes.Replace(page.Bytes(), []byte(epoch.Format(`"Jan 2006"`)), []byte(`""`), 1)
	if err := os.WriteFile(filepath.Join(dir, name+".1"), namedValues(cmd, undated), 0o644); err != nil { //nolint:gosec // for everybody to read
		return fmt.Errorf("write man pages: %w", err)
	}
	return nil
}

// flagLine is how cobra heads a flag: "\fB--all\fP[=false]".
var flagLine = regexp.MustCompile(`(?m)^((?:\\fB-\w\\fP, )?\\fB--([a-z-]+)\\fP)\[?=.*$`)

// namedValues heads each flag as its help does, by what its value is called and by
// its default where it has one, and not by the value that stands for none.
func namedValues(cmd *cobra.Command, page []byte) []byte {
	return flagLine.ReplaceAllFunc(page, func(line []byte) []byte {
		m := flagLine.FindSubmatch(line)
		f := cmd.Flag(string(m[2]))
		if f == nil {
			return line
		}
		head := string(m[1])
		if name, _ := pflag.UnquoteUsage(f); name != "" && f.NoOptDefVal == "" {
			head += ` \fI` + name + `\fP`
		}
		if !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue) {
			head += " (default " + strings.ReplaceAll(f.DefValue, `-`, `\-`) + ")"
		}
		return []byte(head)
	})
}
