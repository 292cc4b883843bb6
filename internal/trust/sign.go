package trust

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"every.channel/ec-verify/internal/release"
)

// PrivateKey signs releases: ECDSA P-256 or Ed25519.
type PrivateKey struct {
	signer signature.SignerVerifier
	pub    crypto.PublicKey
	id     string
}

// ErrPassword is wrapped by [ParsePrivateKey] if the password is missing or wrong.
var ErrPassword = errors.New("missing or wrong password")

// ParsePrivateKey parses a private key in PEM: cosign's encrypted form ("ENCRYPTED
// SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"), PKCS #8 ("PRIVATE KEY",
// "ENCRYPTED PRIVATE KEY"), or "EC PRIVATE KEY". password is called only for an
// encrypted key; nil, or a nil result, means no password, which differs from an empty
// one.
func ParsePrivateKey(pem []byte, password func() ([]byte, error)) (*PrivateKey, error) {
	if err := checkSingle(pem, blockType); err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	var passwordErr error
	asked := false
	ask := func(bool) ([]byte, error) {
		asked = true
		if password == nil {
			passwordErr = ErrPassword
			return nil, ErrPassword
		}
		p, err := password()
		if err == nil && p == nil {
			err = ErrPassword
		}
		passwordErr = err
		return p, err
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(pem, ask)
	switch {
	case passwordErr != nil:
		return nil, fmt.Errorf("parse private key: it is encrypted: %w", passwordErr)
	case err != nil && asked:
		return nil, fmt.Errorf("parse private key: it is encrypted: %w (%w)", ErrPassword, err)
	case err != nil:
		return nil, fmt.Errorf("parse private key: %w; want a key in PEM, such as cosign.key or the output of openssl genpkey", err)
	}
	var pub crypto.PublicKey
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		pub = key.Public()
	case ed25519.PrivateKey:
		pub = key.Public()
	default:
		return nil, fmt.Errorf("parse private key: a key of type %T; want ECDSA P-256 or Ed25519", key)
	}
	if err := checkKind(pub); err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	signer, err := signature.LoadSignerVerifier(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	id, err := keyID(pub)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	return &PrivateKey{signer, pub, id}, nil
}

// ID returns the key's ID in bundles and reports.
func (k *PrivateKey) ID() string { return k.id }

// PublicPEM returns the public key in the form of [Key.PEM].
func (k *PrivateKey) PublicPEM() ([]byte, error) {
	return cryptoutils.MarshalPublicKeyToPEM(k.pub)
}

// Sign returns a bundle with the signature of k over sums, the contents of a
// SHA256SUMS.txt, in one line for cosign verify-blob. The bundle was verified.
func Sign(ctx context.Context, k *PrivateKey, sums []byte) ([]byte, error) {
	out, err := signBundle(ctx, k, &sign.PlainData{Data: sums})
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", release.SumsName, err)
	}
	pem, err := k.PublicPEM()
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", release.SumsName, err)
	}
	check, err := New(Policy{Keys: []Key{{Name: "own", PEM: string(pem)}}})
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", release.SumsName, err)
	}
	if _, err := check.Verify(ctx, sums, out); err != nil {
		return nil, fmt.Errorf("sign %s: the new signature does not verify: %w", release.SumsName, err)
	}
	return out, nil
}

// signBundle returns a bundle with the signature of k over content, in one line.
func signBundle(ctx context.Context, k *PrivateKey, content sign.Content) ([]byte, error) {
	pb, err := sign.Bundle(content, keypair{k}, sign.BundleOptions{Context: ctx})
	if err != nil {
		return nil, err
	}
	b, err := bundle.NewBundle(pb)
	if err != nil {
		return nil, err
	}
	data, err := b.MarshalJSON()
	if err != nil {
		return nil, err
	}
	// The encoder varies its whitespace on purpose; a bundle should not.
	value := jsontext.Value(data)
	if err := value.Compact(); err != nil {
		return nil, err
	}
	return append([]byte(value), '\n'), nil
}

// AddBundle appends added to the bundle file existing, for releases with several
// signers. A bundle by the same key is replaced. All bundles in existing must be over
// sums; any other signature is an error.
func AddBundle(existing, added, sums []byte) ([]byte, error) {
	digest := sha256.Sum256(sums)
	var out bytes.Buffer
	news, err := splitBundles(added)
	if err != nil {
		return nil, err
	}
	hints := make(map[string]bool)
	for _, part := range news {
		b, err := parseBundle(part)
		if err != nil {
			return nil, err
		}
		hints[b.hint()] = true
	}
	olds, err := splitBundles(existing)
	if err != nil {
		return nil, err
	}
	var all []jsontext.Value
	for _, part := range olds {
		b, err := parseBundle(part)
		if err != nil {
			return nil, err
		}
		if err := b.over(digest); err != nil {
			return nil, err
		}
		if b.hasCertificate() || !hints[b.hint()] {
			all = append(all, part)
		}
	}
	if all = append(all, news...); len(all) > maxSigners {
		return nil, fmt.Errorf("%s: more than %d signatures", release.BundleName, maxSigners)
	}
	for _, part := range all {
		if err := part.Compact(); err != nil {
			return nil, err
		}
		out.Write(part)
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// keypair adapts a PrivateKey to sigstore-go.
type keypair struct{ k *PrivateKey }

func (p keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (p keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	if _, ok := p.k.pub.(ed25519.PublicKey); ok {
		return protocommon.PublicKeyDetails_PKIX_ED25519
	}
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (p keypair) GetHint() []byte { return []byte(p.k.id) }

func (p keypair) GetKeyAlgorithm() string {
	if _, ok := p.k.pub.(ed25519.PublicKey); ok {
		return "ED25519"
	}
	return "ECDSA"
}

func (p keypair) GetPublicKey() crypto.PublicKey { return p.k.pub }

func (p keypair) GetPublicKeyPem() (string, error) {
	pem, err := p.k.PublicPEM()
	return string(pem), err
}

// SignData returns the signature over data, and the SHA-256 of data. With Ed25519 the
// signature is over data itself (not Ed25519ph, which cosign refuses), and the digest
// only states what was signed.
func (p keypair) SignData(_ context.Context, data []byte) (sig, digest []byte, err error) {
	sig, err = p.k.signer.SignMessage(bytes.NewReader(data))
	sum := sha256.Sum256(data)
	return sig, sum[:], err
}
