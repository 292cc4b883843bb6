package endtoend

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/testhost"
	"every.channel/ec-verify/pkg/closure"
)

const rebuildDir = "/var/lib/ec-verify/rebuild"

// startCases returns a runner of testdata/rebuild with its release, in which
// alter may change the manifest.
func startCases(t *testing.T, configuration string, alter func(m *machine)) *machine {
	t.Helper()
	m := startWith(t, testhost.Options{Flake: "../../../testdata/rebuild", Configuration: configuration, Layers: []string{share(t, "bare")}})
	out := releases + "/" + tag
	m.Run("env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create", "/etc/every-channel/flake#"+configuration,
		"--out", out, "--tag", tag, "--best-before", "87600h")
	file := out + "/closure-" + configuration + ".json"
	m.manifest = m.readManifest(m.Path(file))
	if alter != nil {
		alter(m)
		data, err := m.manifest.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path(file), data, 0o644); err != nil {
			t.Fatal(err)
		}
		m.Run("sh", "-euc", `cd "$1"; rm SHA256SUMS.txt; sha256sum * >/tmp/sums; sort -k2 /tmp/sums >SHA256SUMS.txt`, "sh", out)
	}
	return m
}

// drv returns the base name of the derivation of the path called name.
func (m *machine) drv(name string) string {
	m.t.Helper()
	return filepath.Base(string(m.manifest.Closure()[closure.StorePath(m.path(name))].Deriver))
}

// configure writes the configuration file.
func (m *machine) configure(text string) {
	m.t.Helper()
	m.Run("sh", "-euc", `mkdir -p /etc/ec-verify; printf %s "$1" >/etc/ec-verify/config.json`, "sh", text)
}

// notices returns the notices of the rebuild tier, like answer.causes.
func (a answer) notices() []string {
	var out []string
	for _, f := range a.Findings {
		if f.Class == "notice" && f.Tier == "rebuild" {
			out = append(out, f.String())
		}
	}
	slices.Sort(out)
	return out
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	m := startCases(t, "cases", func(m *machine) {
		for _, name := range []string{"clock-listed", "part-07"} {
			m.manifest.Unreproducible = append(m.manifest.Unreproducible, closure.Unreproducible{
				DrvPath: m.manifest.Closure()[closure.StorePath(m.path(name))].Deriver, Outputs: []string{"out"}, Reason: "it is known to",
			})
		}
	})
	m.configure(`{"rebuild": {"buildTimeout": "25s", "scratchSize": 209715200}}`)
	m.Run("sh", "-euc", `
		nix() { command nix --extra-experimental-features nix-command "$@"; }
		nix key generate-secret --key-name test >/root/key
		nix copy --no-check-sigs --to "file:///srv/cache?secret-key=/root/key" /nix/store/*-seed
		echo "trusted-public-keys = $(nix key convert-secret-to-public </root/key)" >>/etc/nix/nix.conf
		nix-store --delete /nix/store/*-seed`)
	before := m.NixState()
	a := m.verify("--rebuild", "all")
	if m.NixState() != before {
		t.Error("rebuilding wrote to the machine's store or database")
	}
	seed := ""
	for _, f := range a.Findings {
		if f.Cause == "build-input-missing" {
			seed = f.Path
		}
	}
	if !strings.HasSuffix(seed, "-seed") {
		t.Errorf("the missing input is said to be %q", seed)
	}
	a.expect(t, "drifted", 1,
		"unreproducible "+m.path("clock-new")+" uuid:content",
		"unreproducible "+m.path("pair-second")+" :content",
		"unreproducible "+m.path("triple-dev")+" :content",
		"unreproducible "+m.path("triple-doc")+" :content",
		"build-failed "+m.drv("fails"),
		"build-timed-out "+m.drv("endless"),
		"rebuild-no-room "+m.drv("filler"),
		"build-input-missing "+seed,
	)
	if got, want := a.notices(), []string{"reproduces-though-listed " + m.drv("part-07"), "unreproducible-listed " + base(m, "clock-listed")}; !slices.Equal(got, want) {
		t.Errorf("notices: got %q, want %q", got, want)
	}
	for _, f := range a.Findings {
		if f.Cause == "not-rebuilt" && (f.ConsequenceOf != "build-input-missing" || f.String() != "not-rebuilt "+m.drv("grown")) {
			t.Errorf("what follows from the missing input: %+v", f)
		}
	}
	t.Run("explained", func(t *testing.T) {
		for _, c := range []struct {
			name string
			code int
			says string
		}{
			// On the disk is the release's, and what a rebuild makes is otherwise.
			{"clock-new", 0, "looks like a random id"},
			{"fails", 4, "was not built (failed)"},
			{"grown", 4, "was not built, because its input " + seed},
		} {
			ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
			stdout, stderr, code := m.Exec(ctx, program, "explain", m.path(c.name), "--rebuild", "--against", tag, "--release", releases, "--unsafe-unsigned")
			cancel()
			if code != c.code || !strings.Contains(stdout+stderr, c.says) || (code == 0) != strings.Contains(stdout, "What differs in the original: 1 file") {
				t.Errorf("%s: exit %d\n%s%s", c.name, code, stdout, stderr)
			}
		}
		if m.NixState() != before {
			t.Error("explaining wrote to the machine's store or database")
		}
	})
	if files := m.Run("find", rebuildDir, "-mindepth", "1"); files != "" {
		t.Errorf("left behind: %s", files)
	}
	t.Run("the missing input is fetched", func(t *testing.T) {
		m.configure(`{"rebuild": {"firstParty": ["grown"], "substitute": ["file:///srv/cache"]}}`)
		before := m.NixState()
		a := m.verify("--rebuild", "first-party")
		a.expect(t, "verified", 0)
		if m.NixState() != before {
			t.Error("fetching wrote to the machine's store or database")
		}
		if got, want := a.notices(), []string{"build-input-fetched " + filepath.Base(seed)}; !slices.Equal(got, want) {
			t.Errorf("notices: got %q, want %q", got, want)
		}
		for _, f := range a.Findings {
			if f.Cause == "build-input-fetched" && !strings.HasPrefix(f.Detail, "1 in all; what 1 of them") {
				t.Errorf("the detail: %q", f.Detail)
			}
		}
	})
}

