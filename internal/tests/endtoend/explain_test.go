package endtoend

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// explained: of a script with one line changed, explain shows the line, why the path is
// there, and what makes it; and the report becomes a page with every path on its map.
func explained(t *testing.T, m *machine, path string) {
	file := path + "/bin/program-01"
	m.Run("sh", "-euc", `cp -a "$1" /root/kept; sed -i '$s/$/ # evil/' "$2"`, "sh", path, file)
	defer m.Run("sh", "-euc", `rm -r "$1"; mv /root/kept "$1"`, "sh", path)
	run := func(want int, argv ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
		defer cancel()
		stdout, stderr, code := m.Exec(ctx, argv...)
		if code != want {
			t.Errorf("%q: exit %d, want %d: %s", argv, code, want, stderr)
		}
		return stdout
	}
	_, command, _ := strings.Cut(run(1, program, "explain", path), "has the derivation:\n")
	build, _, ok := strings.Cut(command, "      ec-verify explain --from /var/tmp/original ")
	if !ok {
		t.Errorf("it says not how to obtain the original: %s", command)
	}
	m.Run("sh", "-euc", build)
	said := run(1, program, "explain", path, "--from", "/var/tmp/original")
	for _, want := range []string{
		"other bytes than release " + tag, "/var/tmp/original: the release's bytes", "bin/program-01: contents changed", "# evil\n",
		string(m.manifest.Toplevel.OutPath) + "\n", path + "\n", "derivation  /nix/store/", "builder ",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
	if strings.Contains(said, "looks like") {
		t.Errorf("it names a cause:\n%s", said)
	}
	// What a rebuild makes is an original as well, and is removed again.
	again := run(1, program, "explain", path, "--rebuild")
	if strings.ReplaceAll(said, "/var/tmp/original", "a rebuild") != again {
		t.Errorf("with --from:\n%s\nwith --rebuild:\n%s", said, again)
	}
	m.Run("sh", "-euc", `[ ! -e /var/lib/ec-verify/rebuild/run ]`)
	for what, args := range map[string][]string{
		"is a source, which is not built": {string(m.manifest.StoreDir.SourcePath(m.manifest.Source.NarHash, "source"))},
		"want one of them":                {path, "--from", "/var/tmp/original"},
	} {
		_, stderr, code := m.Exec(context.Background(), append([]string{program, "explain", "--rebuild"}, args...)...)
		if code == 0 || !strings.Contains(stderr, what) {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
	}
	page := run(0, "sh", "-c", fmt.Sprintf("%[1]s --output json | %[1]s report render", program))
	if n := strings.Count(page, "<rect "); n != len(m.manifest.Paths)+3 { // and those of the legend
		t.Errorf("%d of %d paths on the map", n-3, len(m.manifest.Paths))
	}
	if !strings.Contains(page, "bin/program-01") || !strings.Contains(page, `<rect class="bad" x=`) {
		t.Error("the page does not show what differs")
	}
}
