package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// A statement is an in-toto statement: a claim about something identified by its
// digest. Its signature is a DSSE envelope
// (https://github.com/secure-systems-lab/dsse) within a sigstore bundle, as cosign
// attest-blob writes and verify-blob-attestation reads it.

// statementType is the payload type of the envelope.
const statementType = "application/vnd.in-toto+json"

// MaxStatementBundle is the size limit of a bundle with a statement, in bytes.
const MaxStatementBundle = 12 << 20

// SignStatement returns a bundle with statement, signed by k, in one line. The bundle
// was verified.
func SignStatement(ctx context.Context, k *PrivateKey, statement []byte) ([]byte, error) {
	out, err := signBundle(ctx, k, &sign.DSSEData{Data: statement, PayloadType: statementType})
	if err != nil {
		return nil, fmt.Errorf("sign a statement: %w", err)
	}
	if len(out) > MaxStatementBundle {
		return nil, fmt.Errorf("sign a statement: its bundle has %d bytes, at most %d are allowed", len(out), MaxStatementBundle)
	}
	pem, err := k.PublicPEM()
	if err != nil {
		return nil, fmt.Errorf("sign a statement: %w", err)
	}
	own, err := NewKeyring([]Key{{Name: "own", PEM: string(pem)}})
	if err != nil {
		return nil, fmt.Errorf("sign a statement: %w", err)
	}
	if _, err := own.Open(out); err != nil {
		return nil, fmt.Errorf("sign a statement: the new signature does not verify: %w", err)
	}
	return out, nil
}

// StatementError is the reason why a bundle with a statement is not trusted.
type StatementError struct{ Detail string }

func (e *StatementError) Error() string { return e.Detail }

func refuse(format string, args ...any) error { return &StatementError{fmt.Sprintf(format, args...)} }

// Keyring has the keys whose statements are trusted. Its keys have no validity
// periods, because a signature does not state when it was made.
type Keyring struct{ keys []*trustedKey }

// NewKeyring loads the keys: between 1 and 1,024, all different.
func NewKeyring(keys []Key) (*Keyring, error) {
	const most = 1024
	if len(keys) == 0 || len(keys) > most {
		return nil, fmt.Errorf("%d keys, want 1 to %d", len(keys), most)
	}
	names, ids := make(map[string]bool), make(map[string]string)
	ring := new(Keyring)
	for _, k := range keys {
		if err := k.validate(names); err != nil {
			return nil, err
		}
		loaded, err := loadKey(k)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.Name, err)
		}
		if other, ok := ids[loaded.id]; ok {
			return nil, fmt.Errorf("key %q is the same key as %q", k.Name, other)
		}
		ids[loaded.id] = k.Name
		ring.keys = append(ring.keys, loaded)
	}
	return ring, nil
}

// Statement is a statement signed by a key of a [Keyring].
type Statement struct {
	Payload []byte // the statement as signed
	KeyName string // the key's name in the keyring
	KeyID   string
}

// Open returns the statement in a bundle. If the bundle is malformed or not signed by
// a key of the ring, the error is a [*StatementError].
func (r *Keyring) Open(data []byte) (Statement, error) {
	b, err := parseStatementBundle(data)
	if err != nil {
		return Statement{}, err
	}
	hint, known := b.VerificationMaterial.GetPublicKey().GetHint(), false
	for _, k := range r.keys {
		if hint != "" && hint != k.id {
			continue
		}
		known = true
		if k.verifyStatement(b) == nil {
			return Statement{Payload: b.GetDsseEnvelope().GetPayload(), KeyName: k.Name, KeyID: k.id}, nil
		}
	}
	if known && hint != "" {
		return Statement{}, refuse("the signature was not made with the key that it names (%q)", clip(hint))
	}
	return Statement{}, refuse("signed by another key (%q) than those given", clip(hint))
}

func parseStatementBundle(data []byte) (*bundle.Bundle, error) {
	if len(data) > MaxStatementBundle {
		return nil, refuse("it has %d bytes, at most %d are allowed", len(data), MaxStatementBundle)
	}
	// This decoder refuses duplicate members; the next one does not.
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if v, err := dec.ReadValue(); err != nil || v.Kind() != '{' {
		return nil, refuse("it is no JSON object, or cut short")
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, refuse("there is data after the bundle")
	}
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(data); err != nil {
		return nil, refuse("it is no sigstore bundle: %q", clip(err.Error()))
	}
	env := b.GetDsseEnvelope()
	switch {
	case env == nil:
		return nil, refuse("it is a bundle without a statement")
	case env.GetPayloadType() != statementType:
		return nil, refuse("its payload is of type %q, not %s", clip(env.GetPayloadType()), statementType)
	case len(env.GetSignatures()) != 1:
		return nil, refuse("it has %d signatures, want one", len(env.GetSignatures()))
	case b.VerificationMaterial.GetPublicKey() == nil:
		return nil, refuse("it is not signed with a key")
	}
	return b, nil
}

func (k *trustedKey) verifyStatement(b *bundle.Bundle) error {
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(k.verifier, time.Time{}, time.Time{}), nil
	})
	sv, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps(), verify.WithoutStatementPredicate())
	if err != nil {
		return err
	}
	// The caller judges what the statement is about.
	_, err = sv.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithKey()))
	return err
}