// What the database claims, and what the outputs are worth that Nix compares,
// is where Nix's own check is blind. Each case passes it.
func TestRebuildWhereNixIsBlind(t *testing.T) {
	t.Parallel()
	m := startCases(t, "parts", nil)
	m.configure(`{"rebuild": {"firstParty": ["part-03", "part-04"]}}`)
	rebuilt := func(t *testing.T, verdict string, code int, causes ...string) answer {
		t.Helper()
		a := m.verify("--rebuild", "first-party")
		a.expect(t, verdict, code, causes...)
		return a
	}
	// nixCheck holds Nix to being blind; with that gone, the case says nothing.
	nixCheck := func(t *testing.T, installable string) {
		t.Helper()
		if out := m.Run("sh", "-c", `nix build --no-link --rebuild --option substituters "" "$1" 2>&1 && echo passed`, "sh", installable); !strings.HasSuffix(out, "passed") {
			t.Fatalf("nix build --rebuild %s noticed: %s", installable, out)
		}
	}
	part, file := m.path("part-03"), m.path("part-03")+"/03"
	drv := "/nix/store/" + m.drv("part-03")

	t.Run("nothing", func(t *testing.T) {
		a := rebuilt(t, "verified", 0)
		if status, checked := a.tier("rebuild"); status != "done" || checked != 2 {
			t.Errorf("the rebuild tier is %s, with %d derivations", status, checked)
		}
	})
	t.Run("the disk was altered", func(t *testing.T) {
		m.FlipByte(file, 3)
		defer m.FlipByte(file, 3)
		nixCheck(t, drv+"^*")
		// It is what part-04 is built from: no build is to blame.
		a := rebuilt(t, "drifted", 1, "disk-altered "+part+" 03:content")
		for _, f := range a.Findings {
			if f.Cause == "build-input-bad" && (f.Path != part || f.ConsequenceOf != "disk-altered") {
				t.Errorf("the bad input: %+v", f)
			}
		}
	})
	t.Run("the disk was altered and the database made to match", func(t *testing.T) {
		m.FlipByte(file, 3)
		claimed := m.SQL("select hash from ValidPaths where path='" + part + "'")
		m.rehash(part)
		rebuilt(t, "drifted", 1, "cover-up "+part+" 03:content")
		// Nix believes the database: it calls the honest rebuild a fault.
		m.FlipByte(file, 3)
		m.SQL("update ValidPaths set hash='" + strings.TrimSpace(claimed) + "' where path='" + part + "'")
		rebuilt(t, "verified", 0)
	})
	t.Run("a way of naming it that builds nothing", func(t *testing.T) {
		nixCheck(t, part)
		nixCheck(t, drv)
	})
	t.Run("nothing is chosen", func(t *testing.T) {
		m.configure(`{"rebuild": {"firstParty": ["no-such-*"]}}`)
		a := m.verify("--rebuild", "first-party")
		a.expect(t, "inconclusive", 4, "rebuild-chose-nothing")
	})
	t.Run("no time", func(t *testing.T) {
		a := m.verify("--rebuild", "all", "--budget", "1ns")
		if a.code != 4 || len(a.causes()) != 1 {
			t.Errorf("exit %d, findings %q", a.code, a.causes())
		}
	})
	t.Run("the cheap ones", func(t *testing.T) {
		a := m.verify("--rebuild", "config")
		a.expect(t, "verified", 0)
		if _, checked := a.tier("rebuild"); checked != 2 {
			t.Errorf("%d derivations, want etc and the toplevel", checked)
		}
	})
	t.Run("an interruption", func(t *testing.T) {
		// While something is built.
		m.Run("bash", "-c", `
			for try in 1 2 3 4 5 6 7 8 9 10; do # until one does not come to its end before
				"$0" "$@" >/tmp/report & until pgrep -u nixbld1 || ! kill -0 $!; do :; done
				kill -TERM $!; wait $!; [ $? != 143 ] || exit 0
			done; exit 1`, program, "--against", tag, "--release", releases,
			"--unsafe-unsigned", "--output", "json", "--rebuild", "all")
		m.until("nothing is left", `! pgrep -u nixbld1 && ! grep -q rebuild /proc/*/mountinfo && [ -z "$(find `+rebuildDir+` -mindepth 1)" ]`)
	})
}

