package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// passwordVar is where cosign takes the password of a key from, too.
const passwordVar = "COSIGN_PASSWORD"

type signFlags struct {
	key          string
	passwordFile string
	add          bool
	replace      bool
	writeSums    bool
}

func newReleaseSignCommand(a *app) *cobra.Command {
	var flags signFlags
	cmd := &cobra.Command{
		Use:   "sign DIR",
		Short: "sign a release",
		Long: `Check the whole release in DIR, and write the signature of its SHA256SUMS.txt
to DIR/SHA256SUMS.txt.sigstore.json, as a sigstore bundle for cosign
verify-blob.

SHA256SUMS.txt was written by the builder of the release. If a file was
truncated, changed, lost or added since, nothing is signed, and each such file
is named. With --write-sums, SHA256SUMS.txt is first rewritten from all other
files in DIR, without a check of them.

The key is ECDSA P-256 or Ed25519, in PEM: either from cosign generate-key-pair
or PKCS #8. The password of an encrypted key is taken from the variable
` + passwordVar + `, or from the file that --password-file names.

--add adds the signature to existing ones, for a policy that requires several
signers. --replace replaces them. Without either, a release signed by another
key is left unchanged.`,
		Example: `  ec-verify release sign dist/ --key cosign.key
  ec-verify release sign dist/ --key second.key --add \
    --password-file /run/credentials/sign/password`,
		Args: terminal.ArgCount(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.signRelease(cmd.Context(), args[0], flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.key, "key", "", "sign with the private key in `FILE` (required)")
	f.StringVar(&flags.passwordFile, "password-file", "", "read the key's password from the first line of `FILE`")
	f.BoolVar(&flags.add, "add", false, "keep existing signatures and add one")
	f.BoolVar(&flags.replace, "replace", false, "replace existing signatures")
	f.BoolVar(&flags.writeSums, "write-sums", false, "rewrite SHA256SUMS.txt from the files in DIR")
	return cmd
}

func (a *app) signRelease(ctx context.Context, dir string, flags signFlags) error {
	if flags.add && flags.replace {
		return terminal.UsageErrorf("--add keeps the signatures that are there, --replace does not; give one of them")
	}
	if flags.add && flags.writeSums {
		return terminal.UsageErrorf("--add and --write-sums: a signature is added to those over the SHA256SUMS.txt that is there; give one of them")
	}
	key, err := signingKey(flags)
	if err != nil {
		return err
	}
	if err := prepareSums(ctx, dir, flags.writeSums); err != nil {
		return a.Refused(terminal.ReleaseKind, err)
	}
	sums, err := hostfile.ReadSmall(filepath.Join(dir, release.SumsName), release.MaxSumsSize)
	if err != nil {
		return err
	}
	bundle, err := trust.Sign(ctx, key, sums)
	if err != nil {
		return err
	}
	if !flags.replace {
		if bundle, err = besides(dir, bundle, sums, flags.add); err != nil {
			return err
		}
	}
	if err := release.WriteBundle(dir, bundle); err != nil {
		return err
	}
	public, err := key.PublicPEM()
	if err != nil {
		return err
	}
	verifier, err := trust.New(trust.Policy{Keys: []trust.Key{{Name: trust.NameOf(flags.key), PEM: string(public)}}})
	if err != nil {
		return err
	}
	r, err := release.Open(ctx, release.NewDirSource(dir), "", verifier)
	if err != nil {
		return fmt.Errorf("signed, but not fit to be published: %w", err)
	}
	return a.Show(terminal.Summarize(ctx, r))
}

// signingKey returns the private key that flags name.
func signingKey(flags signFlags) (*trust.PrivateKey, error) {
	if flags.key == "" {
		return nil, terminal.UsageErrorf("--key FILE is missing: name the private key")
	}
	pem, err := hostfile.ReadSmall(flags.key, 64<<10)
	if err != nil {
		// A key is part of the configuration, whether it verifies or signs.
		return nil, terminal.ConfigErrorf("read the key: %w", err)
	}
	key, err := trust.ParsePrivateKey(pem, func() ([]byte, error) { return keyPassword(flags.passwordFile) })
	if errors.Is(err, trust.ErrPassword) {
		return nil, fmt.Errorf("%s: %w; set %s or --password-file", flags.key, err, passwordVar)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flags.key, err)
	}
	return key, nil
}

// besides returns bundle together with the bundles of other keys in dir. Without add it
// refuses them. A bundle over other sums vouches for nothing and is dropped.
func besides(dir string, bundle, sums []byte, add bool) ([]byte, error) {
	existing, err := hostfile.ReadSmall(filepath.Join(dir, release.BundleName), release.MaxBundleSize)
	if err == nil {
		existing, err = trust.AddBundle(existing, bundle, sums)
	}
	switch {
	case add && err != nil:
		return nil, fmt.Errorf("--add: %w", err)
	case err != nil:
		return bundle, nil //nolint:nilerr // what is there, if anything, vouches for nothing
	case !add && bytes.Count(existing, []byte("\n")) > 1:
		return nil, terminal.UsageErrorf("%s is signed by another key: give --add to keep that signature, or --replace", dir)
	}
	return existing, nil
}

// prepareSums checks that dir has a complete release, apart from its signature: a release
// that can't be published is not signed. Whether machines can evaluate the flake can't be
// checked here, because only the hash of its lock file is available: manifest create,
// which writes the manifests, has evaluated it as machines will, and refused an input
// without narHash.
func prepareSums(ctx context.Context, dir string, write bool) error {
	if write {
		if err := release.WriteSums(ctx, dir); err != nil {
			return err
		}
	} else if err := release.CheckSums(ctx, dir); err != nil {
		return fmt.Errorf("not signed: %w; build or fetch the release again, or pass --write-sums if the files are right as they are", err)
	}
	r, err := release.Open(ctx, release.NewDirSource(dir), "", trust.UnsafeUnsigned())
	switch {
	case errors.As(err, new(*release.ClockError)):
		return nil // no fault of the release; reported after signing
	case err == nil:
		err = r.CheckAssets(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("not signed, since it is not fit to be published: %w", err)
	}
	return nil
}

// keyPassword returns the password of a private key: the first line of file, or the value
// of the environment variable if file is "". nil means no password, which differs from an
// empty one.
func keyPassword(file string) ([]byte, error) {
	if file == "" {
		value, ok := os.LookupEnv(passwordVar)
		if !ok {
			return nil, nil
		}
		return []byte(value), nil
	}
	data, err := hostfile.ReadSmall(file, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return []byte(strings.TrimSuffix(line, "\r")), nil
}
