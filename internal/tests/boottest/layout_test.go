//go:build qemu

package boottest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/guest"
)

// layout is what modules/overlay-root/layout.nix says.
type layout struct {
	Fstab string `json:"fstab"`
	Disk  struct {
		Partitions []partition `json:"partitions"`
	} `json:"disk"`
	InitrdUnits           map[string]unit `json:"initrdUnits"`
	SystemUnits           map[string]unit `json:"systemUnits"`
	SuppressedSystemUnits []string        `json:"suppressedSystemUnits"`
	HostKeys              []struct {
		Type string `json:"type"`
		Path string `json:"path"`
	} `json:"hostKeys"`
}

type partition struct {
	Name      string `json:"name"`
	Partlabel string `json:"partlabel"`
	Type      string `json:"type"`
	FsType    string `json:"fsType"`
	Label     string `json:"label"`
}

type unit struct {
	Text       string   `json:"text"`
	RequiredBy []string `json:"requiredBy"`
	WantedBy   []string `json:"wantedBy"`
	DropIn     bool     `json:"dropIn"`
}

// arguments are those of layout.nix; a zero field is the layout's default.
type arguments struct {
	OnMissing     string `json:"onMissing,omitempty"`
	DeviceTimeout int    `json:"deviceTimeout,omitempty"` // seconds
	NoticeSeconds int    `json:"noticeSeconds,omitempty"`
}

// render evaluates the layout, without nixpkgs and without a store.
func render(t *testing.T, a arguments) layout {
	t.Helper()
	file, err := filepath.Abs("../../../modules/overlay-root/layout.nix")
	if err != nil {
		t.Fatal(err)
	}
	args, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json",
		"--expr", fmt.Sprintf("import %s (builtins.fromJSON ''%s'')", file, args))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("evaluate %s: %v\n%s", file, err, &stderr)
	}
	var l layout
	if err := json.Unmarshal(out, &l); err != nil {
		t.Fatalf("decode what %s says: %v", file, err)
	}
	if len(l.InitrdUnits) == 0 || l.Fstab == "" || len(l.Disk.Partitions) == 0 {
		t.Fatalf("%s says too little: %s", file, out)
	}
	return l
}

// install writes the units below dir as NixOS links them below
// /etc/systemd/system.
func install(t *testing.T, dir string, units map[string]unit) {
	t.Helper()
	for name, u := range units {
		file := filepath.Join(dir, name)
		if u.DropIn {
			file = filepath.Join(dir, name+".d", "overrides.conf")
		}
		write(t, file, u.Text)
		for suffix, targets := range map[string][]string{".requires": u.RequiredBy, ".wants": u.WantedBy} {
			for _, target := range targets {
				link(t, "../"+name, filepath.Join(dir, target+suffix, name))
			}
		}
	}
}

// How files are made, and programs run.
var (
	write, writeProgram, link = guest.Write, guest.WriteProgram, guest.Link
	run, shell                = guest.Command, guest.Shell
)

// documented returns the shell commands in sections of a document, by heading, without
// those of the sections below them.
func documented(t *testing.T, document string, sections ...string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../docs", document))
	if err != nil {
		t.Fatal(err)
	}
	here, code := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case !code && strings.HasPrefix(line, "#"):
			here = slices.Contains(sections, line)
		case strings.HasPrefix(line, "```"):
			code = line == "```sh"
		case here && code:
			commands = append(commands, line)
		}
	}
	if len(commands) == 0 {
		t.Fatalf("docs/%s has no commands in %q", document, sections)
	}
	return commands
}
