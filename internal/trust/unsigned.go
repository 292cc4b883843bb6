package trust

import (
	"context"

	"every.channel/ec-verify/internal/release"
)

// UnsafeUnsigned returns a verifier that believes any release without a look
// at its signature, whether it has one or not. The release says so
// (release.Release.Unsigned), and so does every report made with it.
func UnsafeUnsigned() release.Verifier { return unsigned{} }

type unsigned struct{}

func (unsigned) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.Unsigned}, nil
}
