package node

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/render"
)

func newReportRenderCommand(a *app, others Reader) *cobra.Command {
	var format string
	var keys []string
	var formats []string
	var about strings.Builder
	for _, f := range render.Formats {
		formats = append(formats, f.Name)
		fmt.Fprintf(&about, "\n  %-9s %s", f.Name, f.About)
	}
	cmd := &cobra.Command{
		Use:   "render [FILE]",
		Short: "render a JSON report as a page or in a forge's format",
		Long: `Render a JSON report for people or forges: as an HTML page, Markdown for a
comment, JUnit XML, or SARIF 2.1.0. FILE is the output of ec-verify or
ec-verify compare with --output json, or a signed report; without FILE,
standard input is read. --key checks the signature, and the page says whether
that was done.

The page is one file without scripts or external resources; it has a light, a
dark and a print layout. The contents of the report are shown, not checked.

The exit code says whether the report was rendered; it does not reflect the
verdict. It is 3 if a signature is not valid.

The formats:` + about.String(),
		Example: `  ec-verify --output json >report.json
  ec-verify report render --format html report.json >report.html
  ec-verify compare a/ b/ --output json | \
    ec-verify report render --format junit`,
		Args: terminal.ArgCount(0, 1, "one file, or none"),
		RunE: func(_ *cobra.Command, args []string) error {
			i := slices.Index(formats, format)
			if i < 0 {
				return terminal.UsageErrorf("--format %q: want one of %s", format, strings.Join(formats, ", "))
			}
			if err := a.TextOnly("--output json: --format determines the output"); err != nil {
				return err
			}
			file := "-"
			if len(args) == 1 {
				file = args[0]
			}
			d, err := a.readDocument(file, keys, others)
			if err != nil {
				return err
			}
			return render.Formats[i].Write(a.Stdout, d)
		},
	}
	cmd.Flags().StringVar(&format, "format", formats[0], "write `FORMAT`, one of "+strings.Join(formats, ", "))
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the report is signed by the public key in `FILE`; may be repeated")
	terminal.Complete(cmd, "format", formats...)
	return cmd
}

// readInput returns the contents of the file name, "-" for standard input.
func readInput(name string) ([]byte, error) {
	if name != "-" {
		return hostfile.ReadSmall(name, maxReport)
	}
	data, err := io.ReadAll(io.LimitReader(os.Stdin, maxReport+1))
	if err == nil && len(data) > maxReport {
		err = fmt.Errorf("standard input: larger than %d bytes", maxReport)
	}
	return data, err
}

// readDocument reads a report, signed by one of keys if there are any, or what others
// reads, to be rendered.
func (a *app) readDocument(name string, keys []string, others Reader) (*render.Document, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		if d, err := others(name, data); d != nil || err != nil {
			return d, err
		}
	}
	r, by, err := openReport(name, data, keys)
	if err != nil {
		return nil, err
	}
	d := render.FromReport(r)
	if by == unchecked {
		a.notChecked()
	}
	if by != unsigned {
		d.Facts = append(d.Facts, render.Fact{Name: "signature", Value: render.Text(string(by))})
	}
	return d, nil
}
