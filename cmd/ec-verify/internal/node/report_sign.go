package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/attest"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/internal/trust"
)

// reportCredential is the systemd credential with the key that signs reports.
const reportCredential = "ec-verify-report-key"

// signReport writes the signed form of r if there is a key for it. A failure changes no
// verdict; it is a notice in r, so that it is not silent.
func (a *app) signReport(ctx context.Context, c config.Config, r *report.Report, nonce string) {
	log := a.Logger()
	name, err := signedReport(context.WithoutCancel(ctx), c, r, nonce)
	if err != nil {
		r.Findings = append(r.Findings, report.Finding{Tier: report.TierRelease, Cause: report.NotSigned, Detail: err.Error()})
		r.Sort()
		log.Warn().Err(err).Msg("the report is not signed")
		return
	}
	if name != "" {
		log.Info().Str("file", name).Msg("the report is signed")
	}
}

// signedReport returns the file of the signed report, "" if there is no key and never was
// one.
func signedReport(ctx context.Context, c config.Config, r *report.Report, nonce string) (string, error) {
	dir := attest.Dir{Path: c.ReportDir(), Keep: c.Report.Keep}
	key, err := reportKey(c)
	switch {
	case err != nil:
		return "", err
	case key == nil && nonce != "":
		return "", errors.New("a nonce was given, and there is no key to sign with")
	case key == nil && dir.Empty():
		return "", nil
	case key == nil:
		return "", fmt.Errorf("there is no key (credential %s, report.keyFile), but earlier reports in %s are signed", reportCredential, dir.Path)
	}
	signer, err := newReportSigner(key)
	if err != nil {
		return "", err
	}
	return dir.Append(ctx, r, nonce, signer)
}

// reportSigner implements [attest.Signer].
type reportSigner struct {
	key  *trust.PrivateKey
	ring *trust.Keyring
}

func newReportSigner(key *trust.PrivateKey) (*reportSigner, error) {
	pem, err := key.PublicPEM()
	if err != nil {
		return nil, err
	}
	ring, err := trust.NewKeyring([]trust.Key{{Name: "own", PEM: string(pem)}})
	if err != nil {
		return nil, err
	}
	return &reportSigner{key, ring}, nil
}

func (s *reportSigner) Sign(ctx context.Context, statement []byte) ([]byte, error) {
	return trust.SignStatement(ctx, s.key, statement)
}

func (s *reportSigner) Signed(bundle []byte) bool {
	_, err := s.ring.Open(bundle)
	return err == nil
}

// reportKey returns the key that reports are signed with, nil for none.
func reportKey(c config.Config) (*trust.PrivateKey, error) {
	name := c.Report.KeyFile
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		credential := filepath.Join(dir, reportCredential)
		if _, err := os.Lstat(credential); !errors.Is(err, fs.ErrNotExist) {
			name = credential
		}
	}
	if name == "" {
		return nil, nil
	}
	pem, err := hostfile.ReadSmall(name, 64<<10)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	key, err := trust.ParsePrivateKey(pem, nil)
	if errors.Is(err, trust.ErrPassword) {
		return nil, fmt.Errorf("%s: the key is encrypted; give it as a credential that systemd decrypts", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
