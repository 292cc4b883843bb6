package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/doctor"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

func newConfigCommand(a *app) *cobra.Command {
	return terminal.Group(&cobra.Command{Use: "config", Short: "check and show the configuration"}, newConfigCheckCommand(a), newConfigShowCommand(a))
}

func newConfigShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "print the configuration in force, defaults included",
		Long: `Print every key with its value in force and the origin of the value: the
configuration file, a drop-in, or the default. With --output json, print the
configuration in force in the form of a configuration file.`,
		Example: `  ec-verify config show
  ec-verify config show --config ./config.json --output json`,
		Args: terminal.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := configured.Read(a.Terminal)
			if err != nil {
				return terminal.ConfigError(err)
			}
			if err := configured.CheckOwn(a.Terminal, l.Config); err != nil {
				return err
			}
			values, err := l.Values()
			if err != nil {
				return err
			}
			return a.Show(&inForce{l, values})
		},
	}
}

// inForce is the result of config show.
type inForce struct {
	loaded *config.Loaded
	values []config.Value
}

// WriteJSON writes the configuration as a file has it.
func (f *inForce) WriteJSON(w io.Writer) error {
	return terminal.WriteJSON(w, &f.loaded.Config, jsontext.WithIndent("  "))
}

// Text implements [terminal.Result]: a line for each key with its value and where it is
// set.
func (f *inForce) Text(screen terminal.Screen) string {
	var b strings.Builder
	for _, v := range f.values {
		from := "default"
		if v.From != (config.Position{}) {
			from = v.From.String()
		}
		if v.Means != "" {
			from += ": " + v.Means
		}
		fmt.Fprintf(&b, "%-24s %-28s %s\n", v.Key, report.Escape(shownValue(v.JSON)), report.Escape(from))
	}
	return screen.Fold(b.String())
}

// shownValue returns a value for people: of a list that fills a screen, such as learned
// exceptions, only its length.
func shownValue(value string) string {
	const most = 1024 // bytes
	var list []jsontext.Value
	if len(value) <= most || json.Unmarshal([]byte(value), &list) != nil {
		return value
	}
	return fmt.Sprintf("%d entries (--output json shows them)", len(list))
}

func newConfigCheckCommand(a *app) *cobra.Command {
	var fileOnly bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "check a configuration file",
		Long: `Check whether the systemd units can verify this machine with FILE (default: the
file of --config, or /etc/ec-verify/config.json) and its drop-ins. All mistakes
are listed, each with its file, line, column and remedy: unknown keys; invalid
values; a policy without a release, a source or a key; and files that a unit
can't use, because they are missing, hidden by the unit's sandbox, writable by
users other than root, or secrets readable by other users.

--file-only checks only the files themselves, for use on another machine. The
files that they name may be missing here, but a key that exists must be valid.

Exit codes:
  0    the configuration is valid
  78   it is not`,
		Example: `  ec-verify config check
  ec-verify config check --file-only ./config.json`,
		Args: terminal.ArgCount(0, 1, "at most one file"),
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 1 {
				a.ConfigFile = files[0]
			}
			return a.checkConfig(cmd.Context(), fileOnly)
		},
	}
	cmd.Flags().BoolVar(&fileOnly, "file-only", false, "check only the files themselves, not the keys, sources and directories that they name")
	return cmd
}

// configCheck is the result of config check.
type configCheck struct {
	SchemaVersion int             `json:"schemaVersion"`
	Kind          string          `json:"kind"`
	File          string          `json:"file"`
	Valid         bool            `json:"valid"`
	Mistakes      []configMistake `json:"mistakes"`
}

// configMistake has line 0 if the mistake is in no file.
type configMistake struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Key    string `json:"key"`
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
}

