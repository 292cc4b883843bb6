package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/image/imagetest"
	"every.channel/ec-verify/internal/release/releasetest"
)

// TestGateTakesReleases: hack/gate says "equal" of two whole releases, and of nothing
// else; its report is of this run.
func TestGateTakesReleases(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	gate := func(want int, a, b, report string) string {
		t.Helper()
		cmd := exec.Command(absolute(t, filepath.Join("..", "..", "..", "hack", "gate")), a, b, report)
		cmd.Dir, cmd.Env = work, append(os.Environ(), "EC_VERIFY="+filepath.Join(share(t, "bare"), program))
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%s %s: exit %d, want %d: %s", a, b, code, want, out)
		}
		if want != 0 && strings.Contains(string(out), "equal: ") {
			t.Errorf("%s %s: %s", a, b, out)
		}
		return string(out)
	}
	for _, name := range []string{"a", "b"} {
		releasetest.Write(t, filepath.Join(work, name), releasetest.Spec{})
	}
	imagetest.Shell(t, work, "cp -r b c; printf X | dd of=c/image.iso conv=notrunc status=none")
	gate(1, "a", "c", "report")
	attached := []string{"compare.json", "compare.html", "compare.xml", "compare.sarif"}
	for _, name := range attached {
		if info, err := os.Stat(filepath.Join(work, "report", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out := gate(0, "a", "b", "report"); !strings.HasPrefix(out, "equal: a and b: ") {
		t.Error(out)
	}
	for _, name := range attached {
		if _, err := os.Stat(filepath.Join(work, "report", name)); err == nil {
			t.Errorf("%s is still that of the run before", name)
		}
	}

	gate(64, "a", "./a/", "report")
	imagetest.Shell(t, work, "ln -s a link; mkdir f1 f2; echo x >f1/foo; cp f1/foo f2; mkdir t1 t2; cp a/image.iso t1; cp a/image.iso t2")
	gate(64, "a", "link", "report")
	gate(4, "f1", "f2", "report")
	gate(4, "t1", "t2", "report")
	for name, script := range map[string]string{
		"no sums":         "rm */SHA256SUMS.txt",
		"no release.json": "rm */release.json; for d in *; do sed -i /release.json/d $d/SHA256SUMS.txt; done",
		"no manifest":     "rm */closure-ec-runner-x86_64.json; for d in *; do sed -i /x86_64.json/d $d/SHA256SUMS.txt; done",
		"a bad manifest":  "for d in *; do cd $d; echo x >closure-ec-runner-x86_64.json; LC_ALL=C sha256sum -- $(ls | grep -v SUMS) >../sums; mv ../sums SHA256SUMS.txt; cd ..; done",
		"bad sums":        "for d in *; do echo x >>$d/SHA256SUMS.txt; done",
	} {
		t.Run(name, func(t *testing.T) {
			imagetest.Shell(t, work, "rm -rf pair; mkdir pair; cp -r a b pair; cd pair; "+script)
			gate(4, "pair/a", "pair/b", "report")
		})
	}
	if out := gate(4, "a", "none", "report"); strings.Count(out, "none") != 1 {
		t.Errorf("told twice: %s", out)
	}
	gate(4, "a", "c", "a/image.iso/report")
}
