// Package terminal is shared by all commands: the streams and the global flags, how
// results and messages are printed and folded, progress, the arguments of commands, and
// the exit codes.
package terminal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
)

// version is set by the release build; if it is empty, the module's own version is shown.
var version = ""

// Terminal has the streams and the global flags. Results go to stdout, everything else to
// stderr. Messages start in lower case and end without a full stop; no untrusted text
// reaches a stream unescaped.
type Terminal struct {
	Stdout, Stderr io.Writer
	ConfigFile     string
	Output         string // "text" or "json"
	progress       string // "auto", "always" or "never"
	verbose        bool
	JournalWhen    string           // "auto", "always", "never", or "" for what the configuration says
	journal        *systemd.Journal // for complaints; nil before the first
}

// New returns a terminal with these streams, whose global flags are not set yet.
func New(stdout, stderr io.Writer) *Terminal {
	return &Terminal{Stdout: stdout, Stderr: stderr}
}

// Complain writes an error on one line, in a unit to the journal.
func (t *Terminal) Complain(err error) {
	if t.ComplainInJournal(err) {
		return
	}
	t.Note(report.Escape(strings.TrimSpace(err.Error())))
}

// Note writes a message for people to stderr; on a terminal its lines are folded to the
// width. The caller escapes untrusted text.
func (t *Terminal) Note(text string) {
	width, _ := size(t.Stderr)
	_, _ = io.WriteString(t.Stderr, report.Fold("ec-verify: "+text+"\n", width))
}

// Attach gives the root command its streams, the global flags, and the checks of every
// command line.
func (t *Terminal) Attach(cmd *cobra.Command) {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.PersistentPreRunE = t.checkGlobals
	cmd.SetOut(t.Stdout)
	cmd.SetErr(t.Stderr)
	if width := t.screen().Width; width > 0 {
		// cobra's own, but folded to the terminal.
		cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "Flags.FlagUsages ", fmt.Sprintf("Flags.FlagUsagesWrapped %d ", width)))
		help := cmd.HelpFunc()
		cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
			out, text := c.OutOrStdout(), new(bytes.Buffer)
			c.SetOut(text)
			help(c, args)
			c.SetOut(out)
			_ = t.Print(text.String()) // as cobra does: a failure is not reported
		})
	}
	cmd.SetFlagErrorFunc(unknownFlag)
	flags := cmd.PersistentFlags()
	flags.StringVar(&t.ConfigFile, "config", "", "read the configuration from `FILE` (default /etc/ec-verify/config.json, if it exists)")
	flags.StringVar(&t.Output, "output", "text", "write the result as `FORMAT`: "+strings.Join(formatNames(), " or "))
	flags.StringVar(&t.progress, "progress", "auto", "show progress on stderr `WHEN`: auto (on a terminal), always or never")
	flags.BoolVar(&t.verbose, "verbose", false, "log each step to stderr")
	Complete(cmd, "output", formatNames()...)
	Complete(cmd, "progress", "auto", "always", "never")
	t.registerJournal(cmd)
}

// checkGlobals checks the values of the global flags.
func (t *Terminal) checkGlobals(*cobra.Command, []string) error {
	if formats[t.Output] == nil {
		return UsageErrorf("--output %q: want %s", t.Output, strings.Join(formatNames(), " or "))
	}
	if t.progress != "auto" && t.progress != "always" && t.progress != "never" {
		return UsageErrorf("--progress %q: want auto, always or never", t.progress)
	}
	if t.JournalWhen != "" && !slices.Contains(config.JournalWhen, t.JournalWhen) {
		return UsageErrorf("--journal %q: want auto, always or never", t.JournalWhen)
	}
	return nil
}

// Logger writes to stderr with --verbose and nowhere without it.
func (t *Terminal) Logger() zerolog.Logger {
	if !t.verbose {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: t.Stderr, TimeFormat: time.TimeOnly, NoColor: !t.Colors(t.Stderr)}).With().Timestamp().Logger()
}

// Results is standard output. It keeps the first error, so that a result that could not
// be written is not a success, whoever wrote it.
type Results struct {
	File *os.File
	Err  error
}

func (r *Results) Write(p []byte) (int, error) {
	n, err := r.File.Write(p)
	if r.Err == nil {
		r.Err = err
	}
	return n, err
}

// Fd is for [IsTerminal].
func (r *Results) Fd() uintptr { return r.File.Fd() }

// ToolVersion names this program for reports and --version.
func ToolVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
