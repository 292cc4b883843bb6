package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/internal/verify"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// DefaultFile is where the configuration is looked for; that it is not there
// is no error.
const DefaultFile = "/etc/ec-verify/config.json"

// maxSize bounds a configuration file in bytes.
const maxSize = 1 << 20

// Config is the whole configuration. [Default] gives the values of the empty
// object, {}.
type Config struct {
	// Configuration is the name in the flake's nixosConfigurations that this
	// machine is; empty for the only one that the release has.
	Configuration string `json:"configuration"`
	// Flake is where the embedded flake is linked.
	Flake string `json:"flake"`
	// StoreRoot is the directory that stands for "/"; empty for this machine.
	StoreRoot string           `json:"storeRoot"`
	StoreDir  closure.StoreDir `json:"storeDir"`
	// StateDir holds what is remembered between runs.
	StateDir string `json:"stateDir"`
	// Read says where file contents are read from: "cached" or "disk".
	Read nar.ReadMode `json:"read"`
	// Workers is how many paths are hashed at once; 0 for as many as pay.
	Workers int     `json:"workers"`
	Nix     Nix     `json:"nix"`
	Release Release `json:"release"`
	// Trust says whose signatures are believed.
	Trust   trust.Policy `json:"trust"`
	Rebuild Rebuild      `json:"rebuild"`
	// Neighbour says how other work on the machine is spared.
	Neighbour Neighbour `json:"neighbour"`
	Journal   Journal   `json:"journal"`
	Metrics   Metrics   `json:"metrics"`
	// Contents says how store paths are hashed, Ledger how often everything is
	// to be checked.
	Contents Contents `json:"contents"`
	Ledger   Ledger   `json:"ledger"`
	// Report says how reports are signed.
	Report Report `json:"report"`
	// UnsafeUnsigned takes releases without a look at their signatures.
	UnsafeUnsigned bool `json:"unsafeUnsigned"`
	// UnsafeAllowRollback takes a release older than one accepted before.
	UnsafeAllowRollback bool `json:"unsafeAllowRollback"`
	// UnsafeSkip leaves out tiers.
	UnsafeSkip []report.TierName `json:"unsafeSkip"`
}

// Nix says how the nix program is run.
type Nix struct {
	// BinDir is the directory of the nix programs; empty to look in the usual
	// places.
	BinDir string `json:"binDir"`
	// EvalTimeout bounds one evaluation.
	EvalTimeout Duration `json:"evalTimeout"`
}

// Release says where releases come from and which are accepted.
type Release struct {
	// Source lists directories, file:// URLs and forges, tried in this order.
	Source []string `json:"source"`
	// Accept lists the tags that this machine may run; "latest" stands for the
	// newest one that the sources have.
	Accept []string `json:"accept"`
	// TokenFile holds an access token for private repositories.
	TokenFile string `json:"tokenFile"`
	// Grace is how long a release is taken after its bestBefore.
	Grace Duration `json:"grace"`
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
		Release:   Release{Keep: 4},
		Rebuild:   defaultRebuild(),
		Neighbour: defaultNeighbour(),
		Journal:   defaultJournal(),
		Ledger:    defaultLedger(),
		Report:    defaultReport(),
	}
}

// Load reads the file name over the defaults. With the empty name it reads
// [DefaultFile] if that exists.
func Load(name string) (Config, error) {
	optional := name == ""
	if optional {
		name = DefaultFile
	}
	data, err := hostfile.ReadSmall(name, maxSize)
	if optional && errors.Is(err, os.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", name, err)
	}
	return c, nil
}

// Parse reads a configuration over the defaults and checks it. Unknown and
// doubled keys are errors that say where they are.
func Parse(data []byte) (Config, error) {
	c := Default()
	if err := json.Unmarshal(data, &c, json.RejectUnknownMembers(true)); err != nil {
		return Config{}, describe(data, err)
	}
	return c, c.Check()
}

