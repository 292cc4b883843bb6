package node

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

func newHashCommand(a *app) *cobra.Command {
	var read string
	cmd := &cobra.Command{
		Use:   "hash PATH...",
		Short: "print the NAR hash of file trees",
		Long: `Print the NAR hash and NAR size of each PATH, in the format of nix path-info
--json.

A PATH that is a symbolic link is hashed as a link; with a slash at its end,
the directory that it leads to is hashed. No other link is followed. With
--output json each line is one object; a path that is not valid UTF-8 is given
as pathBase64.`,
		Example: `  ec-verify hash /etc/every-channel/flake/
  ec-verify hash --read disk --output json /nix/store/*-linux-*`,
		Args: terminal.ArgCount(1, 1<<20, "one path or more"),
		RunE: func(cmd *cobra.Command, paths []string) error {
			mode, err := nar.ParseReadMode(read)
			if err != nil {
				return terminal.UsageErrorf("--read %q: want cached or disk", read)
			}
			return a.hash(cmd.Context(), paths, nar.Options{Read: mode})
		},
	}
	cmd.Flags().StringVar(&read, "read", "cached", "read files through the page cache or past it: `MODE` is cached or disk")
	terminal.Complete(cmd, "read", "cached", "disk")
	return cmd
}

func (a *app) hash(ctx context.Context, paths []string, opts nar.Options) error {
	opts.Progress = new(nar.Progress)
	var at atomic.Int64
	defer a.Watch(func() terminal.Sample { return hashed(opts.Progress.Snapshot(), paths, int(at.Load())) })()
	failed := 0
	for i, path := range paths {
		at.Store(int64(i))
		tree, err := treeOf(path)
		var sum nar.Sum
		if err == nil {
			sum, err = nar.HashPath(ctx, tree, opts)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
			if ctx.Err() != nil || len(paths) == 1 {
				return err
			}
			// The others may still be readable.
			a.Complain(err)
			failed++
			continue
		}
		if err := a.Show(newPathHash(path, sum)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d paths could not be hashed", failed, len(paths))
	}
	return nil
}

// treeOf returns what is hashed for a path: with a slash at its end, the directory that it
// leads to, with all links resolved; without, the path itself.
func treeOf(path string) (string, error) {
	if !strings.HasSuffix(path, "/") {
		return path, nil
	}
	if _, err := os.Stat(path); err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err
		}
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// hashed describes the progress of hashing paths, of which number at is in progress.
func hashed(c nar.Counts, paths []string, at int) terminal.Sample {
	s := terminal.Sample{What: "hash", Detail: fmt.Sprintf("%s in %s  %s", humanize.IBytes(uint64(max(c.Bytes, 0))), report.Quantity(c.Files, "file"), report.Escape(filepath.Base(paths[at])))}
	if n := len(paths); n > 1 {
		s.Done, s.Total, s.Items = int64(at), int64(n), true
		s.Detail = fmt.Sprintf("%d/%d paths  %s", at, n, s.Detail)
	}
	return s
}

// pathHash is the result of one path.
type pathHash struct {
	Path       *string  `json:"path,omitzero"`
	PathBase64 *string  `json:"pathBase64,omitzero"`
	NarHash    nar.Hash `json:"narHash"`
	NarSize    int64    `json:"narSize"`

	raw string
}

func newPathHash(path string, sum nar.Sum) *pathHash {
	h := &pathHash{NarHash: sum.Hash, NarSize: sum.Size, raw: path}
	if utf8.ValidString(path) {
		h.Path = &path
	} else {
		h.PathBase64 = new(base64.StdEncoding.EncodeToString([]byte(path)))
	}
	return h
}

// Text implements [terminal.Result].
func (h *pathHash) Text(terminal.Screen) string {
	return fmt.Sprintf("%s  %d  %s\n", h.NarHash, h.NarSize, report.Escape(h.raw))
}
