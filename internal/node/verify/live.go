package verify

import (
	"context"
	"errors"
	"fmt"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// The links by which NixOS says what a machine runs.
const (
	CurrentSystem = "/run/current-system"
	BootedSystem  = "/run/booted-system"
	SystemProfile = "/nix/var/nix/profiles/system"
	kernelCommand = "/proc/cmdline"
)

// liveResult is the result of the live tier for later steps.
type liveResult struct {
	// leads are the systems at the places that name one.
	leads []lead
	// running is the toplevel that runs or, for a mounted disk, the system profile's;
	// empty if unknown.
	running closure.StorePath
	// specialisation is the specialisation of the release compared with that runs, ""
	// for none. running is the toplevel then.
	specialisation closure.StorePath
	// unsearched are the directories of whose file systems the names are unknown by which
	// GRUB searches for them.
	unsearched []string
}

// liveLink is one of the places that name a toplevel.
type liveLink struct {
	name  string
	cause report.Cause // where it is no accepted release's
	// exact says that only the release compared with will do; elsewhere another
	// accepted release is a pending reboot.
	exact bool
	// next says that the machine boots by it.
	next bool
}

func planLive(r *run) string {
	return "compare the systems that run, were booted and will boot with " + string(r.manifest.Toplevel.OutPath)
}

// checkLive compares what the machine runs, booted and will boot with the release's
// toplevel.
func (r *run) checkLive(ctx context.Context, t *report.Tier) error {
	if _, err := r.openStore(); err != nil {
		return err
	}
	defer r.checkOrigins(ctx, report.TierLive, profilesDir, runDir)
	r.checkLinks(ctx, t)
	if r.outside() {
		looked := "the system profile alone"
		if len(r.checkEntries(ctx, t)) > 0 {
			looked = "the system profile and the boot menu alone"
		}
		t.Why = looked + ": " + r.Root + " is not the running machine"
		return ctx.Err()
	}
	r.checkBoot(ctx, t, r.checkCommandLine(ctx, t))
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.live.running == r.manifest.Toplevel.OutPath && r.isCandidate(r.chosen) && r.chosen.revoked() == nil {
		// From now on the machine is not to be taken back behind it.
		if err := r.chosen.Release.Confirm(ctx); err != nil {
			r.find(report.Finding{Tier: report.TierLive, Cause: report.NotRemembered, Path: r.chosen.Tag, Detail: err.Error()})
		}
	}
	return nil
}

// checkLinks checks the places that name a system by a link.
func (r *run) checkLinks(ctx context.Context, t *report.Tier) {
	if r.outside() {
		r.checkLink(ctx, t, liveLink{name: SystemProfile, cause: report.OtherProfile, exact: true, next: true})
		return
	}
	r.checkLink(ctx, t, liveLink{name: CurrentSystem, cause: report.OtherSystem, exact: true})
	r.checkLink(ctx, t, liveLink{name: BootedSystem, cause: report.OtherBoot})
	r.checkLink(ctx, t, liveLink{name: SystemProfile, cause: report.OtherProfile, next: true})
}

// findLeads finds, for a plan, the systems that the contents tier will hash. It compares
// no boot file and reports nothing.
func (r *run) findLeads(ctx context.Context) {
	if _, err := r.openStore(); err != nil {
		return
	}
	found := len(r.report.Findings)
	r.planning = true
	r.checkLinks(ctx, new(report.Tier))
	r.checkEntries(ctx, new(report.Tier))
	r.report.Findings = r.report.Findings[:found]
}

func (r *run) checkLink(ctx context.Context, t *report.Tier, link liveLink) {
	p, rest, err := r.store.ResolveLink(link.name)
	switch {
	case err == nil || isAbsent(err) && p != "":
		// A link to a store path that no longer exists still says what should be there.
		if link.exact {
			r.live.running = p
			r.noteSpecialisation(p)
		}
		t.Checked++
		r.judgeLink(ctx, link, p, rest)
	case errors.Is(err, nixstore.ErrNotLink), errors.Is(err, nixstore.ErrOutsideStore):
		t.Checked++
		r.live.leads = append(r.live.leads, lead{next: link.next, odd: link.cause})
		r.find(report.Finding{
			Tier: report.TierLive, Cause: link.cause, Path: link.name,
			Want: string(r.manifest.Toplevel.OutPath), Got: "not a store path", Detail: err.Error(),
		})
	default:
		r.live.leads = append(r.live.leads, lead{next: link.next})
		r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: link.name, Detail: err.Error()})
	}
}

// noteSpecialisation notes in the report that a specialisation of the release compared with
// runs, which belongs to that release.
func (r *run) noteSpecialisation(p closure.StorePath) {
	if p == r.manifest.Toplevel.OutPath {
		return
	}
	if release, name, err := r.specialisationOf(p); err == nil && release == r.chosen {
		r.live.running, r.live.specialisation = r.manifest.Toplevel.OutPath, p
		if r.report.Release != nil {
			r.report.Release.Specialisation = name
		}
	}
}

// system returns the path of the system that should run: the release's, or its
// specialisation that runs.
func (r *run) system() closure.StorePath {
	if r.live.specialisation != "" {
		return r.live.specialisation
	}
	return r.manifest.Toplevel.OutPath
}

// judgeLink judges where a place leads, and notes it for the contents tier.
func (r *run) judgeLink(ctx context.Context, link liveLink, p closure.StorePath, rest string) {
	want := r.manifest.Toplevel.OutPath
	if p == want && rest == "" {
		r.live.leads = append(r.live.leads, lead{next: link.next, release: r.chosen})
		return
	}
	l := lead{next: link.next, odd: link.cause}
	f := report.Finding{
		Tier: report.TierLive, Cause: link.cause, Path: link.name,
		Want: string(want), Got: string(p) + rest,
	}
	exists, existsErr := r.store.Exists(p)
	switch {
	case existsErr == nil && !exists:
		f.Detail = "it is not in the store"
	case rest != "":
		f.Detail = "it leads to something in a store path, which is no system"
	}
	if rest == "" {
		release, unknown, err := r.acceptedAs(ctx, p)
		switch {
		case ctx.Err() != nil:
			return // it ends the tier
		case err != nil:
			l.odd = ""
			f.Cause, f.Detail = report.LiveUnknown, err.Error()
		case release == r.chosen:
			// A specialisation of it.
			r.live.leads = append(r.live.leads, lead{next: link.next, release: release})
			return
		case link.exact:
			l.release = release
		case release != nil && release.revoked() != nil:
			l.odd, f.Cause = report.ReleaseRevoked, report.ReleaseRevoked
			f.Detail = "it is release " + release.Tag + ": " + release.revoked().String()
		case release != nil:
			l.release, l.odd = release, ""
			l.pending = f
			l.pending.Detail = "it leads to the accepted release " + release.Tag
		case unknown != nil:
			l.odd = ""
			f.Cause = report.LiveUnknown
			f.Detail = fmt.Sprintf("it may be the accepted release %s, which could not be opened: %v", unknown.Tag, unknown.Err)
		case f.Detail == "":
			f.Detail = r.strangerWords(ctx, p)
		}
	}
	r.live.leads = append(r.live.leads, l)
	if l.pending.Path == "" {
		r.find(f)
	}
}
