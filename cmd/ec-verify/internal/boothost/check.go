package boothost

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/excerpt"
)

func newNetbootCheckCommand(a *app) *cobra.Command {
	var flags configured.Flags
	var dir, url string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check that the files served are the release's, byte for byte",
		Long: `Check everything in DIR that machines can be served: the current stage, the
previous one, and anything else in DIR.

A stage keeps its release's SHA256SUMS.txt with its signature, release.json and
the bundle. The signature is verified again, by today's policy; the bundle is
compared with SHA256SUMS.txt, and each served file with the bundle. stage.json
proves nothing. A release stays valid here when a newer one has been accepted
since. The address that machines are sent to belongs to this host and is in no
release: --url says which one to expect; without it, the address is printed.

Exit codes: 0 everything is intact; 1 something was altered or damaged since,
or does not belong there; 3 a served release is no longer trusted, for example
because its key was revoked; 4 nothing is staged, or something could not be
read. To repair a stage, stage it again; to stop serving, run ec-verify netboot
clear.`,
		Example: `  ec-verify netboot check --dir /var/lib/every-channel-netboot/www \
    --config /etc/every-channel-netboot/ec-verify.json
  ec-verify netboot check --dir /srv/netboot --url http://10.0.0.2 \
    --key release.pub`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkStageDir(dir); err != nil {
				return err
			}
			s := netboot.Stager{Dir: dir}
			var err error
			if url != "" {
				if s.URL, err = parseURLFlag(url); err != nil {
					return err
				}
			}
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			if s.Open, err = openKept(c); err != nil {
				return err
			}
			served, err := s.CheckServed(cmd.Context())
			if err == nil && served.Current.Name == "" && len(served.All()) == 0 {
				err = fmt.Errorf("nothing is staged in %s; run ec-verify netboot stage", dir)
			}
			if err != nil {
				return a.Refused(netbootKind, err)
			}
			return a.printServed(served)
		},
	}
	flags.RegisterKey(cmd)
	registerStageDir(cmd, &dir)
	cmd.Flags().StringVar(&url, "url", "", "require that machines are sent to `URL`, e.g. http://10.0.0.2")
	return cmd
}

// printServed prints what is served, and writes what is wrong with it to standard error,
// each in a line of its own.
func (a *app) printServed(v *netboot.Served) error {
	s := summarizeStage(v.Current.Name, v.Current.Record)
	verdict := report.Verified
	for _, c := range v.All() {
		if c.Err == nil {
			continue
		}
		f := stageFinding{Role: "stray", Stage: excerpt.Raw(c.Name), Detail: c.Err.Error()}
		what := c.Name
		switch c.Name {
		case v.Current.Name:
			f.Role, what = "current", "the release that machines boot"
		case v.Previous.Name:
			f.Role, what = "previous", "the previous release, which is kept for machines that are booting,"
		}
		own := faultVerdicts[netboot.FaultOf(c.Err)]
		f.Verdict = own.String()
		err := c.Err
		if untrusted, ok := errors.AsType[*release.UntrustedError](c.Err); ok {
			f.Reason = untrusted.Reason
			err = fmt.Errorf("%s is no longer trusted, but is still served: %w; stage another release, or stop with ec-verify netboot clear", what, c.Err)
		}
		a.Complain(err)
		s.Findings = append(s.Findings, f)
		verdict = worse(verdict, own)
	}
	s.Verdict = verdict.String()
	s.headline = fmt.Sprintf("release %s is served and intact", s.Tag)
	if s.Stage == "" {
		s.headline = "nothing is served; the stages there are intact"
	}
	// For people, standard error already has the reason.
	if verdict == report.Verified || !a.ForPeople() {
		if err := a.Show(&s); err != nil {
			return err
		}
	}
	return terminal.VerdictError(verdict)
}

// faultVerdicts are the verdicts for a stage that is not whole.
var faultVerdicts = map[netboot.Fault]report.Verdict{
	netboot.Altered: report.Drifted,
	netboot.Refused: report.Refused,
	netboot.NoFault: report.Unsettled,
}

// worse returns the verdict that says more about what is wrong: drift is certain, an
// untrusted release may still be intact, and something unchecked may be anything.
func worse(a, b report.Verdict) report.Verdict {
	for _, v := range []report.Verdict{report.Drifted, report.Refused, report.Unsettled} {
		if a == v || b == v {
			return v
		}
	}
	return report.Verified
}
