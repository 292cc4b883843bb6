package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/publisher/forge"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

type publishFlags struct {
	trust     configured.Flags
	tag       string
	forge     string
	tokenFile string
	prune     bool
	replace   bool
	dryRun    bool
}

func newReleasePublishCommand(a *app) *cobra.Command {
	var flags publishFlags
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "put a signed release on a forge",
		Long: `Publish the release in DIR on a Forgejo or Gitea forge, as the release of its
tag. A missing tag is created.

The release is first checked as by release verify; an invalid one is not
published. Then the forge is checked for obstacles: an archived repository, a
missing commit, a tag on another commit.

A new release is a draft while its assets are uploaded. A replacement for an
asset is uploaded beside the old one. SHA256SUMS.txt is uploaded last, and an
old one is deleted before anything else: machines see the old release, then
none, then the new one.

A published release with the same SHA256SUMS.txt is kept: missing assets are
added, and a different signature is replaced. A release with another
SHA256SUMS.txt is a different one, which machines refuse if they have accepted
the old one: it is replaced only with --replace. Assets with other names are
listed and kept, or deleted with --prune.

A failure leaves a draft, or the release unchanged or without SHA256SUMS.txt;
running the same command again completes it.`,
		Example: `  ec-verify release publish dist/ --tag boot-v2026.02.28 \
    --forge https://forge.example.org/owner/repo --token-file token \
    --key release.pub
  ec-verify release publish dist/ --tag boot-v2026.02.28 \
    --forge https://forge.example.org/owner/repo --dry-run --key release.pub`,
		Args: terminal.ArgCount(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.publishRelease(cmd, args[0], flags) },
	}
	flags.trust.RegisterRelease(cmd)
	flags.trust.RegisterUnsafe(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.tag, "tag", "", "publish under `TAG`, which must be the one in release.json (required)")
	f.StringVar(&flags.forge, "forge", "", "publish to the repository at `URL`: https://HOST/OWNER/REPO (required)")
	f.StringVar(&flags.tokenFile, "token-file", "", "read the access token from `FILE`, one line; its scope must include write:repository")
	f.BoolVar(&flags.replace, "replace", false, "replace a published release that has other contents")
	f.BoolVar(&flags.prune, "prune", false, "delete assets of the release that DIR does not have")
	f.BoolVar(&flags.dryRun, "dry-run", false, "check the release, ask the forge, and print the planned changes")
	return cmd
}

func (a *app) publishRelease(cmd *cobra.Command, dir string, flags publishFlags) error {
	switch {
	case flags.tag == "":
		return terminal.UsageErrorf("--tag TAG is missing: say which release this is")
	case flags.forge == "":
		return terminal.UsageErrorf("--forge URL is missing: name the forge")
	case flags.tokenFile == "" && !flags.dryRun:
		return terminal.UsageErrorf("--token-file FILE is missing: publishing takes an access token with write:repository")
	}
	tag, err := release.ParseTag(flags.tag)
	if err != nil {
		return terminal.UsageErrorf("--tag: %w", err)
	}
	token, err := a.readToken(flags.tokenFile)
	if err != nil {
		return err
	}
	progress := new(forge.Progress)
	client, err := forge.New(flags.forge, token, forge.WithProgress(progress))
	if err != nil {
		return terminal.UsageError(err)
	}
	c, err := flags.trust.Load(a.Terminal)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	reading := new(release.Progress)
	stop := a.WatchFetch(reading)
	r, err := configured.CheckDir(ctx, c, dir, tag, reading)
	stop()
	if err != nil {
		return a.Refused(publishKind, err)
	}
	p, err := publication(ctx, r, dir, flags)
	if err != nil {
		return a.Refused(publishKind, err)
	}
	if r.Tag() == release.RevocationsTag && !flags.replace {
		if p.Replace, err = followsPublished(ctx, c, dir, flags.forge, token); err != nil {
			return a.Refused(publishKind, err)
		}
	}
	return a.publish(ctx, client, p, r, flags.dryRun, progress)
}

