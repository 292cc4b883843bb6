package trust

import (
	"context"

	"every.channel/ec-verify/internal/release"
)

// UnsafeUnsigned returns a verifier that accepts any release without checking its
// signature, if there is one. The release is marked (release.Release.Unsigned), and
// so is every report made with it.
func UnsafeUnsigned() release.Verifier { return unsigned{} }

type unsigned struct{}

func (unsigned) Verify(context.Context, []byte, []byte) (release.Signer, error) {
	return release.Signer{Kind: release.Unsigned}, nil
}
