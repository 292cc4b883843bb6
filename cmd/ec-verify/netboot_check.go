package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/boothost/netboot"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

func newNetbootCheckCommand(a *app) *cobra.Command {
	var flags policyFlags
	var dir, url string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check that the files served are the release's, byte for byte",
		Long: `Check everything in DIR that machines can be served: the stage that they are led
to, the one before, and whatever else lies there.

A stage keeps its release's SHA256SUMS.txt with its signature, release.json and
the bundle. The signature is verified anew, by the policy of today; the bundle is
compared with SHA256SUMS.txt, and each file that is served with the bundle. What
stage.json says vouches for nothing. Not held against a release is a newer one
that was accepted since. Where machines are led to is this host's own and in no
release: --url says where that is to be; without it, it is shown.

Exit codes: 0 everything is whole; 1 something was altered or damaged since, or
does not belong there; 3 a release that is served is no longer believed, such as
after its key was revoked; 4 nothing is staged, or something could not be read.
Stage it again to mend it; ec-verify netboot clear stops serving.`,
		Example: `  ec-verify netboot check --dir /var/lib/every-channel-netboot/www --config /etc/every-channel-netboot/ec-verify.json
  ec-verify netboot check --dir /srv/netboot --url http://10.0.0.2 --key release.pub`,
		Args: noArgs,
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
			c, err := flags.load(a, cmd)
			if err != nil {
				return err
			}
			if s.Open, err = openStaged(c); err != nil {
				return err
			}
			served, err := s.CheckServed(cmd.Context())
			if err == nil && served.Current.Name == "" && len(served.All()) == 0 {
				err = fmt.Errorf("nothing is staged in %s; run ec-verify netboot stage", dir)
			}
			if err != nil {
				return a.refused(netbootKind, err)
			}
			return a.printServed(served)
		},
	}
	flags.register(cmd)
	registerStageDir(cmd, &dir)
	cmd.Flags().StringVar(&url, "url", "", "require that machines are sent to `URL`, e.g. http://10.0.0.2")
	return cmd
}

// printServed says what is served and what is wrong with it, each in a line of its
// own on standard error.
func (a *app) printServed(v *netboot.Served) error {
	s := summarizeStage(v.Current.Name, v.Current.Record)
	verdict := report.Verified
	for _, c := range v.All() {
		if c.Err == nil {
			continue
		}
		f := stageFinding{Role: "stray", Stage: newName(c.Name), Detail: validText(c.Err.Error())}
		what := c.Name
		switch c.Name {
		case v.Current.Name:
			f.Role, what = "current", "what machines are led to"
		case v.Previous.Name:
			f.Role, what = "previous", "what is served to machines in the midst of a boot"
		}
		own := stageVerdict(c.Err)
		f.Verdict = own.String()
		err := c.Err
		var untrusted *release.UntrustedError
		if errors.As(c.Err, &untrusted) {
			f.Reason = untrusted.Reason
			err = fmt.Errorf("%s is no longer believed, and goes on being served: %w; stage another release, or stop with ec-verify netboot clear", what, c.Err)
		}
		a.complain(err)
		s.Findings = append(s.Findings, f)
		verdict = worse(verdict, own)
	}
	s.Verdict = verdict.String()
	if a.output == "json" {
		if err := a.printJSON(&s); err != nil {
			return err
		}
	} else if verdict == report.Verified {
		headline := fmt.Sprintf("release %s is served, and whole", s.Tag)
		if s.Stage == "" {
			headline = "nothing is served; what lies there is whole"
		}
		if err := a.printStage(headline, s); err != nil {
			return err
		}
	}
	if verdict != report.Verified {
		return verdictError{verdict}
	}
	return nil
}

// stageVerdict returns what it means that a stage was found to be err.
func stageVerdict(err error) report.Verdict {
	var altered *netboot.AlteredError
	var untrusted *release.UntrustedError
	switch {
	case errors.As(err, &altered):
		return report.Drifted
	case errors.As(err, &untrusted), errors.Is(err, netboot.ErrUnsigned):
		return report.Refused
	}
	return report.Unsettled
}

// worse returns the verdict of two that says more of what is wrong: drift is
// certain, what is no longer believed may be whole, and what could not be looked at
// may be anything.
func worse(a, b report.Verdict) report.Verdict {
	for _, v := range []report.Verdict{report.Drifted, report.Refused, report.Unsettled} {
		if a == v || b == v {
			return v
		}
	}
	return report.Verified
}