// nixPasses holds Nix to being blind: a case that its own check notices says
// nothing.
func (m *machine) nixPasses(t *testing.T, installable string, more ...string) {
	t.Helper()
	argv := append([]string{"sh", "-c", `nix build --no-link --rebuild --option substituters "" "$@" 2>&1 && echo passed`, "sh", installable}, more...)
	if out := m.Run(argv...); !strings.HasSuffix(out, "passed") {
		t.Fatalf("nix build --rebuild %s noticed: %s", installable, out)
	}
}

// What Nix's own check passes for what it does not look at, or for what is
// around the build.
func TestRebuildWhereNixPasses(t *testing.T) {
	t.Parallel()
	m := startCases(t, "blind", nil)
	rebuilt := func(names string, causes ...string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			m.configure(`{"rebuild": {"firstParty": ["` + names + `"]}}`)
			a := m.verify("--rebuild", "first-party")
			a.expect(t, "drifted", 1, causes...)
		}
	}
	drv := func(name string) string { return "/nix/store/" + m.drv(name) }

	t.Run("without a sandbox", func(t *testing.T) {
		// The builder finds what it found the first time, as long as it is there.
		m.nixPasses(t, drv("peek")+"^*", "--option", "sandbox", "false")
		rebuilt("peek", "unreproducible "+m.path("peek")+" :content")(t)
	})
	t.Run("a download", func(t *testing.T) {
		m.Run("sh", "-euc", `mkdir /srv/www; seq 1 1000 >/srv/www/numbers
			tools=$(echo /nix/store/*-tools/busybox); systemd-run --quiet --unit=numbers -p StandardError=append:/srv/asked $tools httpd -f -v -p 127.0.0.1:8123 -h /srv/www
			for i in $(seq 3000); do ! $tools wget -q -O /dev/null http://127.0.0.1:8123/numbers || exit 0; sleep 0.1; done; exit 1`)
		asked := func() string { return m.Run("wc", "-l", "/srv/asked") }
		file := m.path("download")
		m.FlipByte(file, 10)
		defer m.FlipByte(file, 10)
		// The bytes come from the network, even offline, and the disk is not looked at.
		before := asked()
		m.nixPasses(t, drv("download")+"^*", "--offline")
		after := asked()
		if before == after {
			t.Error("nix did not ask the server, so that the case says nothing")
		}
		rebuilt("download", "disk-altered "+file+" :content")(t)
		if asked() != after {
			t.Error("a rebuild asked the server")
		}
	})
	t.Run("an output was collected", func(t *testing.T) {
		second := m.path("pair-second")
		m.SQL("delete from Refs where reference = (select id from ValidPaths where path = '" + second + "') or referrer = (select id from ValidPaths where path = '" + second + "'); delete from ValidPaths where path = '" + second + "'")
		m.Remove(second)
		m.nixPasses(t, drv("pair")+"^out")
		m.Remove(second) // which nix built, and left without a word
		toplevel := m.path("nixos-system-blind-1")
		rebuilt("pair", "missing "+second, "unreproducible "+second, "database-altered "+toplevel+" references")(t)
	})
	t.Run("a floating output", func(t *testing.T) {
		m.Run("sh", "-euc", `cp -r "$1" /root/floating; chmod u+w /root/floating; >/root/floating/floating
			echo "extra-experimental-features = ca-derivations" >>/etc/nix/nix.conf; systemctl restart nix-daemon.service
			nix build --no-link path:/root/floating#nixosConfigurations.floating.config.system.build.toplevel`, "sh", m.Runner().Source)
		floating := m.Run("sh", "-c", "echo /nix/store/*-floating.drv")
		m.nixPasses(t, floating+"^*")
		// No release can be made of it, so that none can be verified.
		_, stderr, code := m.Exec(t.Context(), program, "manifest", "create", "/root/floating#floating", "--out", releases+"/floating", "--tag", "boot-floating")
		if code == 0 || !strings.Contains(stderr, "is not known before the build") {
			t.Errorf("exit %d: %s", code, stderr)
		}
	})
}