func (a *app) checkConfig(ctx context.Context, fileOnly bool) error {
	more := ""
	check := configCheck{SchemaVersion: 1, Kind: "ec-verify-config-check", File: a.configName()}
	l, err := configured.Read(a.Terminal)
	if err != nil {
		var mistakes *config.Mistakes
		if !errors.As(err, &mistakes) {
			return terminal.ConfigError(err)
		}
		check.Mistakes = configMistakes(mistakes)
		if mistakes.More {
			more = "at least "
		}
		if !fileOnly && !mistakes.More {
			check.Mistakes = append(check.Mistakes, a.unusableBeside(ctx, l, mistakes)...)
		}
	} else if fileOnly {
		check.Mistakes = noKeys(l)
	} else {
		check.Mistakes = a.unusable(ctx, l)
	}
	if check.Mistakes == nil {
		check.Mistakes = []configMistake{}
	}
	check.Valid = len(check.Mistakes) == 0
	switch err := a.Show(&check); {
	case err != nil || check.Valid:
		return err
	case a.ForPeople():
		return terminal.ConfigErrorf("%s is not valid: %s%s", check.File, more, report.Quantity(len(check.Mistakes), "mistake"))
	}
	return terminal.ReportedError(terminal.ExitConfig)
}

// configName is the file of the configuration.
func (a *app) configName() string { return cmp.Or(a.ConfigFile, config.DefaultFile) }

// unusableBeside is unusable for a configuration with mistakes. It checks only what is
// set, because missing values may be a consequence of the mistakes.
func (a *app) unusableBeside(ctx context.Context, l *config.Loaded, mistakes *config.Mistakes) []configMistake {
	values, err := l.Values()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(a.unusable(ctx, l), func(m configMistake) bool {
		given := slices.ContainsFunc(values, func(v config.Value) bool {
			return v.From != (config.Position{}) && strings.HasPrefix(m.Key, v.Key)
		})
		return !given || mistakes.Covers(m.Key)
	})
}

// unusable returns the parts of a configuration that the units can't use on this machine.
func (a *app) unusable(ctx context.Context, l *config.Loaded) []configMistake {
	name := a.configName()
	if abs, err := filepath.Abs(name); err == nil {
		name = abs
	}
	out := []configMistake{}
	units, _ := systemd.Units(ctx, doctor.Services(l.Config)...) // without systemd: as they are shipped
	for _, r := range doctor.Configured(name, l.Config, units, time.Now()) {
		if r.State != doctor.Problem {
			continue
		}
		m := configMistake{File: a.configName(), Key: r.Key, Text: r.Found, Remedy: r.Remedy}
		if r.Key != "" {
			m.Text = r.Key + ": " + r.Found
		}
		if at, ok := l.At(r.Key); ok && r.Key != "" {
			m.File, m.Line, m.Column = at.File, at.Line, at.Column
		}
		out = append(out, m)
	}
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) && len(out) > 0 {
		out = slices.Insert(out, 0, configMistake{File: a.configName(), Text: "it does not exist, so the defaults apply", Remedy: "write it; ec-verify without arguments shows the smallest that works"})
	}
	return out
}

// noKeys returns the mistakes of key files that exist here and contain no key; the others
// may exist on the machine that the configuration is for.
func noKeys(l *config.Loaded) []configMistake {
	if len(l.Trust.Keys) == 0 {
		return nil
	}
	_, err := trust.New(l.Trust)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	at, _ := l.At("trust.keys")
	return []configMistake{{at.File, at.Line, at.Column, "trust.keys", err.Error(), ""}}
}

// configMistakes returns mistakes as config check lists them.
func configMistakes(mistakes *config.Mistakes) []configMistake {
	out := make([]configMistake, 0, len(mistakes.All))
	for _, m := range mistakes.All {
		out = append(out, configMistake{m.At.File, m.At.Line, m.At.Column, m.Key, m.Text, ""})
	}
	return out
}

// Text implements [terminal.Result].
func (check *configCheck) Text(screen terminal.Screen) string {
	if check.Valid {
		return report.Escape(check.File) + " is valid\n"
	}
	var b strings.Builder
	for _, m := range check.Mistakes {
		at := config.Position{File: m.File, Line: m.Line, Column: m.Column}
		fmt.Fprintf(&b, "%s: %s\n", report.Escape(at.String()), report.Escape(m.Text))
		if m.Remedy != "" {
			fmt.Fprintf(&b, "  → %s\n", report.Escape(m.Remedy))
		}
	}
	return screen.Fold(b.String())
}
