package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
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
	journalWhen    string           // "auto", "always", "never", or "" for what the configuration says
	journal        *systemd.Journal // for complaints; nil before the first
}

func newApp(stdout, stderr io.Writer) *app {
	return &app{stdout: stdout, stderr: stderr}
}

// complain writes the one line that an error is told in, to the journal in a
// unit.
func (a *app) complain(err error) {
	if a.complainInJournal(err) {
		return
	}
	a.note(report.Escape(strings.TrimSpace(err.Error())))
}

// note writes a message for people to stderr; on a terminal its lines are folded to the
// width. What is in it from outside is escaped.
func (a *app) note(text string) {
	width, _ := screen(a.stderr)
	_, _ = io.WriteString(a.stderr, report.Fold("ec-verify: "+text+"\n", width))
}

// loadConfig reads the configuration, which must not be others' to change.
func (a *app) loadConfig() (config.Config, error) {
	l, err := a.readConfig()
	if err != nil {
		return config.Config{}, configError{err}
	}
	return l.Config, a.checkOwn(l.Config)
}

// readConfig reads the configuration; it has suggestions for mistaken keys.
func (a *app) readConfig() (*config.Loaded, error) {
	l, err := config.Read(a.configFile)
	var mistakes *config.Mistakes
	if errors.As(err, &mistakes) {
		for i := range mistakes.All {
			m := &mistakes.All[i]
			if len(m.Known) > 0 {
				parent, own := m.Parent()
				m.Text += didYouMean(parent, own, m.Known)
			}
		}
		// The text of err was made before.
		err = fmt.Errorf("configuration %w", mistakes)
	}
	return l, err
}

// checkGlobals holds the global flags to their values.
func (a *app) checkGlobals(*cobra.Command, []string) error {
	if a.output != "text" && a.output != "json" {
		return usageError{fmt.Errorf("--output %q: want text or json", a.output)}
	}
	if a.progress != "auto" && a.progress != "always" && a.progress != "never" {
		return usageError{fmt.Errorf("--progress %q: want auto, always or never", a.progress)}
	}
	if a.journalWhen != "" && !slices.Contains(config.JournalWhen, a.journalWhen) {
		return usageError{fmt.Errorf("--journal %q: want auto, always or never", a.journalWhen)}
	}
	return nil
}

// logger writes to stderr with --verbose and nowhere without it.
func (a *app) logger() zerolog.Logger {
	if !a.verbose {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: a.stderr, TimeFormat: time.TimeOnly, NoColor: !a.colors(a.stderr)}).With().Timestamp().Logger()
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
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// results is standard output. It keeps the first error, so that a result that
// nobody got is no success, whoever wrote it.
type results struct {
	file *os.File
	err  error
}

func (r *results) Write(p []byte) (int, error) {
	n, err := r.file.Write(p)
	if r.err == nil {
		r.err = err
	}
	return n, err
}

// Fd is for isTerminal.
func (r *results) Fd() uintptr { return r.file.Fd() }

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
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		hint := didYouMean("", args[0], names)
		if likely := likelyMeant(args[0]); likely != "" && !cmd.HasParent() {
			hint = "; did you mean " + likely + "?"
		}
		return usageError{fmt.Errorf("unknown command %q for %s%s (%[2]s --help lists them)", args[0], cmd.CommandPath(), hint)}
	}
	return usageError{fmt.Errorf("%s takes no arguments, only flags; got %q", cmd.CommandPath(), args[0])}
}

// flagNames finds the names of flags in a usage.
var flagNames = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

// unknownFlag is what a command line is told that cannot be parsed.
func unknownFlag(cmd *cobra.Command, err error) error {
	hint := ""
	var about interface{ GetSpecifiedName() string }
	if errors.As(err, &about) && len(about.GetSpecifiedName()) > 1 && cmd.Flags().Lookup(about.GetSpecifiedName()) == nil {
		var names []string
		for _, m := range flagNames.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
			names = append(names, m[1])
		}
		hint = didYouMean("--", about.GetSpecifiedName(), names)
	}
	return usageError{fmt.Errorf("%w%s (%s --help lists the flags)", err, hint, cmd.CommandPath())}
}

// didYouMean names those of names that are like word. Cobra knows how, but only
// for the names of commands.
func didYouMean(prefix, word string, names []string) string {
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

// helpFor is for the command that cobra makes: it must not answer for a command
// that does not exist with the help of another.
func helpFor(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err != nil {
		return usageError{err}
	}
	if found.HasSubCommands() {
		return noArgs(found, rest)
	}
	return nil
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
