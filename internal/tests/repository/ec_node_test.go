package repository

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"every.channel/ec-verify/internal/tests/testhost"
)

// unit is what NixOS takes for a service, as far as unit.nix gives it.
type unit struct {
	Description   string
	Documentation []string
	Wants, After  []string
	UnitConfig    map[string]any
	ServiceConfig map[string]any
}

// text is the unit file that NixOS writes for it.
func (u unit) text() string {
	var b strings.Builder
	section := func(name string, keys map[string]any) {
		fmt.Fprintf(&b, "[%s]\n", name)
		names := make([]string, 0, len(keys))
		for k := range keys {
			names = append(names, k)
		}
		sort.Strings(names)
		for _, k := range names {
			values, list := keys[k].([]any)
			if !list {
				values = []any{keys[k]}
			}
			for _, v := range values {
				fmt.Fprintf(&b, "%s=%v\n", k, v)
			}
		}
	}
	inUnit := map[string]any{
		"Description": u.Description, "Documentation": strings.Join(u.Documentation, " "),
		"Wants": strings.Join(u.Wants, " "), "After": strings.Join(u.After, " "),
	}
	for k, v := range u.UnitConfig {
		inUnit[k] = v
	}
	section("Unit", inUnit)
	section("Service", u.ServiceConfig)
	return b.String()
}

// publisher stands in for ec-node: it notes its command line and encodes a test
// pattern, as x264 does it on the CPU, where the real one would encode its input.
const publisher = `#!/bin/sh
set -eu
printf '%s\n' "$@" >arguments
cat "$CREDENTIALS_DIRECTORY/token" >token
echo encoding
/opt/ffmpeg/ld.so --library-path /opt/ffmpeg/lib /opt/ffmpeg/ffmpeg -nostdin -loglevel warning \
  -f lavfi -i testsrc2=size=320x180:rate=25 -t "$SECONDS_OF_VIDEO" -c:v libx264 -preset ultrafast -f mpegts -y out.ts
echo encoded
sleep "$THEN"
`

// packFfmpeg copies ffmpeg and the libraries that it loads into a directory, so that it runs
// on a host with another Debian.
func packFfmpeg(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skipf("%v; hack/setup installs it", err)
	}
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.MkdirAll(filepath.Join(dir, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(from, to string) {
		t.Helper()
		if from, err = filepath.EvalSymlinks(from); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	link(program, "ffmpeg")
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && fields[1] == "=>":
			link(fields[2], filepath.Join("lib", fields[0]))
		case len(fields) > 0 && strings.Contains(fields[0], "/ld-linux"):
			link(fields[0], "ld.so")
		}
	}
	return dir
}

