package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"every.channel/ec-verify/internal/config"
	"every.channel/ec-verify/internal/report"
)

// version is set by the release build; otherwise the module's own is told.
var version = ""

// app is what the commands share: the streams and the global flags. Results go
// to stdout, everything else to stderr. Messages begin in lower case and end
// without a full stop; nothing that an outsider wrote reaches a stream
// unescaped.
type app struct {
	stdout, stderr io.Writer
	configFile     string
	output         string // "text" or "json"
	progress       string // "auto", "always" or "never"
	verbose        bool
}

func newApp(stdout, stderr io.Writer) *app {
	return &app{stdout: stdout, stderr: stderr}
}

// complain writes the one line that an error is told in.
func (a *app) complain(err error) {
	fmt.Fprintf(a.stderr, "ec-verify: %s\n", report.Escape(strings.TrimSpace(err.Error())))
}

// loadConfig reads the configuration file.
func (a *app) loadConfig() (config.Config, error) {
	c, err := config.Load(a.configFile)
	if err != nil {
		return c, configError{err}
	}
	return c, nil
}

// checkGlobals holds the global flags to their values.
func (a *app) checkGlobals(*cobra.Command, []string) error {
	if a.output != "text" && a.output != "json" {
		return usageError{fmt.Errorf("--output %q: want text or json", a.output)}
	}
	if a.progress != "auto" && a.progress != "always" && a.progress != "never" {
		return usageError{fmt.Errorf("--progress %q: want auto, always or never", a.progress)}
	}
	return nil
}

// logger writes to stderr with --verbose and nowhere without it.
func (a *app) logger() zerolog.Logger {
	if !a.verbose {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: a.stderr, NoColor: !a.colors(a.stderr)}).With().Timestamp().Logger()
}

// colors reports whether w is a terminal whose user wants colours; see
// https://no-color.org.
func (a *app) colors(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// showsProgress reports whether progress is to be drawn on stderr.
func (a *app) showsProgress() bool {
	return a.progress == "always" || a.progress == "auto" && isTerminal(a.stderr) && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// toolVersion names this program for reports and --version.
func toolVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// noArgs is for commands that take flags only.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		message := fmt.Sprintf("unknown command %q for %s", args[0], cmd.CommandPath())
		if close := cmd.SuggestionsFor(args[0]); len(close) > 0 {
			message += fmt.Sprintf("; did you mean %s?", strings.Join(close, " or "))
		}
		return usageError{fmt.Errorf("%s (%s --help lists them)", message, cmd.CommandPath())}
	}
	return usageError{fmt.Errorf("%s takes no arguments, only flags; got %q", cmd.CommandPath(), args[0])}
}

// argCount is for commands that take between low and high arguments.
func argCount(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usageError{fmt.Errorf("%s takes %s; got %d arguments (%s --help shows examples)", cmd.CommandPath(), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}

// group makes cmd a command that only holds others.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subcommands...)
	return cmd
}