// The publisher's second build finds unreproducible outputs, and a machine with that release
// raises no alarm about them.
func TestRebuildWherePublished(t *testing.T) {
	t.Parallel()
	m := startCases(t, "cases", nil)
	m.configure(`{"rebuild": {"buildTimeout": "1m", "firstParty": ["clock-*", "pair", "triple", "part-0*"]}}`)
	create := func(out string, more ...string) (stdout, stderr string, code int) {
		argv := append([]string{"env", "SOURCE_DATE_EPOCH=1790000000", program, "manifest", "create",
			"/etc/every-channel/flake#cases", "--out", out, "--tag", tag, "--best-before", "87600h"}, more...)
		return m.Exec(t.Context(), argv...)
	}
	out := releases + "/listed"
	// Making a release registers sources and roots; a second build adds nothing.
	const registered = "select path, hash, deriver, narSize, ultimate, sigs from ValidPaths order by path"
	before := m.SQL(registered)
	stdout, stderr, code := create(out, "--rebuild", "first-party")
	if code != 0 || !strings.Contains(stdout, "built a second time: 14 derivations; 4 are listed") {
		t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	if m.SQL(registered) != before {
		t.Error("the second build wrote to the builder's database")
	}
	manifest := m.readManifest(m.Path(out + "/closure-cases.json"))
	var listed []string
	for _, u := range manifest.Unreproducible {
		listed = append(listed, strings.TrimSuffix(u.DrvPath.Name(), ".drv")+" "+strings.Join(u.Outputs, ",")+": "+u.Reason)
	}
	slices.Sort(listed)
	want := []string{
		`clock-listed out: two builds of it differ in "out/"`,
		`clock-new out: two builds of it differ in "out/uuid"`,
		`pair second: two builds of it differ in "second/"`,
		`triple dev,doc: two builds of it differ in "dev/", "doc/"`,
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed: got %q, want %q", listed, want)
	}
	m.Run("sh", "-euc", `rm -r "$1"; mv "$2" "$1"`, "sh", releases+"/"+tag, out)
	m.verify("--rebuild", "first-party").expect(t, "verified", 0)

	t.Run("the list shrinks", func(t *testing.T) {
		for i := range manifest.Paths {
			if manifest.Paths[i].Path.Name() == "part-03" {
				manifest.Unreproducible = append(manifest.Unreproducible, closure.Unreproducible{
					DrvPath: manifest.Paths[i].Deriver, Outputs: []string{"out"}, Reason: "once",
				})
			}
		}
		data, err := manifest.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path("/root/previous.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := create(releases+"/shorter", "--rebuild", "first-party", "--previous", "/root/previous.json")
		if code != 0 || !strings.Contains(stdout, "reproducible now, and not listed any more: part-03\n") {
			t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
		}
		// Without a rebuild, the list goes on as it is.
		if stdout, stderr, code := create(releases+"/same", "--previous", "/root/previous.json"); code != 0 {
			t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
		}
		if got := m.readManifest(m.Path(releases + "/same/closure-cases.json")); len(got.Unreproducible) != 5 {
			t.Errorf("%d derivations are listed, want 5", len(got.Unreproducible))
		}
	})
	t.Run("a release of another tag lies there", func(t *testing.T) {
		sums := m.Run("cat", releases+"/same/SHA256SUMS.txt")
		_, stderr, code := create(releases+"/same", "--tag", "boot-v2026.03.31")
		if code == 0 || !strings.Contains(stderr, "choose another --out") {
			t.Errorf("exit %d\n%s", code, stderr)
		}
		if m.Run("cat", releases+"/same/SHA256SUMS.txt") != sums {
			t.Error("the release that was there is none any more")
		}
	})
	t.Run("one cannot be built again", func(t *testing.T) {
		m.configure(`{"rebuild": {"firstParty": ["fails", "part-00"]}}`)
		_, stderr, code := create(releases+"/none", "--rebuild", "first-party")
		if code == 0 || !strings.Contains(stderr, "fails.drv: failed") {
			t.Errorf("exit %d\n%s", code, stderr)
		}
		if left := m.Run("ls", releases+"/none"); left != "" {
			t.Errorf("written nevertheless: %s", left)
		}
	})
}

// If a system differs in one attribute, that attribute is the explanation.
func TestEvaluationExplained(t *testing.T) {
	t.Parallel()
	m := startReleased(t)
	a := m.verify()
	a.expect(t, "verified", 0)
	source := m.Runner().Source
	m.edit(source+"/packages.nix", `sed -i 's/echo latin/echo other/' "$1"`)
	a = m.verify()
	var explained []string
	for _, f := range a.Findings {
		switch f.Cause {
		case "derivation-differs":
			_, name, _ := strings.Cut(filepath.Base(f.Path), "-")
			explained = append(explained, name+" "+f.Field)
			if f.ConsequenceOf != "source-altered" {
				t.Errorf("the source was altered: %+v", f)
			}
			if f.Field == "args[2]" && (!strings.Contains(f.Want, "echo latin") || !strings.Contains(f.Got, "echo other")) {
				t.Errorf("want %q, got %q", f.Want, f.Got)
			}
		case "evaluation-drift":
			if f.Field == "drvPath" && !strings.HasSuffix(f.Detail, "differences that make them so: 2") {
				t.Errorf("the drift: %+v", f)
			}
		}
	}
	slices.Sort(explained)
	// The system carries its source, which so is another one too.
	if want := []string{"etc.drv source source", "oddities-1.drv args[2]"}; !slices.Equal(explained, want) {
		t.Errorf("explained by %q, want %q", explained, want)
		for _, f := range a.Findings {
			t.Logf("%+v", f)
		}
	}
}
