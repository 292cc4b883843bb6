package publisher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

type revokeFlags struct {
	sign    signFlags
	out     string
	reason  string
	sources []string
	trusted []string
	lift    bool
	dryRun  bool
}

func newReleaseRevokeCommand(a *app) *cobra.Command {
	var flags revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke TAG",
		Short: "revoke a release, so that machines refuse it",
		Long: `Add the release TAG to the list of revoked releases, and sign the list.
Machines that fetch the list refuse the releases on it, cached ones included. A
machine that runs one reports drift (release-revoked) with the reason.

The list is a release with the tag "revocations", in the directory of --out.
Publish it with release publish DIR --tag revocations, or place it beside the
releases of a directory as DIR/revocations.

Machines follow the newest list, even if a release is missing from it. The new
list therefore continues the newest one found in --out and in each --release:
name the source from which machines fetch theirs. A TAG that none of these
sources has is refused; without --release, the tag is not checked. The list
must be signed by --key or by a key of --trust.

--lift removes TAG from the list: machines may run the release again.`,
		Example: `  ec-verify release revoke boot-v2026.02.28 --reason CVE-2026-0001 \
    --out revocations \
    --release https://forge.example.org/owner/repo/releases/download \
    --key cosign.key
  ec-verify release publish revocations --tag revocations \
    --forge https://forge.example.org/owner/repo --token-file token \
    --key cosign.pub
  ec-verify release revoke boot-v2026.02.28 --lift \
    --out /srv/releases/revocations --key cosign.key --dry-run`,
		Args: terminal.ArgCount(1, 1, "one tag"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.Refused(revocationsKind, a.revoke(cmd.Context(), args[0], flags))
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.out, "out", "", "keep the list in the directory `DIR`, created if missing (required)")
	f.StringVar(&flags.reason, "reason", "", "give operators the reason, one line of `TEXT` (required without --lift)")
	f.StringVar(&flags.sign.key, "key", "", "sign with the private key in `FILE` (required)")
	f.StringVar(&flags.sign.passwordFile, "password-file", "", "read the key's password from the first line of `FILE`")
	f.StringArrayVar(&flags.sources, "release", nil, "look for the current list and the release in `SOURCE`: a directory, file:///DIR, or https://HOST/OWNER/REPO/releases/download; may be repeated")
	f.StringArrayVar(&flags.trusted, "trust", nil, "trust the current list if the public key in `FILE` signed it; may be repeated")
	f.BoolVar(&flags.lift, "lift", false, "remove TAG from the list")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print the new list, and write nothing")
	return cmd
}

// revocationsKind is the kind of the object that --output json prints.
const revocationsKind = "ec-revocations"

func (f *revokeFlags) check() error {
	switch {
	case f.out == "":
		return terminal.UsageErrorf("--out DIR is missing: name the directory of the list")
	case f.reason == "" && !f.lift:
		return terminal.UsageErrorf("--reason TEXT is missing: operators will want to know")
	case f.reason != "" && f.lift:
		return terminal.UsageErrorf("--lift takes the release off the list, with its --reason; give one of them")
	}
	return nil
}

func (f *revokeFlags) openSources() ([]release.Source, error) {
	var sources []release.Source
	for _, spec := range f.sources {
		source, err := release.NewSource(spec)
		if err != nil {
			return nil, terminal.UsageErrorf("--release: %w", err)
		}
		sources = append(sources, source)
	}
	return sources, nil
}

func (a *app) revoke(ctx context.Context, arg string, flags revokeFlags) error {
	tag, err := release.ParseTag(arg)
	if err != nil {
		return terminal.UsageError(err)
	}
	if err := flags.check(); err != nil {
		return err
	}
	key, err := signingKey(flags.sign)
	if err != nil {
		return err
	}
	sources, err := flags.openSources()
	if err != nil {
		return err
	}
	present, err := presentList(ctx, append([]release.Source{release.NewDirSource(flags.out)}, sources...), flags, key)
	if err != nil {
		return err
	}
	list, err := changedList(*present, tag, flags, time.Now())
	if err != nil {
		return err
	}
	if _, err := release.EncodeRevocations(list.Revoked); err != nil {
		return terminal.UsageError(err)
	}
	known := present.Find(tag) != nil
	if !known && len(sources) > 0 {
		if err := checkOneHas(ctx, sources, tag); err != nil {
			return err
		}
	}
	if !flags.dryRun {
		sign := func(sums []byte) ([]byte, error) { return trust.Sign(ctx, key, sums) }
		if err := release.WriteRevocations(ctx, flags.out, list, sign); err != nil {
			return err
		}
	}
	out := revocations{
		SchemaVersion: 1, Kind: revocationsKind, Tool: terminal.ToolVersion(), Verdict: report.Verified.String(), DryRun: flags.dryRun,
		CreatedAt: list.CreatedAt, Revoked: list.Revoked, tag: tag, flags: flags, unchecked: !known && len(sources) == 0,
	}
	if !present.CreatedAt.IsZero() {
		out.Follows = &present.CreatedAt
	}
	return a.Show(&out)
}

