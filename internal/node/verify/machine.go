package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/expected"
	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/running"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

const tierMachine report.TierName = "machine"

func unaskedMachine(v *Verifier) string {
	if len(v.Machine.Parts) == 0 {
		return "the policy does not request it"
	}
	return unaskedCandidate(v)
}

func planMachine(r *run) string {
	switch {
	case len(r.Machine.Parts) == 0:
		return "nothing (machine.parts is empty)"
	case r.outside():
		return "nothing (" + r.Root + " is not the running machine)"
	}
	return "compare with the release, of the running machine: " + strings.Join(r.Machine.Parts, ", ")
}

// checkMachine checks the running machine beside its store, as its first process sees it.
func (r *run) checkMachine(ctx context.Context, t *report.Tier) error {
	if r.outside() {
		return &elsewhereError{report.MachineElsewhere, r.Root, r.Root + " is not the running machine"}
	}
	own, err := r.openStore()
	if err != nil {
		return err
	}
	store, err := nixstore.OpenStore(running.FirstRoot, r.StoreDir)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w; this requires root, and in a unit CAP_SYS_PTRACE", err)
	}
	if err == nil {
		defer store.Close()
		err = sameDirectory(own.File(), store.File())
	}
	if err != nil {
		return &failure{cause: report.MachineUnseen, path: running.FirstRoot, err: err}
	}
	looks, note, err := r.expectedMachine(ctx)
	if err != nil {
		return err
	}
	m := running.Machine{
		Expected: looks,
		Store:    store, Toplevel: r.system(), Paths: r.manifest.Paths, Allow: r.Machine.Allow, Now: time.Now(),
		Hashed: r.audited().paths, Registered: r.registered, FirstMounts: nixstore.FirstMounts, Rules: running.KernelRules,
		LoadedUnits: func(ctx context.Context) (*running.Units, error) { return running.SystemdUnits(ctx, store) },
		UnitsLoaded: running.SystemdLoaded,
		Linked:      r.contents.linked,
		Ended:       func() { r.progress.parts.Add(1) },
	}
	r.progress.partsTotal.Store(int64(len(r.Machine.Parts)))
	result, err := m.Check(ctx, r.Machine.Parts)
	t.Checked = result.Checked
	for _, f := range result.Findings {
		f.Tier = tierMachine
		if f.Cause == report.ForeignMount || f.Cause == report.MountedOver {
			r.findOnce(f) // another tier may have found it
			continue
		}
		if ofSystem(&f, r.StoreDir) {
			f.ConsequenceOf = r.otherSystem()
		}
		r.find(f)
	}
	t.Why = machineWhy(r.Machine.Parts, result, note)
	return err
}

// asksForLinks reports whether hard links into the store are looked for.
func (v *Verifier) asksForLinks() bool { return slices.Contains(v.Machine.Parts, running.StorePart) }

// expectedMachine returns the release's description of this machine; nil if there is
// none, or only one of another system. The note says if it could not be fetched.
func (r *run) expectedMachine(ctx context.Context) (*expected.Machine, string, error) {
	name := release.MachineName(r.manifest.Configuration)
	if _, ok := r.chosen.Release.Sums().Digest(name); !ok {
		return nil, "", nil
	}
	asset, err := r.chosen.Release.Asset(ctx, name)
	var unavailable *release.UnavailableError
	var absent *release.NotFoundError
	if errors.As(err, &unavailable) || errors.As(err, &absent) {
		return nil, name + " could not be fetched, and was read from the system's files", ctx.Err()
	}
	if err != nil {
		return nil, "", &failure{cause: report.MachineUnseen, path: name, err: err}
	}
	defer asset.Close()
	looks, err := expected.Decode(asset, r.manifest.Configuration)
	if err != nil {
		return nil, "", &failure{cause: report.MachineUnseen, path: name, err: err}
	}
	if looks.Toplevel != r.system() {
		return nil, "", nil // a specialisation
	}
	return looks, "", nil
}

// registered yields what Nix has registered by now, or had when the database was first
// opened.
func (r *run) registered(ctx context.Context, now bool) iter.Seq2[closure.StorePath, error] {
	return func(yield func(closure.StorePath, error) bool) {
		open := r.openDatabase
		if now {
			open = func(ctx context.Context) (*nixstore.Database, error) {
				return nixstore.OpenDatabase(ctx, r.Root, r.StoreDir)
			}
		}
		db, err := open(ctx)
		if err != nil {
			yield("", err)
			return
		}
		if now {
			defer db.Close()
		}
		db.Registered(ctx)(yield)
	}
}

// ofSystem reports whether a finding is explained where another system runs.
func ofSystem(f *report.Finding, store closure.StoreDir) bool {
	if f.Cause == report.UnitUnknown || f.Cause == report.CodeUnknown {
		_, _, err := store.Within(f.Path)
		return err == nil || strings.HasPrefix(f.Path, "/etc/systemd/")
	}
	return f.Cause == report.EtcAltered || strings.HasPrefix(f.Got, "a link to /etc/static/")
}

// machineWhy says what the tier did not check; "" if it checked everything.
func machineWhy(asked []string, result *running.Result, note string) string {
	var left []string
	if note != "" {
		left = append(left, note)
	}
	unasked := slices.DeleteFunc(running.Parts(), func(part string) bool { return slices.Contains(asked, part) })
	if len(unasked) > 0 {
		left = append(left, "parts not requested: "+strings.Join(unasked, ", "))
	}
	if len(result.NotSeen) > 0 {
		left = append(left, "not checked: "+strings.Join(result.NotSeen, ", "))
	}
	if result.Excused > 0 {
		left = append(left, were(result.Excused, "difference")+" allowed by the policy")
	}
	return strings.Join(left, "; ")
}

// sameDirectory returns an error unless the machine's first process has the same store as
// this one: only then is what was hashed what the machine runs.
func sameDirectory(own, first *os.File) error {
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(own.Fd()), &a), unix.Fstat(int(first.Fd()), &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev || a.Ino != b.Ino {
		return errors.New("the machine's first process sees another store directory than this run")
	}
	return nil
}
