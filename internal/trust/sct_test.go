package trust_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/trust"
)

// TestCertificateTransparencyIsDemanded takes a trusted root that names a
// certificate transparency log: a certificate without a proof from it is
// refused then.
func TestCertificateTransparencyIsDemanded(t *testing.T) {
	v := virtualSigstore(t)
	for _, withCT := range []bool{false, true} {
		logs := make(map[string]*root.TransparencyLog)
		if withCT {
			for id, log := range v.CTLogs() {
				logs[id] = log
			}
		}
		r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, v.FulcioCertificateAuthorities(), logs, v.TimestampingAuthorities(), nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "trusted_root.json")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		p := trust.Policy{Identities: []trust.Identity{{Name: "ci", Identity: subject, Issuer: issuer, TrustedRoot: path}}}
		_, err = newVerifier(t, p).Verify(t.Context(), sums, keyless(t, v, sums, time.Time{}, true))
		if withCT {
			wantReason(t, err, release.ReasonBadCertificate)
		} else if err != nil {
			t.Error(err)
		}
	}
}
