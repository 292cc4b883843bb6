package release_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
)

// certificate returns one for 127.0.0.1 with that validity, and a pool that
// trusts it.
func certificate(t *testing.T, from, to time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestServerCertificate: a certificate that does not hold is not asked for
// twice, and one that is out of its time names the clock.
func TestServerCertificate(t *testing.T) {
	dir := t.TempDir()
	signed(t, dir, releasetest.Spec{})
	now := time.Now()
	good, goodPool := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldPool := certificate(t, now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0))
	early, earlyPool := certificate(t, now.AddDate(1, 0, 0), now.AddDate(2, 0, 0))
	for _, c := range []struct {
		name string
		cert tls.Certificate
		pool *x509.CertPool
		line string // "" where it is fine
	}{
		{"good", good, goodPool, ""},
		{"unknown authority", good, oldPool, "unknown authority"},
		{"expired", old, oldPool, "this machine's clock says"},
		{"not yet valid", early, earlyPool, "this machine's clock says"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.StripPrefix(strings.TrimSuffix(download, "/"), http.FileServer(http.Dir(dir))))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{c.cert}}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pool}}
			defer transport.CloseIdleConnections()
			connections := 0
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				connections++
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			_, err := release.Open(t.Context(), source(t, s, release.WithTransport(transport)), releasetest.Tag, believing{}, at(releasetest.Now))
			if c.line == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, "unavailable", c.line)
			if connections != 1 {
				t.Errorf("it was tried %d times", connections)
			}
		})
	}
}

// recorded answers every request with an empty list and keeps it.
type recorded struct{ requests []*http.Request }

func (r *recorded) RoundTrip(req *http.Request) (*http.Response, error) {
	r.requests = append(r.requests, req)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("[]")), Request: req}, nil
}

// TestGitHubList: GitHub has its list of releases on a host of its own, which
// is trusted with the token; no other is.
func TestGitHubList(t *testing.T) {
	for base, want := range map[string]string{
		"https://github.com/owner/repo":         "https://api.github.com/repos/owner/repo/releases?page=1&per_page=50",
		"https://forge.example.org/owner/repo":  "https://forge.example.org/api/v1/repos/owner/repo/releases?limit=50&page=1",
		"https://github.com.example.org/o/repo": "https://github.com.example.org/api/v1/repos/o/repo/releases?limit=50&page=1",
	} {
		var r recorded
		src, err := release.NewSource(base+"/releases/download", release.WithTransport(&r), release.WithToken("s3cret"))
		if err != nil {
			t.Fatal(err)
		}
		if tags, err := src.(release.Lister).Tags(t.Context()); err != nil || len(tags) != 0 {
			t.Errorf("%v, %v", tags, err)
		}
		if len(r.requests) != 1 || r.requests[0].URL.String() != want || r.requests[0].Header.Get("Authorization") != "token s3cret" {
			t.Errorf("%s: asked for %v", base, r.requests)
		}
	}
}
