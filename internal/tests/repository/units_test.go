package repository

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// switching finds what runs the command that switches, in a unit or in a module's text.
var switching = regexp.MustCompile(`(?m)^[^#\n]*(?:ec-verify|cfg\.package}|getExe [^ ]*\)?})["']? (?:[^\n]* )?switch(?:\s|["']|$)`)

// TestNoUnitOfTheAuditSwitches: verifying changes nothing, and a switch is an explicit act.
func TestNoUnitOfTheAuditSwitches(t *testing.T) {
	for text, want := range map[string]bool{
		"ExecStart=/usr/bin/ec-verify switch latest":                   true,
		"ExecStart=/usr/bin/ec-verify --config x switch latest boot":   true,
		`ExecStart = "${lib.getExe cfg.package} switch latest";`:       true,
		"ExecStart=/usr/bin/ec-verify --offline --wait 2h":             false,
		"# ec-verify switch is what an operator runs":                  false,
		"Documentation=man:ec-verify(1) man:ec-verify-switch(1)":       false,
		"ExecStopPost=/usr/bin/ec-verify after-run --switched-on-disk": false,
	} {
		if got := switching.MatchString(text); got != want {
			t.Errorf("%q: switching is %v", text, got)
		}
	}
	var files []string
	for _, pattern := range []string{"systemd/*.service", "systemd/*.timer", "modules/ec-verify.nix"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := switching.Find(text); found != nil {
			t.Errorf("%s: %s", name, found)
		}
	}
}
