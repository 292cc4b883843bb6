//go:build interop

package trust_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
	"every.channel/ec-verify/pkg/closure"
)

// aReport is a report about the release whose SHA256SUMS.txt is sums.
func aReport() *report.Report {
	digest := sha256.Sum256(sums)
	tier := report.Tier{Name: report.TierContents, Status: report.Done, Asked: true, Checked: 1}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	return &report.Report{
		Started: at, Finished: at, Configuration: "machine", Tiers: []report.Tier{tier},
		Release: &report.Release{
			Tag: "boot-v1", Sums: hex.EncodeToString(digest[:]), Manifest: hex.EncodeToString(digest[:]),
			DrvPath: closure.StorePath("/nix/store/" + strings.Repeat("d", 32) + "-s.drv"), OutPath: closure.StorePath("/nix/store/" + strings.Repeat("a", 32) + "-s"),
		},
	}
}

// TestCosignVerifiesReports hands cosign a signed report, as a statement about
// the release that the machine was compared with.
func TestCosignVerifiesReports(t *testing.T) {
	for name, c := range cosigns(t) {
		for _, kind := range []string{"ecdsa", "ed25519"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				dir := t.TempDir()
				k := newKey(t, kind)
				statement, err := attest.Encode(attest.Place{Run: strings.Repeat("ab", 16), Sequence: 1}, aReport())
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, "node.pub", pemOf(t, k))
				write(t, dir, "other.pub", pemOf(t, newKey(t, kind)))
				write(t, dir, release.SumsName, string(sums))
				write(t, dir, "other.txt", "x"+string(sums))
				write(t, dir, "report.sigstore.json", string(signStatement(t, k, statement)))
				verify := func(key, predicate, file string) error {
					args := append([]string{
						"verify-blob-attestation", "--key", key, "--type", predicate, "--insecure-ignore-tlog",
						"--bundle", "report.sigstore.json",
					}, c.verify(t, dir)...)
					return c.run(t, dir, append(args, file)...)
				}
				if err := verify("node.pub", attest.PredicateType, release.SumsName); err != nil {
					t.Errorf("refused: %v", err)
				}
				for _, bad := range [][3]string{
					{"other.pub", attest.PredicateType, release.SumsName},
					{"node.pub", "https://example.org/other", release.SumsName},
					{"node.pub", attest.PredicateType, "other.txt"},
				} {
					if err := verify(bad[0], bad[1], bad[2]); err == nil {
						t.Errorf("%q: accepted", bad)
					}
				}
			})
		}
	}
}

// TestCosignAttests reads a statement that cosign signed.
func TestCosignAttests(t *testing.T) {
	for name, c := range cosigns(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pub := c.generate(t, dir)
			write(t, dir, release.SumsName, string(sums))
			write(t, dir, "predicate.json", `{"a":1}`)
			args := append([]string{"attest-blob", "--yes", "--key", "cosign.key", "--type", "https://example.org/x", "--predicate", "predicate.json", "--bundle", "b.json"}, c.sign(t, dir)...)
			if err := c.run(t, dir, append(args, release.SumsName)...); err != nil {
				t.Fatal(err)
			}
			ring, err := trust.NewKeyring([]trust.Key{{Name: "cosign", PEM: pub}})
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, "b.json"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := ring.Open(data)
			if err != nil || !strings.Contains(string(got.Payload), "https://example.org/x") {
				t.Errorf("%s, %v", got.Payload, err)
			}
		})
	}
}
