package node

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

// reportFlags are the conditions for signed reports.
type reportFlags struct {
	keys            []string
	machine         string
	nonce           string
	requireVerified bool
}

func newReportVerifyCommand(a *app) *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "check signed reports of machines",
		Long: `Check that each FILE is a report signed by one of the keys, and that its verdict
follows from its findings. Of several reports of one machine, check that none is
missing between them and that each names the one before it.

The findings are shown but do not affect the result: a validly signed report of
drift passes. With --require-verified it does not (exit code 1), and neither does
the report of a run that was weakened by an option or that examined a disk of
--store-root.

Exit codes:
  0   every signature is valid, and each machine's reports follow each other
  1   with --require-verified: the same, but a machine is not verified
  3   a signature is not valid, a report is malformed, or one is missing
  4   a file could not be read`,
		Example: `  ec-verify report verify report-0000000012.sigstore.json --key runner-1.pub
  ec-verify report verify collected/*/*.sigstore.json --key runner-1.pub --key runner-2.pub --require-verified`,
		Args: terminal.ArgCount(1, maxReports, "files of signed reports"),
		RunE: func(_ *cobra.Command, files []string) error { return a.verifyReports(files, flags) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.keys, "key", nil, "trust the public key in `FILE`; may be repeated (required)")
	f.StringVar(&flags.machine, "machine", "", "accept only reports of the machine `ID`")
	f.StringVar(&flags.nonce, "nonce", "", "accept only reports with the nonce `TEXT`, given to the run with --nonce")
	f.BoolVar(&flags.requireVerified, "require-verified", false, "fail unless every verdict is verified, of the machine itself, and not weakened by options")
	return cmd
}

// maxReports is how many files are checked at once.
const maxReports = 100_000

// checkedReport is one file, as --output json prints it.
type checkedReport struct {
	File     string         `json:"file"`
	Error    string         `json:"error,omitzero"` // why it does not hold; "" where it does
	Key      string         `json:"key"`
	Machine  string         `json:"machine"`
	Host     string         `json:"host"`
	Run      string         `json:"run"`
	Sequence int64          `json:"sequence"`
	Previous string         `json:"previous"`
	Digest   string         `json:"digest"`
	Nonce    string         `json:"nonce"`
	Verdict  report.Verdict `json:"verdict"`
	// Counts are the findings by class.
	Counts        map[report.Class]int `json:"counts"`
	Tag           string               `json:"tag"`
	Configuration string               `json:"configuration"`
	StoreRoot     string               `json:"storeRoot"`
	Unsafe        []string             `json:"unsafe"`
	Finished      time.Time            `json:"finished"`

	statement *attest.Statement
}

// verified reports whether c says that the machine itself is verified, by a run without
// weakening options.
func (c *checkedReport) verified() bool {
	return c.Verdict == report.Verified && len(c.Unsafe) == 0 && c.StoreRoot == ""
}

// checkedReports is the result of report verify.
type checkedReports struct {
	SchemaVersion int             `json:"schemaVersion"`
	Holds         bool            `json:"holds"`
	Reports       []checkedReport `json:"reports"`
	Breaks        []string        `json:"breaks"`
}

func (a *app) verifyReports(files []string, flags reportFlags) error {
	ring, err := reportKeyring(flags.keys)
	if err != nil {
		return err
	}
	out := checkedReports{SchemaVersion: 1, Breaks: []string{}}
	var statements []*attest.Statement
	refused, unverified := 0, 0
	for _, file := range files {
		data, err := hostfile.ReadSmall(file, trust.MaxStatementBundle)
		if err != nil {
			return err
		}
		checked := checkReport(ring, file, data, flags)
		switch {
		case checked.statement == nil:
			refused++
		case !checked.verified():
			unverified++
			fallthrough
		default:
			statements = append(statements, checked.statement)
		}
		if checked.statement != nil {
			// The reports of a fleet need not be in memory at once.
			checked.statement.Report, checked.statement = nil, nil
		}
		out.Reports = append(out.Reports, checked)
	}
	for _, b := range slices.Concat(attest.Shared(statements), attest.Breaks(statements)) {
		out.Breaks = append(out.Breaks, b.String())
	}
	out.Holds = refused == 0 && len(out.Breaks) == 0
	if err := a.Show(&out); err != nil {
		return err
	}
	switch {
	case refused > 0:
		return terminal.EvidenceErrorf("%d of %d reports do not hold", refused, len(files))
	case len(out.Breaks) > 0:
		return terminal.EvidenceErrorf("the reports do not follow each other")
	case flags.requireVerified && unverified > 0:
		return terminal.VerdictError(report.Drifted)
	}
	return nil
}

func reportKeyring(files []string) (*trust.Keyring, error) {
	if len(files) == 0 {
		return nil, terminal.UsageErrorf("--key FILE is missing: say whose reports are believed")
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

// checkReport checks one bundle with the keys and the flags; statement is nil if it is
// not valid.
func checkReport(ring *trust.Keyring, file string, data []byte, flags reportFlags) checkedReport {
	checked := checkedReport{File: file}
	signed, err := ring.Open(data)
	if err != nil {
		checked.Error = err.Error()
		return checked
	}
	s, err := attest.Decode(signed.Payload)
	if err != nil {
		checked.Error = "signed, but malformed: " + err.Error()
		return checked
	}
	sum := s.Summary
	checked = checkedReport{
		File: file, Key: signed.KeyID, Machine: s.Machine, Host: sum.Host, Run: s.Run, Sequence: s.Sequence, Previous: s.Previous,
		Digest: s.Digest, Nonce: s.Nonce, Verdict: sum.Verdict, Counts: sum.Counts, Tag: sum.Tag, Configuration: sum.Configuration,
		StoreRoot: sum.StoreRoot, Unsafe: sum.Unsafe, Finished: sum.Finished, statement: s,
	}
	s.Key = signed.KeyID
	switch {
	case flags.machine != "" && s.Machine != flags.machine:
		checked.Error, checked.statement = "signed by a key given, but of machine "+s.Machine, nil
	case flags.nonce != "" && s.Nonce != flags.nonce:
		checked.Error, checked.statement = "signed, but it does not answer to the nonce", nil
	}
	return checked
}

// Text implements [terminal.Result].
func (c *checkedReports) Text(screen terminal.Screen) string {
	var lines []string
	for _, r := range c.Reports {
		if r.Error != "" {
			lines = append(lines, "DOES NOT HOLD  "+r.File+": "+r.Error)
			continue
		}
		about := "no release"
		if r.Tag != "" {
			about = "release " + r.Tag
		}
		line := fmt.Sprintf("holds  %s: %s, %s, machine %s (%s), report %d of %s", r.File, r.Verdict, about, r.Machine, r.Host,
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