// checkOneHas returns an error unless one of sources has the release tag: a misspelled tag
// would revoke nothing.
func checkOneHas(ctx context.Context, sources []release.Source, tag release.Tag) error {
	for _, source := range sources {
		has, err := hasRelease(ctx, source, tag)
		switch {
		case err != nil:
			return fmt.Errorf("release %s: not known if %s has it: %w", tag, source, err)
		case has:
			return nil
		}
	}
	return terminal.UsageErrorf("release %s is not in %s, and nothing was revoked: check the tag; if the release was removed from there, place the current list in --out and leave --release out", tag, strings.Join(names(sources), " or "))
}

func names(sources []release.Source) []string {
	out := make([]string, len(sources))
	for i, source := range sources {
		out[i] = source.String()
	}
	return out
}

func hasRelease(ctx context.Context, source release.Source, tag release.Tag) (bool, error) {
	in, err := source.Open(ctx, tag, release.SumsName, release.MaxSumsSize)
	if errors.Is(err, release.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, in.Close()
}

// presentList returns the newest list in sources; an empty one if there is none.
func presentList(ctx context.Context, sources []release.Source, flags revokeFlags, key *trust.PrivateKey) (*release.Revocations, error) {
	policy, err := configured.KeyPolicy(flags.trusted)
	if err != nil {
		return nil, err
	}
	own := false // one key under two names is refused
	for _, k := range policy.Keys {
		id, err := k.ID()
		if err != nil {
			return nil, terminal.ConfigErrorf("--trust: %w", err)
		}
		own = own || id == key.ID()
	}
	if !own {
		public, err := key.PublicPEM()
		if err != nil {
			return nil, err
		}
		policy.Keys = append(policy.Keys, trust.Key{Name: "own", PEM: string(public)})
	}
	verifier, err := trust.New(policy)
	if err != nil {
		return nil, terminal.ConfigErrorf("--trust: %w", err)
	}
	newest := new(release.Revocations)
	for _, source := range sources {
		list, err := release.OpenRevocations(ctx, source, verifier)
		switch {
		case errors.Is(err, release.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("the current list: %w (if another key signed it, give that with --trust)", err)
		case list.CreatedAt.After(newest.CreatedAt):
			newest = list
		}
	}
	return newest, nil
}

// changedList returns the list that follows on present.
func changedList(present release.Revocations, tag release.Tag, flags revokeFlags, now time.Time) (release.Revocations, error) {
	now = now.UTC().Truncate(time.Second)
	known := present.Find(tag)
	list := release.Revocations{CreatedAt: now, Revoked: slices.DeleteFunc(slices.Clone(present.Revoked), func(r release.Revocation) bool { return r.Tag == tag })}
	if !list.CreatedAt.After(present.CreatedAt) {
		list.CreatedAt = present.CreatedAt.Add(time.Second)
	}
	if flags.lift {
		if known == nil {
			return list, terminal.UsageErrorf("--lift: %s is not on the list", tag)
		}
		return list, nil
	}
	revoked := release.Revocation{Tag: tag, RevokedAt: now, Reason: flags.reason}
	if known != nil {
		revoked.RevokedAt = known.RevokedAt // with another reason
	}
	list.Revoked = append(list.Revoked, revoked)
	slices.SortFunc(list.Revoked, func(a, b release.Revocation) int { return strings.Compare(string(a.Tag), string(b.Tag)) })
	return list, nil
}

// revocations is what release revoke --output json prints; docs/releasing.md describes
// it.
type revocations struct {
	SchemaVersion int                  `json:"schemaVersion"`
	Kind          string               `json:"kind"`
	Tool          string               `json:"tool"`
	Verdict       string               `json:"verdict"`
	DryRun        bool                 `json:"dryRun"`
	CreatedAt     time.Time            `json:"createdAt"`
	Follows       *time.Time           `json:"follows"`
	Revoked       []release.Revocation `json:"revoked"`

	tag   release.Tag
	flags revokeFlags
	// unchecked means that no source was asked for the release.
	unchecked bool
}

// Text implements [terminal.Result].
func (r *revocations) Text(screen terminal.Screen) string {
	follows := "it is the first one; if machines already have another, name its source with --release"
	if len(r.flags.sources) > 0 {
		follows = "it is the first one: no --release has a list"
	}
	if r.Follows != nil {
		follows = "it follows on the one of " + r.Follows.Format(time.RFC3339)
	}
	done := "is revoked"
	switch {
	case r.flags.lift && r.DryRun:
		done = "would no longer be revoked"
	case r.flags.lift:
		done = "is no longer revoked"
	case r.DryRun:
		done = "would be revoked"
	}
	lines := []string{
		fmt.Sprintf("release %s %s: the list in %s, of %s, has %s", r.tag, done, r.flags.out, r.CreatedAt.Format(time.RFC3339), report.Quantity(len(r.Revoked), "release")),
		"  " + follows,
	}
	if r.unchecked {
		lines = append(lines, fmt.Sprintf("  not checked: that a release %s exists; name its source with --release", r.tag))
	}
	for _, one := range r.Revoked {
		lines = append(lines, fmt.Sprintf("  %s  since %s: %s", one.Tag, one.RevokedAt.Format(time.RFC3339), one.Reason))
	}
	if !r.DryRun && filepath.Base(filepath.Clean(r.flags.out)) != string(release.RevocationsTag) {
		lines = append(lines, "  machines find it under the name "+string(release.RevocationsTag))
	}
	return screen.Lines(lines)
}
