package config

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"every.channel/ec-verify/internal/node/verify"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Config is the whole configuration. [Default] returns the values of the empty object,
// {}.
type Config struct {
	// Configuration is this machine's name in the flake's nixosConfigurations; empty if
	// the release has only one.
	Configuration string `json:"configuration"`
	// Flake is the link to the embedded flake.
	Flake string `json:"flake"`
	// StoreRoot is the root of the examined file tree; empty for this machine.
	StoreRoot string           `json:"storeRoot"`
	StoreDir  closure.StoreDir `json:"storeDir"`
	// StateDir is the directory for what is remembered between runs.
	StateDir string `json:"stateDir"`
	// Read says how file contents are read: "cached" or "disk".
	Read nar.ReadMode `json:"read"`
	// Workers is how many paths are hashed at once; 0 for the most useful number.
	Workers int     `json:"workers"`
	Nix     Nix     `json:"nix"`
	Release Release `json:"release"`
	// Trust says whose signatures are accepted.
	Trust   trust.Policy `json:"trust"`
	Rebuild Rebuild      `json:"rebuild"`
	// Neighbour limits what a run takes from other programs on the machine.
	Neighbour Neighbour `json:"neighbour"`
	Journal   Journal   `json:"journal"`
	Metrics   Metrics   `json:"metrics"`
	// Live says how bootable systems are judged.
	Live Live `json:"live"`
	// Contents says how store paths are hashed, Ledger how often everything is checked.
	Contents Contents `json:"contents"`
	Ledger   Ledger   `json:"ledger"`
	// Machine says what is checked on the running machine beside its store.
	Machine Machine `json:"machine"`
	// Report says how reports are signed.
	Report Report `json:"report"`
	// UnsafeUnsigned accepts releases without checking their signatures.
	UnsafeUnsigned bool `json:"unsafeUnsigned"`
	// UnsafeAllowRollback accepts a release older than one accepted before.
	UnsafeAllowRollback bool `json:"unsafeAllowRollback"`
	// UnsafeSkip leaves out tiers.
	UnsafeSkip []report.TierName `json:"unsafeSkip"`
}

// NixPrograms are the programs that are run from [Nix].BinDir.
var NixPrograms = []string{"nix", "nix-instantiate", "nix-store"}

// Nix says how the nix program is run.
type Nix struct {
	// BinDir is the directory of the nix programs; empty to search the usual places.
	BinDir string `json:"binDir"`
	// EvalTimeout limits the processor time of one evaluation.
	EvalTimeout Duration `json:"evalTimeout"`
}

// Release says where releases come from and which are accepted.
type Release struct {
	// Source lists directories, file:// URLs and forges, which are tried in this order.
	Source []string `json:"source"`
	// Accept lists the tags that this machine may run; "latest" is the newest one in the
	// sources.
	Accept []string `json:"accept"`
	// TokenFile is a file with an access token for private repositories.
	TokenFile string `json:"tokenFile"`
	// Grace is how long a release is accepted after its bestBefore.
	Grace Duration `json:"grace"`
	// NoticeBefore is how long before the end of a release, or of the key that signed it,
	// reports mention it; 0 for never.
	NoticeBefore Duration `json:"noticeBefore"`
	// Keep is how many accepted releases stay in the state directory.
	Keep int `json:"keep"`
}

// Default returns the configuration of the empty object.
func Default() Config {
	return Config{
		Flake:     "/etc/every-channel/flake",
		StoreDir:  closure.DefaultStoreDir,
		StateDir:  "/var/lib/ec-verify",
		Nix:       Nix{EvalTimeout: Duration(15 * time.Minute)},
		Release:   Release{Keep: 4, NoticeBefore: Duration(14 * 24 * time.Hour)},
		Rebuild:   defaultRebuild(),
		Neighbour: defaultNeighbour(),
		Journal:   defaultJournal(),
		Live:      Live{OtherEntries: EntriesNotice},
		Ledger:    defaultLedger(),
		Report:    defaultReport(),
	}
}

