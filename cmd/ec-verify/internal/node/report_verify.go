package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

func newReportVerifyCommand(a *app) *cobra.Command {
	var keys []string
	var check attest.Check
	var requireVerified bool
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "check signed reports of machines",
		Long: `Check that each FILE is a report signed by one of the keys, and that its
verdict follows from its findings. For several reports of one machine, check
that none is missing between them and that each names the one before it.

The findings are shown but do not affect the result: a validly signed report of
drift passes. With --require-verified it does not (exit code 1), and neither
does the report of a run that was weakened by an option or that examined a disk
of --store-root.

Exit codes:
  0   every signature is valid, and each machine's reports follow each other
  1   with --require-verified: the same, but a machine is not verified
  3   a signature is not valid, a report is malformed, or one is missing
  4   a file could not be read`,
		Example: `  ec-verify report verify report-0000000012.sigstore.json --key runner-1.pub
  ec-verify report verify collected/*/*.sigstore.json --key runner-1.pub \
    --key runner-2.pub --require-verified`,
		Args: terminal.ArgCount(1, maxReports, "files of signed reports"),
		RunE: func(_ *cobra.Command, files []string) error {
			return a.verifyReports(files, keys, &check, requireVerified)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "trust the public key in `FILE`; may be repeated (required)")
	f.StringVar(&check.Machine, "machine", "", "accept only reports of the machine `ID`")
	f.StringVar(&check.Nonce, "nonce", "", "accept only reports with the nonce `TEXT`, given to the run with --nonce")
	f.BoolVar(&requireVerified, "require-verified", false, "fail unless every verdict is verified, of the machine itself, and not weakened by options")
	return cmd
}

// maxReports is how many files are checked at once.
const maxReports = 100_000

// checkedReports is the result of report verify.
type checkedReports struct {
	SchemaVersion int              `json:"schemaVersion"`
	Valid         bool             `json:"valid"`
	Reports       []attest.Checked `json:"reports"`
	Breaks        []string         `json:"breaks"`
}

func (a *app) verifyReports(files, keys []string, check *attest.Check, requireVerified bool) error {
	ring, err := reportKeyring(keys)
	if err != nil {
		return err
	}
	check.Open = func(bundle []byte) ([]byte, string, error) {
		signed, err := ring.Open(bundle)
		return signed.Payload, signed.KeyID, err
	}
	out := checkedReports{SchemaVersion: 1, Breaks: []string{}}
	refused, unverified := 0, 0
	for _, file := range files {
		data, err := hostfile.ReadSmall(file, trust.MaxStatementBundle)
		if err != nil {
			return err
		}
		checked := check.Add(file, data)
		switch {
		case checked.Error != "":
			refused++
		case !checked.Verified():
			unverified++
		}
		out.Reports = append(out.Reports, checked)
	}
	for _, b := range check.Breaks() {
		out.Breaks = append(out.Breaks, b.String())
	}
	out.Valid = refused == 0 && len(out.Breaks) == 0
	if err := a.Show(&out); err != nil {
		return err
	}
	switch {
	case refused > 0:
		return terminal.EvidenceErrorf("%d of %d reports are not valid", refused, len(files))
	case len(out.Breaks) > 0:
		return terminal.EvidenceErrorf("the reports do not follow each other")
	case requireVerified && unverified > 0:
		return terminal.VerdictError(report.Drifted)
	}
	return nil
}

func reportKeyring(files []string) (*trust.Keyring, error) {
	if len(files) == 0 {
		return nil, terminal.UsageErrorf("--key FILE is missing: name the public key of the reports")
	}
	var keys []trust.Key
	for i, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, terminal.UsageErrorf("--key %q: %w", file, err)
		}
		keys = append(keys, trust.Key{Name: fmt.Sprintf("key%d", i+1), File: abs})
	}
	ring, err := trust.NewKeyring(keys)
	if err != nil {
		return nil, terminal.UsageErrorf("--key: %w", err)
	}
	return ring, nil
}

// Text implements [terminal.Result].
func (c *checkedReports) Text(screen terminal.Screen) string {
	var lines []string
	for _, r := range c.Reports {
		if r.Error != "" {
			lines = append(lines, "NOT VALID  "+r.File+": "+r.Error)
			continue
		}
		about := "no release"
		if r.Tag != "" {
			about = "release " + r.Tag
		}
		line := fmt.Sprintf("valid  %s: %s, %s, machine %s (%s), report %d of %s", r.File, r.Verdict, about, r.Machine, r.Host,
			r.Sequence, r.Finished.UTC().Format(time.RFC3339))
		if r.StoreRoot != "" {
			line += ", of the disk at " + r.StoreRoot
		}
		if len(r.Unsafe) > 0 {
			line += ", weakened by " + strings.Join(r.Unsafe, ", ")
		}
		lines = append(lines, line)
	}
	for _, b := range c.Breaks {
		lines = append(lines, "BROKEN  "+b)
	}
	return screen.Lines(lines)
}