// Check holds c to the rules that span keys or that types do not carry.
func (c *Config) Check() error {
	for _, p := range []struct{ key, value string }{
		{"flake", c.Flake}, {"storeRoot", c.StoreRoot}, {"stateDir", c.StateDir}, {"nix.binDir", c.Nix.BinDir},
		{"release.tokenFile", c.Release.TokenFile},
	} {
		if p.value != "" && (!path.IsAbs(p.value) || strings.ContainsRune(p.value, 0)) {
			return fmt.Errorf("%s: %q is not an absolute path", p.key, p.value)
		}
	}
	if c.Flake == "" {
		return errors.New("flake: must not be empty")
	}
	if c.StateDir == "" {
		return errors.New("stateDir: must not be empty")
	}
	if c.Configuration != "" {
		if err := closure.CheckConfiguration(c.Configuration); err != nil {
			return err
		}
	}
	if _, err := closure.ParseStoreDir(string(c.StoreDir)); err != nil {
		return fmt.Errorf("storeDir: %w", err)
	}
	// Scratch stores and images have no other, and a Nix that was built for
	// another one has no system to verify.
	if c.StoreDir != closure.DefaultStoreDir {
		return fmt.Errorf("storeDir: %s is not supported; want %s", c.StoreDir, closure.DefaultStoreDir)
	}
	if c.Workers < 0 || c.Workers > 1024 {
		return fmt.Errorf("workers: %d is not between 0 and 1024", c.Workers)
	}
	if c.Nix.EvalTimeout <= 0 {
		return errors.New("nix.evalTimeout: must be more than 0")
	}
	if c.Release.Grace < 0 {
		return errors.New("release.grace: must not be negative")
	}
	if c.Release.Keep < 1 || c.Release.Keep > 1000 {
		return fmt.Errorf("release.keep: %d is not between 1 and 1000", c.Release.Keep)
	}
	for _, check := range []func() error{c.Rebuild.check, c.Contents.check, c.Ledger.check, c.Neighbour.check, c.Journal.check, c.Metrics.check, c.Report.check} {
		if err := check(); err != nil {
			return err
		}
	}
	for _, s := range c.Release.Source {
		source, err := release.NewSource(s)
		if err != nil {
			return fmt.Errorf("release.source: %w", err)
		}
		if dir, ok := source.(*release.DirSource); ok && overlap(c.StateDir, dir.Dir()) {
			return fmt.Errorf("stateDir: %q and the release source %q are within each other; what is in the state directory is replaced and removed", c.StateDir, dir.Dir())
		}
	}
	for _, t := range c.Release.Accept {
		if _, err := release.ParseTag(t); err != nil {
			return fmt.Errorf("release.accept: %w", err)
		}
	}
	// That nobody is trusted is an error of the commands that need somebody.
	if len(c.Trust.Keys)+len(c.Trust.Identities) > 0 || c.Trust.Threshold != 0 {
		if err := c.Trust.Validate(); err != nil {
			return err
		}
	}
	for _, t := range c.UnsafeSkip {
		if err := verify.CheckSkip(t); err != nil {
			return fmt.Errorf("unsafeSkip: %w", err)
		}
	}
	return nil
}

// overlap reports whether one of two directories is within the other, or would be
// once it is made.
func overlap(a, b string) bool {
	a, b = resolved(a), resolved(b)
	return within(a, b) || within(b, a)
}

func within(dir, p string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// resolved returns an absolute path without symbolic links, as far as there is
// something at it.
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

// UnknownKeyError says that a configuration has a key that there is not.
type UnknownKeyError struct {
	Key   string // with those that it stands in, e.g. "release.sources"
	known []string
}

func (e *UnknownKeyError) Error() string { return fmt.Sprintf("unknown key %q", e.Key) }

// Known returns what Key is split into: the keys that it stands in, with a full stop
// behind them, and its own name; and the names that could stand in its place.
func (e *UnknownKeyError) Known() (parent, own string, known []string) {
	at := strings.LastIndexByte(e.Key, '.') + 1
	return e.Key[:at], e.Key[at:], e.known
}

// keysOf returns the keys that a struct has in a configuration.
func keysOf(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for f := range t.Fields() {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// describe renders what is wrong with a configuration in one line.
func describe(data []byte, err error) error {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		before := data[:min(int(syntactic.ByteOffset), len(data))]
		line := 1 + bytes.Count(before, []byte("\n"))
		switch {
		case errors.Is(syntactic.Err, jsontext.ErrDuplicateName):
			return fmt.Errorf("line %d: key %q stands there twice", line, keyOf(syntactic.JSONPointer))
		case errors.Is(syntactic.Err, io.ErrUnexpectedEOF):
			return fmt.Errorf("line %d: it ends too early; a configuration is one JSON object, at least {}", line)
		case syntactic.Err == nil:
			return fmt.Errorf("line %d: malformed JSON", line)
		}
		return fmt.Errorf("line %d: %w", line, syntactic.Err)
	}
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		key := keyOf(semantic.JSONPointer)
		switch {
		case errors.Is(semantic.Err, json.ErrUnknownName):
			return &UnknownKeyError{Key: key, known: keysOf(semantic.GoType)}
		case semantic.JSONPointer == "":
			return fmt.Errorf("want one JSON object, not %s", jsonWord(semantic.JSONKind))
		case errors.Is(semantic.Err, strconv.ErrSyntax), errors.Is(semantic.Err, strconv.ErrRange):
			return fmt.Errorf("%s: %s is not %s", key, semantic.JSONValue, goWord(semantic))
		case semantic.Err != nil:
			return fmt.Errorf("%s: %w", key, semantic.Err)
		}
		return fmt.Errorf("%s: want %s, not %s", key, goWord(semantic), jsonWord(semantic.JSONKind))
	}
	return err
}

// keyOf writes where something stands as people do: release.source.0.
func keyOf(p jsontext.Pointer) string {
	return strings.Join(slices.Collect(p.Tokens()), ".")
}

func jsonWord(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "a list"
	}
	return "something else"
}

// goWord says in JSON's words what was wanted.
func goWord(e *json.SemanticError) string {
	if e.GoType == nil {
		return "something else"
	}
	switch e.GoType.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number of a reasonable size"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	}
	return "something else"
}
