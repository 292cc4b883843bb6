package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
)

// newManCommand writes the man pages; packaging calls it, people read them
// with man.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR [CONFIGURATION.md]",
		Short:   "write the man pages into a directory",
		Long:    "Write ec-verify(1) and a page for each command into DIR, and ec-verify.json(5)\nof the page in Markdown that documents the configuration.",
		Example: "  ec-verify man share/man docs/configuration.md",
		Hidden:  true,
		Args:    terminal.ArgCount(1, 2, "a directory, and the page on the configuration"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := writePages(root, args[0]); err != nil || len(args) == 1 {
				return err
			}
			return writeConfigPage(args[1], args[0])
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
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	page, err := manPage(cmd, strings.ToUpper(name), "1")
	if err != nil {
		return err
	}
	page = parted(namedValues(cmd, page))
	if !cmd.HasParent() {
		page = append(page, filesAndEnvironment...)
	}
	return writePage(filepath.Join(dir, name+".1"), page)
}

// manPage returns the page of cmd without a date, since the pages of one version
// are the same bytes whenever they are written; the writer of pages has none of
// that kind, and it is taken out again.
func manPage(cmd *cobra.Command, title, section string) ([]byte, error) {
	epoch := time.Unix(0, 0).UTC()
	var page bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{
		Title: title, Section: section, Date: &epoch, Source: "ec-verify", Manual: "ec-verify manual",
	}, &page); err != nil {
		return nil, fmt.Errorf("write man pages: %w", err)
	}
	return bytes.Replace(page.Bytes(), []byte(epoch.Format(`"Jan 2006"`)), []byte(`""`), 1), nil
}

func writePage(name string, page []byte) error {
	if err := os.WriteFile(name, page, 0o644); err != nil { //nolint:gosec // for everybody to read
		return fmt.Errorf("write man pages: %w", err)
	}
	return nil
}

// optionText is an option and its text, as cobra writes them: paragraphs, of which
// the second line begins with a tab.
var optionText = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(?:\.PP\n|(\.SH OPTIONS[^\n]*\n))((?:\\fB-\w\\fP, )?\\fB--[^\n]*)\n\t`)
})

// parted sets the options of a page apart from their texts, which are indented.
func parted(page []byte) []byte { return optionText().ReplaceAll(page, []byte("$1.TP\n$2\n")) }

// filesAndEnvironment ends ec-verify(1) and ec-verify.json(5).
const filesAndEnvironment = `
.SH FILES
.TP
\fI/etc/ec-verify/config.json\fP
the configuration; see ec-verify.json(5)
.TP
\fI/etc/ec-verify/config.d/*.json\fP
drop-ins, laid over it in the order of their names
.TP
\fI/var/lib/ec-verify\fP
what is remembered between runs: accepted releases, the ledger, signed reports, the last report
.TP
\fI/etc/every-channel/flake\fP
a link to the flake that the system was built of

.SH ENVIRONMENT
.TP
\fBNO_COLOR\fP
no colours, whatever it is set to
.TP
\fBTERM\fP
with \fBdumb\fP no colours, no progress, and reports as in a file
.TP
\fBTMPDIR\fP
where the Nix database is copied to if the state directory has no room
.TP
\fBSOURCE_DATE_EPOCH\fP
the time that a manifest is dated with, in seconds since 1970
.TP
\fBCREDENTIALS_DIRECTORY\fP
where systemd puts the credential \fBec-verify-report-key\fP
`

// keyRow is a row of the table of keys: name, default, meaning.
var keyRow = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^\| (` + "`[^|]*)" + ` \| ([^|]*) ?\| (.*) \|$`) })

// pageLink is a link to another page.
var pageLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`) })

// writeConfigPage writes ec-verify.json(5) of the page on the configuration. A row
// of the table of keys becomes a term and its text.
func writeConfigPage(file, dir string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	_, body, _ := strings.Cut(string(text), "\n") // without its title
	body = strings.NewReplacer("| key | default | meaning |\n|---|---|---|\n", "").Replace(body)
	body = keyRow().ReplaceAllStringFunc(body, func(row string) string {
		m := keyRow().FindStringSubmatch(row)
		term, preset := strings.ReplaceAll(m[1], "`", "**"), strings.TrimSpace(m[2])
		if preset != "" {
			preset = ". Default: " + preset
		}
		return term + "\n: " + m[3] + preset + "\n"
	})
	body = pageLink().ReplaceAllString(body, "$1")
	page, err := manPage(&cobra.Command{
		Use: "ec-verify.json", Short: "the configuration of ec-verify", Long: body, DisableAutoGenTag: true,
	}, "EC-VERIFY.JSON", "5")
	if err != nil {
		return err
	}
	page = bytes.Replace(page, []byte(`\fBec-verify.json [flags]\fP`), []byte(`\fI/etc/ec-verify/config.json\fP`), 1)
	page = append(page, filesAndEnvironment...)
	page = append(page, "\n.SH SEE ALSO\n\\fBec-verify(1)\\fP, \\fBec-verify-config-check(1)\\fP, \\fBec-verify-doctor(1)\\fP\n"...)
	return writePage(filepath.Join(dir, "ec-verify.json.5"), page)
}

// flagLine is how cobra heads a flag: "\fB--all\fP[=false]".
var flagLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^((?:\\fB-\w\\fP, )?\\fB--([a-z-]+)\\fP)\[?=.*$`)
})

// namedValues heads each flag as its help does: with the name of its value and its default,
// if it has one, and not with the value that means no default.
func namedValues(cmd *cobra.Command, page []byte) []byte {
	return flagLine().ReplaceAllFunc(page, func(line []byte) []byte {
		m := flagLine().FindSubmatch(line)
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
