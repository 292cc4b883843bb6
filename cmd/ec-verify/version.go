package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/pkg/sha256pair"
)

// build says how this program was built, as far as the program knows.
type build struct {
	Version string `json:"version"`
	// Commit is that of the source; empty where the build recorded none, as one by
	// Nix does, which has no git checkout.
	Commit string `json:"commit,omitzero"`
	// Modified says that the checkout had changes that were not committed.
	Modified bool   `json:"modified,omitzero"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Settings are the build settings as the Go command lists them: "-trimpath=true".
	Settings []string `json:"settings"`
	// PairedHashing says that this processor hashes two streams at once.
	PairedHashing bool `json:"pairedHashing"`
}

func newVersionCommand(t *terminal.Terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version, the commit and the build settings",
		Example: `  ec-verify version
  ec-verify version --output json`,
		Args: terminal.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return t.Show(ownBuild())
		},
	}
}

func ownBuild() build {
	b := build{
		Version: terminal.ToolVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Settings: []string{}, PairedHashing: sha256pair.Available(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs", "vcs.time", "GOOS", "GOARCH":
		default:
			if s.Value == "" {
				continue
			}
			b.Settings = append(b.Settings, s.Key+"="+s.Value)
		}
	}
	return b
}

// Text implements [terminal.Result], one fact a line.
func (b build) Text(terminal.Screen) string {
	commit := b.Commit
	switch {
	case commit == "":
		commit = "unknown: the build recorded none"
	case b.Modified:
		commit += ", with uncommitted changes"
	}
	hashing := "one stream at a time"
	if b.PairedHashing {
		hashing = "two streams at a time"
	}
	return fmt.Sprintf("ec-verify %s\ncommit    %s\nbuilt     with %s for %s\nsettings  %s\nhashing   %s on this processor\n",
		b.Version, commit, b.Go, b.Platform, strings.Join(b.Settings, " "), hashing)
}
