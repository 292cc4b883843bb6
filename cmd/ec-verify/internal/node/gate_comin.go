package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/activate"
	"every.channel/ec-verify/internal/node/comin"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// fetchUnit brings releases into the cache.
	fetchUnit = "ec-verify-fetch.service"
	// fetchWait is how long it is waited for.
	fetchWait = 15 * time.Minute
)

// cominFlags are those of ec-verify gate comin.
type cominFlags struct {
	verifyFlags
	socket     string
	now, fetch bool
	every      time.Duration
}

func newGateCominCommand(a *app) *cobra.Command {
	flags := cominFlags{verifyFlags: verifyFlags{stall: defaultStall}}
	cmd := &cobra.Command{
		Use:   "comin",
		Short: "confirm a deployment of comin if it is verified",
		Long: `Wait until comin has built a generation and waits for its confirmation
(deployConfirmer.mode = "manual", comin 0.10 or later). Judge that generation's
system as ec-verify switch does, and confirm it if it is verified. The
confirmation names the generation's own ID, over comin's socket, so that no
other one is deployed. Then wait for the next.

If the generation is not verified, it is not confirmed: comin continues to
wait, and the machine does not change. The program ends with the exit code of
the verdict, so the unit fails and starts again later, when the release may
have been published.

The socket must be served by root. Every user who can reach it can confirm too:
docs/gate.md says how to restrict access to it.

Exit codes: 0 with --now: confirmed, or nothing waits; 1 drifted, 3 untrusted,
4 inconclusive, or comin does not wait for a confirmation.`,
		Example: `  # As ec-verify-gate-comin.service does
  ec-verify gate comin --offline --fetch

  # Judge what waits now, and end
  ec-verify gate comin --now`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case flags.every < time.Second:
				return terminal.UsageErrorf("--every %s: want 1s or more", flags.every)
			case !flags.now:
				if err := a.TextOnly("--output json is for one judgement: give --now, too"); err != nil {
					return err
				}
			}
			return a.confirmComin(cmd.Context(), &flags)
		},
	}
	flags.registerShared(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.socket, "socket", comin.Socket, "comin listens at `PATH`")
	f.BoolVar(&flags.now, "now", false, "judge the waiting generation, and end")
	f.BoolVar(&flags.fetch, "fetch", false, "start "+fetchUnit+" before each judgement, and wait for it")
	terminal.DurationVar(f, &flags.every, "every", 10*time.Second, "ask comin each `DURATION` whether something waits")
	return cmd
}

// confirmComin judges the generation that waits in comin, and confirms it if it is
// verified; unless it is to do so now, it waits for the next ones.
func (a *app) confirmComin(ctx context.Context, flags *cominFlags) error {
	if os.Geteuid() != 0 {
		return a.Refused(cominKind, errors.New("only root can confirm: the command keeps the system from the garbage collector while it judges it"))
	}
	client := comin.New(flags.socket)
	if others, err := comin.Reachable(flags.socket); err == nil && others {
		a.Note("every user of this machine reaches " + terminal.Value(flags.socket) + ", and can confirm a refused generation")
	}
	if flags.now {
		g, err := client.Waiting(ctx)
		switch {
		case err != nil:
			return a.Refused(cominKind, err)
		case g == nil:
			return a.Show(&confirmation{detail: "nothing waits for a confirmation"})
		}
		return a.judgeGeneration(ctx, client, *g, flags)
	}
	confirmed, told := "", false
	for {
		g, err := client.Waiting(ctx)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED):
			if !told {
				a.Note("comin is waited for: " + report.Escape(err.Error()))
			}
			told = true
		case err != nil:
			return a.Refused(cominKind, err)
		case g == nil:
			confirmed = ""
		case g.ID != confirmed:
			if err := a.judgeGeneration(ctx, client, *g, flags); err != nil {
				return err
			}
			confirmed = g.ID
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(flags.every):
		}
	}
}

// judgeGeneration judges the system of generation waiting, and confirms it if it is
// verified.
func (a *app) judgeGeneration(ctx context.Context, client *comin.Client, waiting comin.Generation, given *cominFlags) error {
	if given.fetch {
		if err := systemd.Start(ctx, fetchUnit, fetchWait); err != nil {
			a.Note("the cache serves: " + report.Escape(err.Error()))
		}
	}
	c, err := configured.Load(a.Terminal)
	if err != nil {
		return a.Refused(cominKind, err)
	}
	// The judged path must be the one that comin deploys: neither a link nor a tag.
	if _, err := c.StoreDir.Parse(waiting.OutPath); err != nil {
		return a.Refused(cominKind, fmt.Errorf("generation %s is not judged: its out path %s is no store path", waiting.ID, terminal.Value(waiting.OutPath)))
	}
	flags := given.verifyFlags
	c, system, err := a.candidateOf(waiting.OutPath, &flags)
	if err != nil {
		return a.Refused(cominKind, err)
	}
	if c.StoreRoot != "" {
		return terminal.ConfigErrorf("storeRoot: comin deploys on this machine, and not to a mounted disk")
	}
	g, err := a.newGate(ctx, c, system, &flags, true)
	if err != nil {
		return a.Refused(cominKind, err)
	}
	defer tempIn(c.StateDir)()
	g.machine = activate.This(c.StoreDir, "", nil)
	done := false
	err = g.run(ctx, func(ctx context.Context) {
		done, g.err = confirmed(ctx, client, waiting, g.system, func() bool {
			return g.untouched(ctx, "after it was hashed, before it was confirmed")
		})
	})
	if err != nil {
		return a.Refused(cominKind, err)
	}
	r := confirmation{waiting: waiting, confirmed: done, detail: "confirmed: comin deploys it", report: g.report, flags: flags.text}
	switch {
	case g.report.Verdict() != report.Verified:
		r.detail = "not confirmed: comin continues to wait"
	case g.err != nil:
		r.detail = "not confirmed: " + g.err.Error()
	}
	if !flags.text.quiet {
		if err := a.Show(&r); err != nil {
			return err
		}
	}
	switch verdict := g.report.Verdict(); {
	case verdict != report.Verified:
		return terminal.VerdictError(verdict)
	case g.err != nil:
		return terminal.ReportedError(terminal.ExitInconclusive)
	}
	return nil
}

// confirmed confirms the generation waiting, whose system p was found to be verified,
// if it waits still and was not touched.
func confirmed(ctx context.Context, client *comin.Client, waiting comin.Generation, p closure.StorePath, untouched func() bool) (bool, error) {
	now, err := client.Waiting(ctx)
	switch {
	case err != nil:
		return false, err
	case now == nil || *now != waiting || now.OutPath != string(p):
		return false, errors.New("comin waits for this generation no more")
	case !untouched():
		return false, activate.ErrTouched
	}
	if err := client.Confirm(ctx, waiting.ID); err != nil {
		return false, err
	}
	return true, nil
}
