package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"every.channel/ec-verify/cmd/ec-verify/internal/configured"
	"every.channel/ec-verify/cmd/ec-verify/internal/terminal"
	"every.channel/ec-verify/internal/node/config"
	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/release/releasetest"
	"every.channel/ec-verify/internal/trust"
)

// TestPublishInterrupted ends release publish at 50 moments drawn by lot, with the tag
// pushed at another one, where the release is new and where it replaces one. After each
// change machines look: what they find is the old release, or the whole new one, or
// under its name none. Then the same command completes it.
func TestPublishInterrupted(t *testing.T) {
	key, public := keyPair(t, nil)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(forgetest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func(tag string, age time.Duration) (dir, sums string, files map[string][]byte) {
		dir = filepath.Join(t.TempDir(), tag)
		releasetest.Write(t, dir, releasetest.Spec{Tag: release.Tag(tag), Created: fresh().Add(-age), ImageSize: 20_000 + int(age/time.Minute)})
		if code, _, errs := command(t, "release", "sign", dir, "--key", key); code != 0 {
			t.Fatal(errs)
		}
		files = map[string][]byte{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files[e.Name()] = releasetest.Read(t, dir, e.Name())
		}
		return dir, string(files[release.SumsName]), files
	}
	_, oldSums, old := make("boot-v1", 3*time.Hour)
	_, formerSums, former := make("boot-v2", 2*time.Hour)
	dir, nextSums, _ := make("boot-v2", time.Hour)
	verifier, err := configured.Verifier(config.Config{Trust: trust.Policy{Keys: []trust.Key{{Name: "ci", File: public}}}})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(50) {
		lot := rand.New(rand.NewPCG(seed, 13))
		s := &forgetest.Server{}
		repo := s.Start(t)
		s.Put("boot-v1", false, old)
		replaces := seed%2 == 1
		want := map[string]bool{oldSums: true, nextSums: true}
		if replaces {
			s.Put("boot-v2", false, former)
			s.Push("boot-v2", releasetest.Commit)
			want = map[string]bool{formerSums: true, oldSums: true, nextSums: true}
		}
		source, err := release.NewSource(repo + "/releases/download")
		if err != nil {
			t.Fatal(err)
		}
		finder := &release.Finder{Sources: []release.Source{source}, Verifier: verifier}
		var looks atomic.Int32
		look := func() {
			for _, tag := range []release.Tag{release.Latest, "boot-v2"} {
				r, err := finder.Find(t.Context(), tag)
				if err == nil {
					err = r.CheckAssets(t.Context(), nil)
				}
				switch {
				case tag != release.Latest && errors.Is(err, release.ErrNotFound):
				case err != nil:
					t.Errorf("seed %d: %s: %v", seed, tag, err)
				default:
					sums := r.Sums()
					if !want[string(sums.Encode())] {
						t.Errorf("seed %d: %s is neither of them", seed, tag)
					}
				}
			}
			looks.Add(1)
		}
		const requests = 35
		end, push, after := lot.IntN(requests)+1, lot.IntN(requests)+1, lot.IntN(2) == 1
		ctx, cancel := context.WithCancel(t.Context())
		n, ended := 0, false
		s.Fail = func(r *http.Request) int {
			if r.Header.Get("Authorization") == "" {
				return 0 // of a machine
			}
			n++
			if n == push {
				s.Push("boot-v2", releasetest.Commit)
				look()
			}
			if ended || n < end {
				return 0
			}
			ended = true
			cancel()
			if after {
				return -http.StatusBadGateway
			}
			return http.StatusBadGateway
		}
		s.OnChange = func(*forgetest.Server) { look() }
		args := []string{"release", "publish", dir, "--tag", "boot-v2", "--forge", repo, "--token-file", token, "--key", public, "--state-dir", t.TempDir(), "--replace"}
		var out, errs bytes.Buffer
		a := terminal.New(&out, &errs)
		cmd := newRootCommand(a)
		cmd.SetArgs(args)
		code := a.ExitCode(ctx, cmd.ExecuteContext(ctx))
		cancel()
		s.Settle()
		if code == 0 && ended || code == terminal.ExitUntrusted {
			t.Errorf("seed %d: exit %d: %s", seed, code, errs.String())
		}
		look()
		if code, _, errs := command(t, args...); code != 0 {
			t.Errorf("seed %d: the same command: exit %d: %s", seed, code, errs)
		}
		want = map[string]bool{nextSums: true}
		look()
		if _, contents, published := s.Assets("boot-v2"); !published || len(contents) != len(former) {
			t.Errorf("seed %d: published: %v, with %d assets", seed, published, len(contents))
		}
		if looks.Load() < 3 {
			t.Errorf("seed %d: machines have looked %d times", seed, looks.Load())
		}
	}
}