// readToken reads an access token, which should be nobody else's; "" for no file.
func (a *app) readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	token, err := release.ReadToken(file)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o007 != 0 {
		a.Note(fmt.Sprintf("%s, which contains the access token, is open to every user of this machine (mode %03o): chmod 600, and have the forge make a new token if others were here", report.Escape(file), info.Mode().Perm()))
	}
	return token, nil
}

// followsPublished reports whether the list of revoked releases in dir may replace the
// one on a forge: it must be newer, and must keep every revocation that is published
// there. A list that was created without reading the published one may lack some.
func followsPublished(ctx context.Context, c config.Config, dir, repo, token string) (bool, error) {
	verifier, err := configured.Verifier(c)
	if err != nil {
		return false, err
	}
	var opts []release.SourceOption
	if token != "" {
		opts = append(opts, release.WithToken(token))
	}
	source, err := release.NewSource(strings.TrimSuffix(repo, "/")+"/releases/download", opts...)
	if err != nil {
		return false, err
	}
	here, err := release.OpenRevocations(ctx, release.NewDirSource(dir), verifier)
	if err != nil {
		return false, err
	}
	there, err := release.OpenRevocations(ctx, source, verifier)
	switch {
	case errors.Is(err, release.ErrNotFound):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("the published list: %w; --replace overwrites it", err)
	case here.Sums == there.Sums:
		return false, nil
	}
	for _, r := range there.Revoked {
		if here.Find(r.Tag) == nil {
			return false, fmt.Errorf("the list that is published revokes %s, and this one does not: make it anew with release revoke --release %s, or pass --replace if machines may run that again", r.Tag, source)
		}
	}
	if !here.CreatedAt.After(there.CreatedAt) {
		return false, fmt.Errorf("this list was created on %s and the published one on %s; machines keep the newer one: create the list again with release revoke --release %s", here.CreatedAt.Format(time.RFC3339), there.CreatedAt.Format(time.RFC3339), source)
	}
	return true, nil
}

// publication returns r in the form that package forge publishes.
func publication(ctx context.Context, r *release.Release, dir string, flags publishFlags) (forge.Publication, error) {
	p := forge.Publication{Tag: string(r.Tag()), Commit: r.Info().Commit, Prune: flags.prune, Notes: notes(r),
		Identity: release.SumsName, Signature: release.BundleName, Replace: flags.replace, Revise: func(text string) string { return revised(text, r) }}
	add := func(name string, digest release.Digest) error {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, forge.File{Name: name, Path: path, Size: info.Size(), Digest: digest})
		return nil
	}
	for name, digest := range r.Sums().All() {
		if err := add(name, digest); err != nil {
			return p, err
		}
	}
	if err := add(release.SumsName, r.Digest()); err != nil {
		return p, err
	}
	if r.Unsigned() {
		return p, nil
	}
	// The bundle was verified when the release was opened; if it has changed since, it
	// fails to verify for whoever fetches it.
	bundle, err := release.HashFile(ctx, filepath.Join(dir, release.BundleName))
	if err != nil {
		return p, err
	}
	return p, add(release.BundleName, bundle)
}

// notes is the text beside a release.
func notes(r *release.Release) string {
	var b strings.Builder
	if r.Tag() == release.RevocationsTag {
		return fmt.Sprintf("The list of revoked releases, which machines fetch.\n\nSHA-256 of %s: `%s`\n", release.SumsName, r.Digest())
	}
	fmt.Fprintf(&b, "Configurations: %s.\n", strings.Join(r.Info().Configurations, ", "))
	if r.Info().Commit != "" {
		fmt.Fprintf(&b, "Built from %s.\n", r.Info().Commit)
	}
	fmt.Fprintf(&b, "\nSHA-256 of %s: `%s`\n", release.SumsName, r.Digest())
	fmt.Fprintf(&b, "\nCheck a machine with `ec-verify --against %s`, and a download or a stick with `ec-verify images FILE --against %[1]s`.\n", r.Tag())
	return b.String()
}

var (
	notedSums   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("(SHA-256 of SHA256SUMS\\.txt: `)[0-9a-f]{64}`") })
	notedCommit = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^(Built from )(?:[0-9a-f]{40}|[0-9a-f]{64})\.$`) })
)

// revised returns a release's description with the part that notes wrote brought up to
// date; the rest belongs to its author.
func revised(text string, r *release.Release) string {
	text = notedSums().ReplaceAllString(text, "${1}"+r.Digest().String()+"`")
	if r.Info().Commit != "" {
		text = notedCommit().ReplaceAllString(text, "${1}"+r.Info().Commit+".")
	}
	return text
}

