package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/pkg/closure"
)

func newReleaseCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "release", Short: "sign, revoke, publish, check, fetch, keep and list releases"},
		newReleaseSignCommand(a), newReleaseRevokeCommand(a), newReleasePublishCommand(a), newReleaseVerifyCommand(a), newReleaseFetchCommand(a), newReleaseRefreshCommand(a), newReleaseListCommand(a))
}

const keyUsage = "believe the public key in `FILE` instead of what trust in the configuration names; may be repeated"

// trustFlags are what the commands share that judge a release. They win over
// the configuration.
type trustFlags struct {
	source         []string
	keys           []string
	stateDir       string
	unsafeUnsigned bool
	unsafeRollback bool
	// foreign is set by load: a key was named in the place of what trust in the
	// configuration names.
	foreign bool
}

func (t *trustFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&t.source, "release", nil, "look for releases in `SOURCE`: a directory, file:///DIR, or https://HOST/OWNER/REPO/releases/download; may be repeated")
	f.StringArrayVar(&t.keys, "key", nil, keyUsage)
	f.StringVar(&t.stateDir, "state-dir", "", "keep releases and other state in `DIR` (default /var/lib/ec-verify)")
	f.BoolVar(&t.unsafeUnsigned, "unsafe-unsigned", false, "accept a release without checking its signature")
	f.BoolVar(&t.unsafeRollback, "unsafe-allow-rollback", false, "accept a release older than one accepted before")
	if err := cmd.MarkFlagDirname("state-dir"); err != nil {
		panic(err)
	}
}

// load returns the configuration with the flags laid over it.
func (t *trustFlags) load(a *app, cmd *cobra.Command) (config.Config, error) {
	c, err := a.loadConfig()
	if err != nil {
		return c, err
	}
	changed := cmd.Flags().Changed
	if changed("release") {
		c.Release.Source = t.source
		if err := checkSourceOptions(t.source); err != nil {
			return c, err
		}
	}
	if changed("state-dir") {
		if c.StateDir, err = filepath.Abs(t.stateDir); err != nil || t.stateDir == "" {
			return c, usageError{fmt.Errorf("--state-dir %q: want a directory", t.stateDir)}
		}
	}
	if changed("key") {
		t.foreign = len(c.Trust.Keys)+len(c.Trust.Identities) > 0
		if c.Trust, err = keyPolicy(t.keys); err != nil {
			return c, err
		}
	}
	c.UnsafeUnsigned = c.UnsafeUnsigned || t.unsafeUnsigned
	c.UnsafeAllowRollback = c.UnsafeAllowRollback || t.unsafeRollback
	if err := c.Check(); err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// checkSourceOptions looks whether there is each directory that --release names: the
// cache would answer for one that is mistyped, and nobody be told. Of a directory that
// the configuration names, doctor says that it is missing.
func checkSourceOptions(specs []string) error {
	for _, spec := range specs {
		src, err := release.NewSource(spec)
		if err != nil {
			return usageError{fmt.Errorf("--release: %w", err)}
		}
		if dir, ok := src.(*release.DirSource); ok && !isDirectory(dir.Dir()) {
			return usageError{fmt.Errorf("--release %s: there is no such directory", spec)}
		}
	}
	return nil
}

// keyPolicy believes the public keys in files.
func keyPolicy(files []string) (trust.Policy, error) {
	var p trust.Policy
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return p, usageError{fmt.Errorf("--key %q: %w", file, err)}
		}
		key := trust.Key{Name: fmt.Sprintf("key%d", len(p.Keys)+1), File: abs}
		if _, err := trust.New(trust.Policy{Keys: []trust.Key{key}}); err != nil {
			// Without its place in a configuration, where it is not.
			return p, configError{fmt.Errorf("--key: %w", cmp.Or(errors.Unwrap(err), err))}
		}
		p.Keys = append(p.Keys, key)
	}
	return p, nil
}

// policyFlags are what commands have that judge a release that is at hand, by
// the configuration.
type policyFlags struct{ keys []string }

func (p *policyFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&p.keys, "key", nil, keyUsage)
}

func (p *policyFlags) load(a *app, cmd *cobra.Command) (config.Config, error) {
	t := trustFlags{keys: p.keys}
	return t.load(a, cmd)
}

