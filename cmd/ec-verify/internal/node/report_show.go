package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/ledger"
	"every.channel/ec-verify/internal/report"
)

func newReportShowCommand(a *app) *cobra.Command {
	var text textFlags
	var keys []string
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "show the findings of the last run, or of a report",
		Long: `Show the report of the last run on this machine, without a new run; or the
report in FILE, either from --output json or signed. --key checks the
signature; without it, a signed report is shown unchecked, with a warning on
stderr.

The exit code is that of the report's verdict, as for a run; 3 if a signature
is not valid; 4 if there is no report.`,
		Example: `  ec-verify report show --all
  ec-verify report show report-0000000012.sigstore.json --key runner-1.pub \
    --long`,
		Args: terminal.ArgCount(0, 1, "at most one file"),
		RunE: func(_ *cobra.Command, files []string) error {
			if err := text.check(a.Terminal); err != nil {
				return err
			}
			r, err := a.shownReport(files, keys, text)
			if err != nil {
				return err
			}
			if err := a.render(r, text); err != nil {
				return err
			}
			return terminal.VerdictError(r.Verdict())
		},
	}
	text.register(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "trust reports signed by the public key in `FILE`; may be repeated")
	return cmd
}

// lastReport is the file with the JSON report of the last run.
func lastReport(stateDir string) string {
	return filepath.Join(ledger.Dir(stateDir), "last-report.json")
}

// keepReport keeps r for report show. That it can't be kept changes nothing else.
func (a *app) keepReport(c config.Config, r *report.Report) {
	if newLedger(c) == nil {
		return
	}
	if err := writeReport(lastReport(c.StateDir), r); err != nil {
		log := a.Logger()
		log.Warn().Err(err).Msg("the report is not kept")
	}
}

func writeReport(name string, r *report.Report) error {
	out, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644), renameio.WithExistingPermissions(), renameio.WithTempDir(filepath.Dir(name)))
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // it is gone once it was renamed
	if err := r.WriteJSON(out); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}

func (a *app) shownReport(files, keys []string, text textFlags) (*report.Report, error) {
	if len(files) == 1 {
		return a.reportIn(files[0], keys)
	}
	if len(keys) > 0 {
		return nil, terminal.UsageErrorf("--key is for a signed report: name its FILE")
	}
	c, err := configured.Load(a.Terminal)
	if err != nil {
		return nil, err
	}
	name := lastReport(c.StateDir)
	r, err := readReport(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s, so no run was remembered: verify this machine first, as root", name)
	}
	if err == nil && a.ForPeople() && !text.brief && !text.quiet {
		a.Note("the run of " + r.Finished.Local().Format("2006-01-02 15:04:05 MST"))
	}
	return r, err
}

// reportIn reads a report in JSON, or a signed one, from the file name, "-" for standard
// input.
func (a *app) reportIn(name string, keys []string) (*report.Report, error) {
	data, err := readInput(name)
	if err != nil {
		return nil, err
	}
	r, signed, err := openReport(name, data, keys)
	if err == nil && signed == unchecked {
		a.notChecked()
	}
	return r, err
}

func (a *app) notChecked() {
	a.Note("the signature was not checked: give --key FILE")
}

// signature is the state of a report's signature.
type signature string

const (
	unsigned  signature = "none"
	unchecked signature = "not checked"
)

// openReport returns the report that data from the file name is, or that is signed in
// it. With keys it must be signed by one of them.
func openReport(name string, data []byte, keys []string) (*report.Report, signature, error) {
	statement, signed := attest.Unverified(data)
	by := unchecked
	switch {
	case !signed && len(keys) > 0:
		return nil, "", terminal.EvidenceErrorf("%s is not a signed report", name)
	case !signed:
		r, err := parseReport(name, data)
		return r, unsigned, err
	case len(keys) > 0:
		ring, err := reportKeyring(keys)
		if err != nil {
			return nil, "", err
		}
		vouched, err := ring.Open(data)
		if err != nil {
			return nil, "", terminal.EvidenceErrorf("%s: %w", name, err)
		}
		statement, by = vouched.Payload, signature("valid, by the key "+vouched.KeyID)
	}
	s, err := attest.Decode(statement)
	if err != nil {
		return nil, "", terminal.EvidenceErrorf("%s: %w", name, err)
	}
	r, err := report.Parse(s.Report)
	if err != nil {
		return nil, "", terminal.EvidenceErrorf("%s: %w", name, err)
	}
	return r, by, nil
}
