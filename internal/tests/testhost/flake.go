package testhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Configured is what the systems of [Flake] have beside those of testdata/flake. No text
// may have a single quote, or what a shell's printf replaces.
type Configured struct {
	// Fstab is the text of etc/fstab, Users that of the file by which NixOS's activation
	// makes users; "" for none.
	Fstab, Users string
	// Modules is the modules.dep of the kernel of release Kernel; "" for none.
	Kernel, Modules string
	// Firewall is the text of a script, and FirewallUnit the unit that starts it; "" for
	// none.
	Firewall, FirewallUnit string
}

// Flake copies testdata/flake to a directory of its own, for [Host.MakeRunner], and
// returns that.
func Flake(t testing.TB, c Configured) string {
	t.Helper()
	script, err := findScript()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "flake")
	if out, err := exec.Command("cp", "-r", filepath.Join(filepath.Dir(script), "../testdata/flake"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	insert := func(file, after, text string) {
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
		if err := os.WriteFile(file, []byte(before+after+text+rest), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	printed := func(text, to string) string {
		if text == "" {
			return ""
		}
		return "printf '" + strings.ReplaceAll(text, "\n", `\n`) + "' | text " + to + "\n"
	}
	insert("system.nix", "echo $name | text $out/etc/hostname\n", printed(c.Fstab, "$out/fstab; ln -s $out/fstab $out/etc/fstab"))
	insert("packages.nix", "seq 1 50000 >$out/bzImage\n", printed(c.Modules, "$modules/lib/modules/"+c.Kernel+"/modules.dep"))
	if c.Users != "" {
		insert("system.nix", `toplevel = mk "nixos-system-${name}-${version}" {`+"\n",
			"users = mk \"users-groups.json\" { script = ''\n"+printed(c.Users, "$out")+"''; };\n")
		insert("system.nix", "ln -sfn $out /run/current-system\n", "      : the users of $users\n")
	}
	if c.Firewall != "" {
		file := filepath.Join(dir, "system/firewall/bin/firewall-start")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.Firewall), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		insert("system.nix", "mkdir -p $out/multi-user.target.wants\n",
			"      printf '[Service]\\nExecStart=%s\\n' ${./firewall}/bin/firewall-start | text $out/"+c.FirewallUnit+"\n"+
				"      ln -s ../"+c.FirewallUnit+" $out/multi-user.target.wants/\n")
	}
	return dir
}
