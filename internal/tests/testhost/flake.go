package testhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Flake copies testdata/flake to a directory of its own, for [Host.MakeRunner], and
// returns that. Its systems have the text fstab as their etc/fstab, and, where kernel is
// not "", modules as the modules.dep of the kernel of that release. Neither text may have
// a quote, or what a shell's printf replaces.
func Flake(t testing.TB, fstab, kernel, modules string) string {
	t.Helper()
	script, err := findScript()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "flake")
	if out, err := exec.Command("cp", "-r", filepath.Join(filepath.Dir(script), "../testdata/flake"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	insert := func(file, after, text, to string) {
		t.Helper()
		file = filepath.Join(dir, "system", file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, ok := strings.Cut(string(data), after)
		if !ok {
			t.Fatalf("%s has no %q", file, after)
		}
		printed := "printf '" + strings.ReplaceAll(text, "\n", `\n`) + "' | text " + to + "\n"
		if err := os.WriteFile(file, []byte(before+after+printed+rest), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	insert("system.nix", "echo $name | text $out/etc/hostname\n", fstab, "$out/fstab; ln -s $out/fstab $out/etc/fstab")
	if kernel != "" {
		insert("packages.nix", "seq 1 50000 >$out/bzImage\n", modules, "$modules/lib/modules/"+kernel+"/modules.dep")
	}
	return dir
}
