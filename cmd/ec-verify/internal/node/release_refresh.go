package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/node/systemd"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// fetchStall is how long fetching may go without another byte: longer than a
// source is tried again. It is TimeoutStartSec= of ec-verify-fetch.service.
const fetchStall = 10 * time.Minute

// refreshed is one line of release refresh.
type refreshed struct {
	// Accepted is the tag as the configuration lists it, which may be latest.
	Accepted release.Tag `json:"accepted"`
	// Release is nil if Error is set.
	Release *terminal.ReleaseSummary `json:"release"`
	Error   string                   `json:"error"`

	revoked bool // which Error says
}

func newReleaseRefreshCommand(a *app) *cobra.Command {
	var flags configured.Flags
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "fetch the releases that this machine may run into the cache",
		Long: `Fetch every release that the configuration accepts (release.accept) into the
cache in the state directory, each checked as for a verification. Cached
releases are not fetched again. Afterwards ec-verify --offline needs no
network.

The list of revoked releases is fetched as well, and the releases on it are
refused from then on. All releases are tried. The exit code is the worst
result: 3 if a release is untrusted, 4 if one is unavailable or a list was
refused. A revoked release does not count if another accepted one is available.`,
		Example: `  ec-verify release refresh
  ec-verify release refresh && ec-verify --offline`,
		Args: terminal.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.Load(a.Terminal)
			if err != nil {
				return err
			}
			if flags.Foreign {
				return terminal.UsageErrorf("--key: this machine keeps releases for its own verification, which uses trust in the configuration; add the key there, or leave out --key")
			}
			return a.refresh(cmd.Context(), c, flags.Unsigned)
		},
	}
	flags.RegisterRelease(cmd)
	flags.RegisterUnsafe(cmd)
	return cmd
}

// refresh fetches the accepted releases; byFlag says whether a flag caused them to be
// accepted unsigned.
func (a *app) refresh(ctx context.Context, c config.Config, byFlag bool) error {
	if len(c.Release.Accept) == 0 {
		return terminal.ConfigErrorf("nothing to fetch: list the tags in the configuration's release.accept")
	}
	if c.UnsafeUnsigned {
		err := errors.New("unsigned releases are not kept, so there is nothing to refresh: leave out --unsafe-unsigned and unsafeUnsigned")
		if byFlag {
			return terminal.UsageError(err)
		}
		return terminal.ConfigError(err)
	}
	progress := new(release.Progress)
	finder, err := configured.Finder(c, progress, false)
	if err != nil {
		return err
	}
	finder.MustKeep = true
	stop := a.WatchFetch(progress)
	tell := systemd.Pulse(func() systemd.Sign {
		s := progress.Snapshot()
		return systemd.Sign{Status: "fetching " + s.Asset, Progress: s, Allow: fetchStall}
	})
	found := finder.FindAccepted(ctx)
	revocations := finder.RevocationState()
	status := fmt.Sprintf("%d of %d accepted releases are in the cache", len(found)-failures(found), len(found))
	tell(status)
	stop()
	bad := worst(found)
	// If both streams lead to the journal, the error should be there once.
	var told error
	if a.ForPeople() && a.Journals() && systemd.StdoutIsJournal() {
		told = bad
	}
	if err := a.Show(newRefreshedList(ctx, found, told, finder.Memory.Revocations())); err != nil {
		return err
	}
	switch {
	case bad != nil:
		return fmt.Errorf("%s: %w", status, bad)
	case revocations.Refused != "":
		return fmt.Errorf("a list of revoked releases was refused: %s", revocations.Refused)
	case revocations.Unkept != "":
		return errors.New(revocations.Unkept)
	}
	return nil
}

func failures(found []release.Found) int {
	n := 0
	for _, f := range found {
		if f.Err != nil {
			n++
		}
	}
	return n
}

// worst returns the first error of a refused release, or else the first one: an invalid
// release outweighs an unavailable one. A revoked release is no failure if another one is
// available: it is refused as it should be, and the audit of a machine that runs it
// reports it.
func worst(found []release.Found) error {
	another := failures(found) < len(found)
	var first error
	for _, f := range found {
		var untrusted *release.UntrustedError
		refused := errors.As(f.Err, &untrusted)
		switch {
		case refused && untrusted.Reason == release.ReasonRevoked && another:
		case refused:
			return f.Err
		case first == nil:
			first = f.Err
		}
	}
	return first
}

// refreshedList is the result of release refresh.
type refreshedList struct {
	SchemaVersion int                  `json:"schemaVersion"`
	Releases      []refreshed          `json:"releases"`
	Revoked       []release.Revocation `json:"revoked"`

	revokedAt time.Time // zero for no list
}

// newRefreshedList leaves out the error that is reported elsewhere.
func newRefreshedList(ctx context.Context, found []release.Found, told error, revoked release.Revocations) *refreshedList {
	list := &refreshedList{SchemaVersion: 1, Releases: make([]refreshed, 0, len(found)), Revoked: revoked.Revoked, revokedAt: revoked.CreatedAt}
	for _, f := range found {
		if f.Err != nil && f.Err == told { //nolint:errorlint // this very one
			continue
		}
		line := refreshed{Accepted: f.Tag}
		if f.Err != nil {
			line.Error = f.Err.Error()
			var untrusted *release.UntrustedError
			line.revoked = errors.As(f.Err, &untrusted) && untrusted.Reason == release.ReasonRevoked
		} else {
			s := terminal.Summarize(ctx, f.Release)
			line.Release = &s
		}
		list.Releases = append(list.Releases, line)
	}
	return list
}

// Text implements [terminal.Result].
func (list *refreshedList) Text(screen terminal.Screen) string {
	var b strings.Builder
	for _, l := range list.Releases {
		text := fmt.Sprintf("%s: failed: %s", l.Accepted, l.Error)
		if l.revoked {
			text = fmt.Sprintf("%s: skipped: %s", l.Accepted, l.Error)
		}
		if l.Release != nil {
			text = fmt.Sprintf("%s is in the cache, from %s, best before %s", l.Release.Tag, l.Release.Source, l.Release.BestBefore.Format(time.RFC3339))
			if string(l.Accepted) != string(l.Release.Tag) {
				text = fmt.Sprintf("%s: %s", l.Accepted, text)
			}
		}
		fmt.Fprintln(&b, report.Escape(text))
	}
	if !list.revokedAt.IsZero() {
		fmt.Fprintf(&b, "revoked: %d, by the list of %s\n", len(list.Revoked), list.revokedAt.Format(time.RFC3339))
	}
	return screen.Fold(b.String())
}
