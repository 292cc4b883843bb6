package endtoend

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/publisher/forge/forgetest"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/tests/testhost"
)

const (
	scripts  = "/opt/build/hack"
	buildTag = "boot-v2026.03.14"
	// buildFlake is the source at a builder.
	buildFlake = "/srv/source/system"
)

// buildRelease runs hack/build-release in a host: the images of testdata/flake
// stand in for those of nixpkgs.
func (m *machine) buildRelease(out string, args ...string) (stderr string, code int) {
	m.t.Helper()
	argv := append([]string{
		"env", "SOURCE_DATE_EPOCH=1790000000", "EC_VERIFY=" + program, scripts + "/build-release", "--flake", buildFlake,
	}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	_, stderr, code = m.Exec(ctx, append(argv, buildTag, out)...)
	return stderr, code
}

// startBuilder returns a host with the source of testdata/flake in the directory
// src and nothing built of it: a runner has its system.
func startBuilder(t *testing.T, src string) *machine {
	t.Helper()
	m := startWith(t, testhost.Options{Layers: []string{share(t, "bare")}})
	m.Run("mkdir", "-p", "/opt/build")
	m.Push(filepath.Join("..", "..", "..", "hack"), scripts)
	m.Push(filepath.Join("..", "..", "..", "testdata", "flake"), src)
	m.Run("sh", "-euc", `mkdir "$1/system/tools"; cp /usr/bin/busybox "$1/system/tools/busybox"
nix store add --name source "$1/library"`, "sh", src)
	return m
}

// TestPipeline takes a release from two builders to a machine: it is built twice, compared,
// signed, put on a forge and on a web server, and verified from there. Everything is real
// except nixpkgs, which testdata/flake replaces, and the forge: see
// internal/publisher/forge/forgetest.
func TestPipeline(t *testing.T) {
	t.Parallel()
	imagetest.Need(t, "nginx", "openssl")
	first := startBuilder(t, "/srv/source")
	configurations := []string{"--system", "testhost-other", "--netboot", "testhost", "--iso", "testhost"}
	if stderr, code := first.buildRelease("/root/a", append(configurations, "--fresh")...); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	t.Run("not fresh", func(t *testing.T) {
		if stderr, code := first.buildRelease("/root/again", append(configurations, "--fresh")...); code != 1 || !strings.Contains(stderr, "built on this machine before") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
	t.Run("no such configuration", func(t *testing.T) {
		if stderr, code := first.buildRelease("/root/none", "--netboot", "nothing", "--iso", ""); code != 1 || !strings.Contains(stderr, "the build failed") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})

	// Another machine: its own store, host name, time zone, number of cores, and
	// place of the source.
	second := startBuilder(t, "/srv/elsewhere")
	second.Run("hostname", "quite-another-builder")
	second.Run("sh", "-c", "find /srv/elsewhere -exec touch {} +")
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	_, stderr, code := second.Exec(ctx, append([]string{
		"env", "SOURCE_DATE_EPOCH=1790000000", "TZ=Pacific/Kiritimati", "LANG=tr_TR.UTF-8", "EC_VERIFY=" + program,
		scripts + "/build-release", "--flake", "/srv/elsewhere/system", "--cores", "1",
	}, append(configurations, "--fresh", buildTag, "/root/b")...)...)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}

	// The first one runs what it has built.
	first.MakeRunner(filepath.Join("..", "..", "..", "testdata", "flake"), "testhost")
	work := t.TempDir()
	a, b := filepath.Join(work, "a"), filepath.Join(work, "b")
	imagetest.Shell(t, work, "cp -r '"+first.Path("/root/a")+"' a; cp -r '"+second.Path("/root/b")+"' b")
	tool := filepath.Join(share(t, "bare"), program)
	gate := func(a, b string) (string, int) {
		t.Helper()
		report := filepath.Join(t.TempDir(), "report")
		cmd := exec.Command(filepath.Join("..", "..", "..", "hack", "gate"), a, b, report)
		cmd.Env = append(os.Environ(), "EC_VERIFY="+tool)
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(filepath.Join(report, "compare.txt"))
		if code := cmd.ProcessState.ExitCode(); code == 1 {
			if data, err := os.ReadFile(filepath.Join(report, "compare.json")); err != nil || !strings.Contains(string(data), `"verdict":"different"`) {
				t.Errorf("the report for programs: %s, %v", data, err)
			}
		}
		return string(text) + string(out), cmd.ProcessState.ExitCode()
	}
	t.Run("gate, equal builds", func(t *testing.T) {
		if out, code := gate(a, b); code != 0 || !strings.HasPrefix(out, "equal: ") || strings.Contains(out, "note:") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("gate, a build that differs by itself", func(t *testing.T) {
		second.Run("cp", "-r", "/srv/elsewhere", "/srv/source")
		for i, m := range []*machine{first, second} {
			if stderr, code := m.buildRelease(fmt.Sprintf("/root/u%d", i), "--system", "testhost-differing", "--netboot", "", "--iso", ""); code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
		}
		out, code := gate(first.Path("/root/u0"), second.Path("/root/u1"))
		if code != 1 || !strings.Contains(out, "-stopwatch-1/bin/stopwatch: other bytes") || !strings.Contains(out, "-stopwatch-1: other bytes") {
			t.Errorf("exit %d: %s", code, out)
		}
		for _, innocent := range []string{"program-01-1.1: ", "oddities", "firmware"} {
			if strings.Contains(out, innocent) {
				t.Errorf("it names %s:\n%s", innocent, out)
			}
		}
	})
	t.Run("gate, a byte of an image", func(t *testing.T) {
		bad := filepath.Join(t.TempDir(), "bad")
		imagetest.Shell(t, work, "cp -r b '"+bad+"'; cd '"+bad+"'; mkdir x; tar -C x -xzf testhost-"+buildTag+".tar.gz; printf X | dd of=x/kernel bs=1 seek=9 conv=notrunc status=none; tar -C x --format=gnu --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --mode=0644 -cf - initrd kernel netboot.ipxe | gzip -n -9 >testhost-"+buildTag+".tar.gz; rm -r x")
		if out, code := gate(a, bad); code != 1 || !strings.Contains(out, "  kernel: other bytes: one byte differs, at 9\n") {
			t.Errorf("exit %d: %s", code, out)
		}
	})

	// Signed, put on a forge, and fetched from there.
	imagetest.Shell(t, work, `openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ci.key
openssl pkey -in ci.key -pubout -out ci.pub; echo '`+forgetest.Token+`' >token`)
	run := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command(tool, args...)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Fatalf("%q: exit %d, want %d\n%s", args, code, want, out)
		}
		return string(out)
	}
	run(0, "release", "sign", "a", "--key", "ci.key")
	forge := &forgetest.Server{}
	repo := forge.Start(t)
	run(0, "release", "publish", "a", "--tag", buildTag, "--forge", repo, "--token-file", "token", "--key", "ci.pub")
	run(0, "release", "fetch", buildTag, "--out", "fetched", "--release", repo+"/releases/download", "--key", "ci.pub", "--state-dir", "s1")
	imagetest.Shell(t, work, "diff -r a fetched")
	t.Run("as CI does it", func(t *testing.T) {
		forge := &forgetest.Server{}
		environment := "EC_VERIFY='" + tool + "' FORGE_URL='" + forge.Start(t) + "' EC_RELEASE_TOKEN=" + forgetest.Token + ` EC_SIGNING_KEY="$(cat ci.key)" COSIGN_PASSWORD= `
		script, err := filepath.Abs(filepath.Join("..", "..", "..", "hack", "ci-publish"))
		if err != nil {
			t.Fatal(err)
		}
		imagetest.Shell(t, work, environment+`EC_SIGNING_PUBLIC_KEY="$(cat ci.pub)" '`+script+"' b")
		if _, contents, published := forge.Assets(buildTag); !published || contents[release.BundleName] == "" || contents["testhost-"+buildTag+".tar.gz"] == "" {
			t.Errorf("published: %v, %d assets", published, len(contents))
		}
		// The wrong public key is noticed here, and not by machines.
		out := imagetest.Shell(t, work, `openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out other.pub
`+environment+`EC_SIGNING_PUBLIC_KEY="$(cat other.pub)" '`+script+"' b || echo exit $?")
		if !strings.Contains(out, "wrong-key") || !strings.HasSuffix(out, "exit 3\n") || strings.Contains(out, "PRIVATE") || strings.Contains(out, forgetest.Token) {
			t.Error(out)
		}
	})

	// From nginx, a machine takes it, and refuses what was altered.
	web := serve(t, work)
	imagetest.Shell(t, work, "mkdir -p www/every/channel/releases/download; cp -r fetched www/every/channel/releases/download/"+buildTag)
	write(t, filepath.Join(work, "config.json"), fmt.Sprintf(`{"release": {"source": [%q]}, "trust": {"keys": [{"name": "ci", "file": %q}]}}`,
		web+"/every/channel/releases/download", filepath.Join(work, "ci.pub")))
	verify := func(state string) (string, int) {
		cmd := exec.Command(tool, "--against", buildTag, "--config", "config.json", "--state-dir", filepath.Join(work, state),
			"--store-root", first.Path("/"), "--configuration", "testhost", "--unsafe-skip", "eval") // this machine's nix may be too old
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := verify("s2"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	// A host has no network: in it all tiers run, from a directory.
	run(0, "release", "fetch", buildTag, "--out", "whole", "--release", web+"/every/channel/releases/download", "--key", "ci.pub", "--state-dir", "s4")
	first.Run("mkdir", "-p", releases)
	first.Push(filepath.Join(work, "whole"), releases+"/"+buildTag)
	first.Push(filepath.Join(work, "ci.pub"), "/etc/ci.pub")
	write(t, first.Path("/etc/config.json"), fmt.Sprintf(`{"release": {"source": [%q]}, "trust": {"keys": [{"name": "ci", "file": "/etc/ci.pub"}]}}`, releases))
	first.report(program, "--against", buildTag, "--config", "/etc/config.json", "--configuration", "testhost", "--output", "json").expect(t, "verified", 0)
	served := filepath.Join(work, "www/every/channel/releases/download", buildTag)
	bundle := "testhost-" + buildTag + ".tar.gz"
	fetch := []string{"release", "fetch", buildTag, "--release", web + "/every/channel/releases/download", "--key", "ci.pub", "--asset", "*.tar.gz"}
	run(0, append(fetch, "--out", "boot", "--state-dir", "s3")...)
	run(0, "images", "boot/"+bundle, "--against", buildTag, "--release", web+"/every/channel/releases/download", "--key", "ci.pub", "--state-dir", "s3")
	// A boot host stages it, and what it has staged stays. At another address it
	// would be another stage, for which the bundle is fetched again.
	stage := func(want int, tag, address, state string) {
		t.Helper()
		run(want, "netboot", "stage", tag, "--dir", "netboot", "--url", "http://"+address, "--tarball", "testhost-boot-v*.tar.gz",
			"--release", web+"/every/channel/releases/download", "--key", "ci.pub", "--state-dir", state)
		if out := run(0, "netboot", "check", "--dir", "netboot", "--key", "ci.pub"); !strings.HasPrefix(out, "release "+buildTag+" is served and intact") {
			t.Error(out)
		}
	}
	stage(0, buildTag, "10.0.0.2", "n")
	for name, script := range map[string]string{
		"a byte of the tarball": "printf X | dd of=" + bundle + " bs=1 seek=50 conv=notrunc status=none",
		"no signature":          "rm SHA256SUMS.txt.sigstore.json",
		"the tag swapped":       "cd ..; mv " + buildTag + " x; cp -r x boot-v2026.03.15; mv x " + buildTag,
		"a byte of a manifest":  "printf X | dd of=closure-testhost.json bs=1 seek=50 conv=notrunc status=none",
	} {
		t.Run(name, func(t *testing.T) {
			imagetest.Shell(t, work, "rm -rf keep; cp -r '"+served+"' keep")
			defer imagetest.Shell(t, work, "rm -rf '"+served+"'; mv keep '"+served+"'")
			imagetest.Shell(t, served, script)
			state := "t" + fmt.Sprint(len(name))
			if name == "the tag swapped" {
				run(3, "release", "fetch", "boot-v2026.03.15", "--out", "refused", "--release", web+"/every/channel/releases/download", "--key", "ci.pub", "--state-dir", state)
				stage(3, "boot-v2026.03.15", "10.0.0.2", "n"+state)
				return
			}
			stage(3, buildTag, "10.0.0.3", "n"+state)
			if name != "a byte of a manifest" {
				run(3, append(fetch, "--out", "refused", "--state-dir", state)...)
			}
			if _, err := os.Stat(filepath.Join(work, "refused")); err == nil {
				t.Error("something was put where the release was to be")
			}
			if name != "a byte of the tarball" { // a machine that is verified has no use for it
				if out, code := verify(state); code != 3 {
					t.Errorf("exit %d: %s", code, out)
				}
			}
		})
	}
}

// serve has nginx serve work/www until the test ends.
func serve(t *testing.T, work string) string {
	t.Helper()
	// At this process's own address nobody else gets the port meanwhile.
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>16, pid>>8&255, pid&255))
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	imagetest.Shell(t, work, "mkdir -p www tmp; chmod 755 . www")
	conf := fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr; user root;
events {}
http {
  access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen %s; root www; }
}`, address)
	write(t, filepath.Join(work, "nginx.conf"), conf)
	cmd := exec.Command("nginx", "-p", work, "-c", "nginx.conf", "-e", "stderr")
	var log strings.Builder
	cmd.Stderr, cmd.WaitDelay = &log, 10*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(runTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			c.Close()
			return "http://" + address
		}
	}
	t.Fatalf("nginx does not answer: %s", log.String())
	return ""
}