// isDir reports whether the argument of a command means a directory rather
// than a tag.
func isDir(arg string) bool {
	if strings.ContainsRune(arg, os.PathSeparator) || arg == "." || arg == ".." {
		return true
	}
	// A directory is taken whatever its tag and its age, so what lies in the
	// working directory must not stand in for the release that was asked for.
	if arg == string(release.Latest) || strings.HasPrefix(arg, release.LatestPrefix) {
		return false
	}
	info, err := os.Stat(arg)
	return err == nil && info.IsDir()
}

// releaseKind is the kind of the object that --output json prints of a release.
const releaseKind = "ec-release"

// releaseSummary is what the commands say of a trusted release. It is the
// object that --output json prints; docs/releasing.md describes it.
type releaseSummary struct {
	SchemaVersion  int         `json:"schemaVersion"`
	Kind           string      `json:"kind"`
	Tool           string      `json:"tool"`
	Verdict        string      `json:"verdict"`
	Tag            release.Tag `json:"tag"`
	Commit         string      `json:"commit"`
	CreatedAt      time.Time   `json:"createdAt"`
	BestBefore     time.Time   `json:"bestBefore"`
	Configurations []string    `json:"configurations"`
	// Systems are the store paths of the systems, by configuration.
	Systems map[string]closure.StorePath `json:"systems"`
	Signer  release.Signer               `json:"signer"`
	Source  string                       `json:"source"`
	Assets  int                          `json:"assets"`
	Sums    string                       `json:"sums"`
	Unsafe  []string                     `json:"unsafe"`
	Notes   []string                     `json:"notes"`
}

func summarize(ctx context.Context, r *release.Release) releaseSummary {
	i := r.Info()
	return releaseSummary{
		SchemaVersion: 1, Kind: releaseKind, Tool: toolVersion(), Verdict: report.Verified.String(), Tag: r.Tag(), Commit: i.Commit, CreatedAt: i.CreatedAt, BestBefore: i.BestBefore,
		Configurations: i.Configurations, Systems: systemsOf(ctx, r), Signer: r.Signer(), Source: r.Source(), Assets: r.Sums().Len(),
		Sums: r.Digest().String(), Unsafe: r.Unsafe(), Notes: r.Notes(),
	}
}

// printRelease says that r is trusted, and why.
func (a *app) printRelease(ctx context.Context, r *release.Release) error {
	s := summarize(ctx, r)
	if a.output == "json" {
		return a.printJSON(&s)
	}
	headline := fmt.Sprintf("release %s is trusted", s.Tag)
	if r.Unsigned() {
		headline = fmt.Sprintf("release %s was taken without a look at its signature (unsafe)", s.Tag)
	}
	commit := s.Commit
	if commit == "" {
		commit = "none stated"
	}
	lines := []string{
		headline,
		"  from            " + s.Source,
		"  signed by       " + s.Signer.String(),
		"  created         " + s.CreatedAt.Format(time.RFC3339) + ", best before " + s.BestBefore.Format(time.RFC3339),
		"  commit          " + commit,
		"  configurations  " + strings.Join(s.Configurations, ", "),
	}
	for _, name := range s.Configurations {
		if system, known := s.Systems[name]; known {
			lines = append(lines, fmt.Sprintf("  system          %s (%s)", system, name))
		}
	}
	lines = append(lines, fmt.Sprintf("  assets          %d, SHA-256 of %s %s", s.Assets, release.SumsName, s.Sums))
	for _, u := range s.Unsafe {
		lines = append(lines, "  unsafe          "+u)
	}
	for _, n := range s.Notes {
		lines = append(lines, "  note            "+n)
	}
	for i := range lines {
		lines[i] = report.Escape(lines[i])
	}
	return a.print(strings.Join(lines, "\n") + "\n")
}

// watchFetch shows how reading a release goes on, and says each time that a source
// is asked again.
func (a *app) watchFetch(p *release.Progress) (stop func()) {
	p.OnNotice(func(line string) { a.note(report.Escape(line)) })
	end := a.watch(func() sample {
		s := p.Snapshot()
		detail := s.Asset
		if s.Asset != "" && s.Done == 0 && s.Total < 0 {
			detail = "waiting for " + s.Asset
		}
		return sample{what: "fetch", done: s.Done, total: max(0, s.Total), detail: detail}
	})
	return func() {
		end()
		p.OnNotice(nil)
	}
}