// publishKind is the kind of the object that --output json prints.
const publishKind = "ec-publish"

// published is what publish --output json prints; docs/releasing.md describes it.
type published struct {
	SchemaVersion int         `json:"schemaVersion"`
	Kind          string      `json:"kind"`
	Tool          string      `json:"tool"`
	Verdict       string      `json:"verdict"`
	Tag           release.Tag `json:"tag"`
	DryRun        bool        `json:"dryRun"`
	forge.Outcome
	Bytes int64    `json:"bytes"`
	Notes []string `json:"notes"`

	where, signer string
	files         int
}

func (a *app) publish(ctx context.Context, client *forge.Client, p forge.Publication, r *release.Release, dryRun bool, progress *forge.Progress) error {
	run := client.Publish
	if dryRun {
		run = client.Plan
	}
	stop := a.Watch(func() terminal.Sample {
		asset, done, total := progress.Snapshot()
		return terminal.Sample{What: "upload", Done: done, Total: total, Detail: asset}
	})
	o, err := run(ctx, p)
	stop()
	if err != nil {
		return a.Refused(publishKind, err)
	}
	var size int64
	for _, f := range p.Files {
		size += f.Size
	}
	return a.Show(&published{
		SchemaVersion: 1, Kind: publishKind, Tool: terminal.ToolVersion(), Verdict: report.Verified.String(), Tag: r.Tag(),
		DryRun: dryRun, Outcome: o, Bytes: size, Notes: publishNotes(r, &o),
		where: cmp.Or(o.URL, client.String()), signer: r.Signer().String(), files: len(p.Files),
	})
}

// Text implements [terminal.Result].
func (p *published) Text(screen terminal.Screen) string {
	verb := "is published"
	switch {
	case len(p.Uploaded)+len(p.Pruned) == 0 && !p.Created:
		verb = "is published already"
	case p.DryRun:
		verb = "would be published"
	}
	assets := fmt.Sprintf("  assets     %d, %s; %d of them replaced", p.files, humanize.IBytes(uint64(p.Bytes)), len(p.Replaced))
	if len(p.Kept) > 0 {
		assets += fmt.Sprintf(", %d of the same size already there", len(p.Kept))
	}
	lines := []string{
		fmt.Sprintf("release %s %s: %s", p.Tag, verb, p.where),
		"  signed by  " + p.signer,
		assets,
	}
	for _, name := range p.Pruned {
		lines = append(lines, "  deleted    "+name)
	}
	for _, name := range p.Beside {
		lines = append(lines, "  beside     "+name+" is no part of the release, and is not vouched for (--prune deletes it)")
	}
	for _, n := range p.Notes {
		lines = append(lines, "  note       "+n)
	}
	return screen.Lines(lines)
}

// onlyByName is noted about a tag that [release.Latest] never means.
const onlyByName = string(release.Latest) + " means tags of " + release.LatestPrefix + " and a number only: machines find this release by its name alone"

// publishNotes returns what the publisher of r should also know.
func publishNotes(r *release.Release, o *forge.Outcome) []string {
	var out []string
	list := r.Tag() == release.RevocationsTag
	if !r.Tag().MayBeLatest() && !list {
		out = append(out, onlyByName)
	}
	if !list && o.Hidden && slices.Contains(o.Replaced, release.SumsName) {
		out = append(out, "it was published before: machines that have accepted it with another "+release.SumsName+" will refuse this one")
	}
	if o.Exposed {
		out = append(out, "somebody pushed the tag meanwhile, and the forge published the incomplete release: until now it was there without its "+release.SumsName+", and machines ignored it")
	}
	if o.WasPrerelease {
		out = append(out, fmt.Sprintf("it was marked as a pre-release, which %s never means, and is none now", release.Latest))
	}
	if o.Revised {
		out = append(out, "the text beside it has the digest of this one")
	}
	return out
}