// Check applies the rules that span several keys or that types do not express. Its error
// is *[Mistakes].
func (c *Config) Check() error {
	mistakes := new(Mistakes)
	c.check(func(key, format string, args ...any) {
		mistakes.add(Mistake{Key: key, Text: key + ": " + fmt.Sprintf(format, args...)})
	})
	return mistakes.err()
}

func (c *Config) check(wrong complain) {
	c.checkPlaces(wrong)
	if c.Workers < 0 || c.Workers > 1024 {
		wrong("workers", "%d is not between 0 and 1024", c.Workers)
	}
	if c.Nix.EvalTimeout <= 0 {
		wrong("nix.evalTimeout", "must be more than 0")
	}
	for _, check := range []func(complain){
		c.checkRelease, c.Rebuild.check, c.Live.check, c.Contents.check, c.Ledger.check, c.Neighbour.check, c.Journal.check, c.Machine.check, c.Metrics.check, c.Report.check,
	} {
		check(wrong)
	}
	// An empty policy is an error of the commands that need one.
	if len(c.Trust.Keys)+len(c.Trust.Identities) > 0 || c.Trust.Threshold != 0 {
		c.Trust.Check(func(key string, err error) { wrong(key, "%s", err) })
	}
	for i, t := range c.UnsafeSkip {
		if err := verify.CheckSkip(t); err != nil {
			wrong(fmt.Sprintf("unsafeSkip[%d]", i), "%s", err)
		}
	}
}

// checkPlaces checks directories and the machine's name.
func (c *Config) checkPlaces(wrong complain) {
	for _, p := range []struct {
		key, value string
		needed     bool
	}{
		{"flake", c.Flake, true}, {"storeRoot", c.StoreRoot, false}, {"stateDir", c.StateDir, true},
		{"nix.binDir", c.Nix.BinDir, false}, {"release.tokenFile", c.Release.TokenFile, false},
	} {
		switch {
		case p.value == "" && p.needed:
			wrong(p.key, "must not be empty")
		case p.value != "" && (!path.IsAbs(p.value) || strings.ContainsRune(p.value, 0)):
			wrong(p.key, "%q is not an absolute path", p.value)
		}
	}
	if c.Configuration != "" {
		if err := closure.CheckConfiguration(c.Configuration); err != nil {
			wrong("configuration", "%s", err)
		}
	}
	// Scratch stores and images have no other, and a Nix built for another one has no
	// system to verify.
	if _, err := closure.ParseStoreDir(string(c.StoreDir)); err != nil {
		wrong("storeDir", "%s", err)
	} else if c.StoreDir != closure.DefaultStoreDir {
		wrong("storeDir", "%s is not supported; want %s", c.StoreDir, closure.DefaultStoreDir)
	}
}

func (c *Config) checkRelease(wrong complain) {
	if c.Release.Grace < 0 {
		wrong("release.grace", "must not be negative")
	}
	if c.Release.NoticeBefore < 0 {
		wrong("release.noticeBefore", "must not be negative")
	}
	if c.Release.Keep < 1 || c.Release.Keep > 1000 {
		wrong("release.keep", "%d is not between 1 and 1000", c.Release.Keep)
	}
	for i, s := range c.Release.Source {
		key := fmt.Sprintf("release.source[%d]", i)
		source, err := release.NewSource(s)
		if err != nil {
			wrong(key, "%s", err)
		} else if dir, ok := source.(*release.DirSource); ok && overlap(c.StateDir, dir.Dir()) {
			wrong(key, "%q and the state directory %q are within each other; files in the state directory are replaced and removed", dir.Dir(), c.StateDir)
		}
	}
	for i, t := range c.Release.Accept {
		if _, err := release.ParseTag(t); err != nil {
			wrong(fmt.Sprintf("release.accept[%d]", i), "%s", err)
		}
	}
}

// overlap reports whether one of two directories is within the other, or would be once it
// exists.
func overlap(a, b string) bool {
	a, b = resolved(a), resolved(b)
	return within(a, b) || within(b, a)
}

func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// resolved resolves the symbolic links of an absolute path, as far as it exists.
func resolved(p string) string {
	p, err := filepath.Abs(p)
	if err != nil {
		return filepath.Clean(p)
	}
	rest := ""
	for dir := p; ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == "/" {
			return p
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}
