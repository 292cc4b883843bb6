package configured

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// KeyUsage describes the flag --key.
const KeyUsage = "believe the public key in `FILE` instead of what trust in the configuration names; may be repeated"

// TrustFlags are the flags of all commands that judge a release. They override the
// configuration.
type TrustFlags struct {
	source         []string
	keys           []string
	stateDir       string
	UnsafeUnsigned bool
	unsafeRollback bool
	// Foreign is set by Load: a key was named in the place of what trust in the
	// configuration names.
	Foreign bool
}

// Register adds the flags.
func (t *TrustFlags) Register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&t.source, "release", nil, "look for releases in `SOURCE`: a directory, file:///DIR, or https://HOST/OWNER/REPO/releases/download; may be repeated")
	f.StringArrayVar(&t.keys, "key", nil, KeyUsage)
	f.StringVar(&t.stateDir, "state-dir", "", "keep releases and other state in `DIR` (default /var/lib/ec-verify)")
	f.BoolVar(&t.UnsafeUnsigned, "unsafe-unsigned", false, "accept a release without checking its signature")
	f.BoolVar(&t.unsafeRollback, "unsafe-allow-rollback", false, "accept a release older than one accepted before")
	if err := cmd.MarkFlagDirname("state-dir"); err != nil {
		panic(err)
	}
}

// Load returns the configuration with the flags laid over it.
func (t *TrustFlags) Load(a *terminal.Terminal, cmd *cobra.Command) (config.Config, error) {
	c, err := Load(a)
	if err != nil {
		return c, err
	}
	changed := cmd.Flags().Changed
	if changed("release") {
		c.Release.Source = t.source
		if err := CheckSourceOptions(t.source); err != nil {
			return c, err
		}
	}
	if changed("state-dir") {
		if c.StateDir, err = filepath.Abs(t.stateDir); err != nil || t.stateDir == "" {
			return c, terminal.UsageErrorf("--state-dir %q: want a directory", t.stateDir)
		}
	}
	if changed("key") {
		t.Foreign = len(c.Trust.Keys)+len(c.Trust.Identities) > 0
		if c.Trust, err = KeyPolicy(t.keys); err != nil {
			return c, err
		}
	}
	c.UnsafeUnsigned = c.UnsafeUnsigned || t.UnsafeUnsigned
	c.UnsafeAllowRollback = c.UnsafeAllowRollback || t.unsafeRollback
	if err := c.Check(); err != nil {
		return c, terminal.UsageError(err)
	}
	return c, nil
}

// CheckSourceOptions returns an error if a directory given with --release does not exist:
// otherwise the cache would answer for a mistyped one unnoticed. doctor reports missing
// directories of the configuration.
func CheckSourceOptions(specs []string) error {
	for _, spec := range specs {
		src, err := release.NewSource(spec)
		if err != nil {
			return terminal.UsageErrorf("--release: %w", err)
		}
		if dir, ok := src.(*release.DirSource); ok && !terminal.IsDirectory(dir.Dir()) {
			return terminal.UsageErrorf("--release %s: there is no such directory", spec)
		}
	}
	return nil
}

// KeyPolicy believes the public keys in files.
func KeyPolicy(files []string) (trust.Policy, error) {
	var p trust.Policy
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return p, terminal.UsageErrorf("--key %q: %w", file, err)
		}
		key := trust.Key{Name: fmt.Sprintf("key%d", len(p.Keys)+1), File: abs}
		if _, err := trust.New(trust.Policy{Keys: []trust.Key{key}}); err != nil {
			// Without the place in a configuration, because the key is not in one.
			return p, terminal.ConfigErrorf("--key: %w", cmp.Or(errors.Unwrap(err), err))
		}
		p.Keys = append(p.Keys, key)
	}
	return p, nil
}

// PolicyFlags are what commands have that judge a release that is at hand, by
// the configuration.
type PolicyFlags struct{ keys []string }

// Register adds the flag.
func (p *PolicyFlags) Register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&p.keys, "key", nil, KeyUsage)
}

// Load returns the configuration with the flag laid over it.
func (p *PolicyFlags) Load(a *terminal.Terminal, cmd *cobra.Command) (config.Config, error) {
	t := TrustFlags{keys: p.keys}
	return t.Load(a, cmd)
}
