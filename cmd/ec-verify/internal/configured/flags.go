package configured

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// Flags are the flags of one command that override the configuration. Each is declared
// together with what it changes there. The zero Flags has none.
type Flags struct {
	// Sources are those of --release.
	Sources []string
	// Unsigned says that --unsafe-unsigned is given.
	Unsigned bool
	// Foreign is set by Apply if a flag names a key in place of those of the
	// configuration's trust.
	Foreign bool

	laid []laid
}

type laid struct {
	flag *pflag.Flag
	over func(*config.Config) error
}

// Lay registers over, which changes the configuration if the flag name of cmd is given.
func (f *Flags) Lay(cmd *cobra.Command, name string, over func(*config.Config) error) {
	f.laid = append(f.laid, laid{cmd.Flags().Lookup(name), over})
}

// String adds a text flag. If it is given, set changes the configuration.
func (f *Flags) String(cmd *cobra.Command, name, usage string, set func(c *config.Config, value string) error) {
	value := cmd.Flags().String(name, "", usage)
	f.Lay(cmd, name, func(c *config.Config) error { return set(c, *value) })
}

// Duration adds a flag for a duration above 0, which overrides a key.
func (f *Flags) Duration(cmd *cobra.Command, name, usage string, key func(*config.Config) *config.Duration) {
	value := new(time.Duration)
	terminal.DurationVar(cmd.Flags(), value, name, 0, usage)
	f.Lay(cmd, name, func(c *config.Config) error {
		if *value <= 0 {
			return terminal.UsageErrorf("--%s %s: want more than 0", name, *value)
		}
		*key(c) = config.Duration(*value)
		return nil
	})
}

// Given reports whether the named flag of f is on the command line.
func (f *Flags) Given(name string) bool {
	return slices.ContainsFunc(f.laid, func(l laid) bool { return l.flag.Name == name && l.flag.Changed })
}

// RegisterKey adds --key.
func (f *Flags) RegisterKey(cmd *cobra.Command) {
	keys := cmd.Flags().StringArray("key", nil, "trust the public key in `FILE` instead of the keys and identities in the configuration; may be repeated")
	f.Lay(cmd, "key", func(c *config.Config) (err error) {
		f.Foreign = len(c.Trust.Keys)+len(c.Trust.Identities) > 0
		c.Trust, err = KeyPolicy(*keys)
		return err
	})
}

// RegisterRelease adds the flags by which releases are found: --release, --key and
// --state-dir.
func (f *Flags) RegisterRelease(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.Sources, "release", nil, "look for releases in `SOURCE`: a directory, file:///DIR, or a forge's https://HOST/…/releases/download; may be repeated")
	f.Lay(cmd, "release", func(c *config.Config) error { c.Release.Source = f.Sources; return nil })
	f.RegisterKey(cmd)
	f.RegisterStateDir(cmd, "keep releases and other state in `DIR` (default /var/lib/ec-verify)")
}

// RegisterStateDir adds --state-dir.
func (f *Flags) RegisterStateDir(cmd *cobra.Command, usage string) {
	f.String(cmd, "state-dir", usage, func(c *config.Config, value string) error {
		dir, err := filepath.Abs(value)
		if err != nil || value == "" {
			return terminal.UsageErrorf("--state-dir %q: want a directory", value)
		}
		c.StateDir = dir
		return nil
	})
}

// RegisterUnsigned adds --unsafe-unsigned.
func (f *Flags) RegisterUnsigned(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.Unsigned, "unsafe-unsigned", false, "accept a release without checking its signature")
	f.Lay(cmd, "unsafe-unsigned", func(c *config.Config) error { c.UnsafeUnsigned = c.UnsafeUnsigned || f.Unsigned; return nil })
}

// RegisterUnsafe adds the flags that weaken how a release is judged.
func (f *Flags) RegisterUnsafe(cmd *cobra.Command) {
	f.RegisterUnsigned(cmd)
	rollback := cmd.Flags().Bool("unsafe-allow-rollback", false, "accept a release older than one accepted before")
	f.Lay(cmd, "unsafe-allow-rollback", func(c *config.Config) error {
		c.UnsafeAllowRollback = c.UnsafeAllowRollback || *rollback
		return nil
	})
}

// RegisterConfiguration adds --configuration.
func (f *Flags) RegisterConfiguration(cmd *cobra.Command) {
	f.String(cmd, "configuration", "this machine is the configuration `NAME` (default: the release's only one)", func(c *config.Config, value string) error {
		c.Configuration = value
		return nil
	})
}

// Load reads the configuration and applies the flags.
func (f *Flags) Load(t *terminal.Terminal) (config.Config, error) {
	c, err := Load(t)
	if err == nil {
		err = f.Apply(&c)
	}
	return c, err
}

// Apply overrides c by the flags that are given, and checks the result.
func (f *Flags) Apply(c *config.Config) error {
	for _, l := range f.laid {
		if !l.flag.Changed {
			continue
		}
		if err := l.over(c); err != nil {
			return err
		}
	}
	if err := c.Check(); err != nil {
		return terminal.UsageError(err)
	}
	return checkSources(f.Sources)
}

// checkSources returns an error if a directory given with --release does not exist:
// otherwise the cache would answer for a mistyped one unnoticed. doctor reports missing
// directories of the configuration.
func checkSources(specs []string) error {
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

// KeyPolicy trusts the public keys in files. Each is named after its file, as far as a key
// may have that name.
func KeyPolicy(files []string) (trust.Policy, error) {
	var p trust.Policy
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return p, terminal.UsageErrorf("--key %q: %w", file, err)
		}
		key := trust.Key{Name: trust.NameOf(file), File: abs}
		if slices.ContainsFunc(p.Keys, func(other trust.Key) bool { return other.Name == key.Name }) {
			key.Name = fmt.Sprintf("key%d", len(p.Keys)+1)
		}
		if _, err := trust.New(trust.Policy{Keys: []trust.Key{key}}); err != nil {
			// Without the place in a configuration, because the key is not in one.
			return p, terminal.ConfigErrorf("--key: %w", cmp.Or(errors.Unwrap(err), err))
		}
		p.Keys = append(p.Keys, key)
	}
	return p, nil
}