// TestECNodeUnit: the service that the module makes for a broadcast, on a real
// systemd, with a publisher that encodes.
func TestECNodeUnit(t *testing.T) {
	// The last backslash would join the description to the next line.
	hostile := `-Two: 100%n%% "live" 'x' $1 ${HOME} $$ \x41 ; \; äöü \`
	input := `https://example.org/a.ts?x=1&y=%20&z=$PATH`
	expr := fmt.Sprintf(`import %s {
	  program = "/usr/local/bin/ec-node";
	  relayUrl = "https://relay.example.org/";
	  name = builtins.fromJSON (builtins.readFile %s);
	  input = builtins.fromJSON (builtins.readFile %s);
	  extraArgs = [ "--flag=a b" "" "'" ];
	  credentials.token = /. + "/root/100%%n/token";
	  environmentFile = /. + "/root/100%%n/environment";
	}`, abs(t, "modules/ec-node/unit.nix"), jsonFile(t, hostile), jsonFile(t, input))
	var u unit
	evaluate(t, expr, &u)

	ffmpeg := packFfmpeg(t)
	h := testhost.Start(t, testhost.Options{})
	h.Push(ffmpeg, "/opt/ffmpeg")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		h.Push(file, name)
	}
	const name = "ec-node-two"
	write("/usr/local/bin/ec-node", publisher, 0o755)
	const secrets = "/root/100%n" // a path of Nix above, which must not become one in the store
	h.Run("mkdir", secrets)
	write(secrets+"/token", "secret", 0o600)
	write(secrets+"/environment", "SECONDS_OF_VIDEO=4\nTHEN=300\n", 0o600)
	write("/etc/systemd/system/"+name+".service", u.text(), 0o644)
	write("/etc/systemd/system/ecnode.slice", "[Slice]\nCPUWeight=1000\nIOWeight=1000\n", 0o644)

	if out := h.Run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/"+name+".service"); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", name)

	show := func(property string) string {
		t.Helper()
		return h.Run("systemctl", "show", "-P", property, name)
	}
	journal := func(field string) []string {
		t.Helper()
		h.Run("journalctl", "--sync")
		var values []string
		for line := range strings.Lines(h.Run("journalctl", "-u", name, "-o", "json")) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			values = append(values, fmt.Sprint(entry[field]))
		}
		return values
	}
	waitFor(t, "the encoder's end", func() bool { return slices.Contains(journal("MESSAGE"), "encoded") })

	if got := show("ActiveState"); got != "active" {
		t.Errorf("the service is %s, want active", got)
	}
	if got, want := show("Description"), `Publish the broadcast "`+hostile+`"`; got != want {
		t.Errorf("the description is %q, want %q", got, want)
	}
	if got := show("Documentation"); got != "https://every.channel" {
		t.Errorf("the documentation is at %q", got)
	}
	dir := "/run/ec-node/" + name
	want := []string{"wt-publish", "--url", "https://relay.example.org/", "--name", hostile, "--input", input, "--flag=a b", "", "'"}
	if diff := cmp.Diff(want, strings.Split(h.Run("cat", dir+"/arguments"), "\n")); diff != "" {
		t.Errorf("the publisher's arguments differ (-want +got):\n%s", diff)
	}
	if got := h.Run("cat", dir+"/token"); got != "secret" {
		t.Errorf("the credential is %q", got)
	}
	// 4 s of 25 frames: MPEG-TS begins with 0x47, in packets of 188 bytes.
	ts, err := os.ReadFile(h.Path(dir + "/out.ts"))
	if err != nil {
		t.Fatal(err)
	}
	if len(ts) < 20_000 || len(ts)%188 != 0 || ts[0] != 0x47 {
		t.Errorf("out.ts has %d bytes and is no transport stream", len(ts))
	}
	if got := journal("EC_BROADCAST"); !slices.Contains(got, hostile) {
		t.Errorf("no journal entry has the broadcast %q: %q", hostile, got)
	}
	if got := show("Slice"); got != "ecnode.slice" {
		t.Errorf("it runs in %s", got)
	}
	pid := show("MainPID")
	if uid := h.Run("stat", "-c", "%u", "/proc/"+pid); uid == "0" {
		t.Error("it runs as root")
	}
	if got := h.Run("awk", "/^CapBnd/ { print $2 }", "/proc/"+pid+"/status"); strings.Trim(got, "0") != "" {
		t.Errorf("it has the capabilities %s", got)
	}
	h.Run("systemd-analyze", "security", "--threshold=15", "--no-pager", name)

	// What dies is there again, and what ends too.
	h.Run("kill", "-KILL", pid)
	waitFor(t, "a restart", func() bool { return show("NRestarts") == "1" && show("ActiveState") == "active" })
	if got := show("MainPID"); got == pid {
		t.Error("the service has the process that was killed")
	}
	write(secrets+"/environment", "SECONDS_OF_VIDEO=0.1\nTHEN=0\n", 0o600)
	h.Run("systemctl", "restart", name)
	waitFor(t, "a restart after an end", func() bool { return show("NRestarts") != "0" })
	h.Run("systemctl", "stop", name)
	if got := show("ActiveState"); got != "inactive" {
		t.Errorf("stopped, the service is %s", got)
	}
}

// jsonFile writes a string so that no quoting of Nix stands between it and the
// expression; it returns the file.
func jsonFile(t *testing.T, text string) string {
	t.Helper()
	data, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "string.json")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// waitFor waits until something is so, for as long as a busy machine may take.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited two minutes for %s", what)
		}
	}
}
