package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
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
			// No date of today's: the pages of one version are the same bytes
			// whenever they are written.
			epoch := time.Unix(0, 0).UTC()
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{
				Section: "1", Date: &epoch, Source: "ec-verify", Manual: "ec-verify manual",
			}, dirs[0])
		},
	}
}
