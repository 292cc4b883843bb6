package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strconv"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"every.channel/ec-verify/pkg/excerpt"
)

// maxFile limits the size of the files that a policy names: a trusted root has 10 kB.
const maxFile = 4 << 20

// checkSingle returns an error if data contains several PEM blocks; name describes a
// block.
func checkSingle(data []byte, name func(*pem.Block) string) error {
	var names []string
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		names = append(names, name(block))
	}
	if n := bytes.Count(data, []byte("-----BEGIN ")); n > len(names) {
		names = append(names, fmt.Sprintf("%d that cannot be read", n-len(names)))
	}
	if len(names) < 2 {
		return nil
	}
	return fmt.Errorf("several blocks of PEM, of which the first alone would be read: %s; want one key in each file, under a name of its own", excerpt.List(names, ", ", maxSigners))
}

// publicName returns the ID of the public key in a block, as used in bundles.
func publicName(block *pem.Block) string {
	if pub, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		if id, err := keyID(pub); err == nil {
			return "key " + id
		}
	}
	return blockType(block)
}

func blockType(block *pem.Block) string { return strconv.Quote(clip(block.Type)) }

// noKeyError means that there is no public key. Its text leaves out err, which is in
// a library's words; unwrap it to see err.
type noKeyError struct{ err error }

func (*noKeyError) Error() string {
	return "no public key in PEM; want the file that begins with -----BEGIN PUBLIC KEY-----"
}

func (e *noKeyError) Unwrap() error { return e.err }

// parsePublicKey parses the single public key in PEM.
func parsePublicKey(pem []byte) (crypto.PublicKey, error) {
	if err := checkSingle(pem, publicName); err != nil {
		return nil, err
	}
	pub, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return nil, &noKeyError{err}
	}
	if err := checkKind(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// checkKind accepts only the kinds of keys that this program and cosign can both use:
// cosign fails on P-384 and panics on some others.
func checkKind(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("an ECDSA key on %s; want P-256", pub.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a key of type %T; want ECDSA P-256 or Ed25519", pub)
}

// ID returns the ID of the key in bundles, as [PrivateKey.ID] does of the one that
// belongs to it.
func (k Key) ID() (string, error) {
	loaded, err := loadKey(k)
	if err != nil {
		return "", err
	}
	return loaded.id, nil
}

// keyID returns the ID of pub in bundles: cosign's hint.
func keyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}
