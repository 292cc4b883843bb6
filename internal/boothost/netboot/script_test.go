package netboot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseScript(t *testing.T) {
	const init = "init=/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system/init"
	for _, c := range []struct{ name, script, want, wrong string }{
		{name: "NixOS's own", script: goodScript, want: init + " initrd=initrd loglevel=4 console=ttyS0,115200n8"},
		{name: "its kernel's own name", script: strings.Replace(goodScript, "kernel kernel", "kernel bzImage", 1), want: init + " initrd=initrd loglevel=4 console=ttyS0,115200n8"},
		{name: "no initrd=", script: strings.Replace(goodScript, "initrd=initrd ", "", 1), want: init + " loglevel=4 console=ttyS0,115200n8 initrd=initrd"},
		{name: "lines ended as on Windows", script: strings.ReplaceAll(goodScript, "\n", "\r\n"), want: init + " initrd=initrd loglevel=4 console=ttyS0,115200n8"},
		{name: "empty", wrong: "#!ipxe"},
		{name: "no init=", script: strings.Replace(goodScript, init, "", 1), wrong: "init="},
		{name: "two init=", script: strings.Replace(goodScript, init, init+" "+init, 1), wrong: "2 kernel parameters init="},
		{name: "another initrd", script: strings.Replace(goodScript, "initrd=initrd", "initrd=other", 1), wrong: "initrd=initrd"},
		{name: "a variable", script: strings.Replace(goodScript, "loglevel=4", "hostname=${hostname}", 1), wrong: "cannot be in"},
		{name: "a quote", script: strings.Replace(goodScript, "loglevel=4", `a="b`, 1), wrong: "cannot be in"},
		{name: "a second command", script: strings.Replace(goodScript, "loglevel=4", "|| shell", 1), wrong: "cannot be in"},
		{name: "another command", script: goodScript + "shell\n", wrong: `line 6: want kernel`},
		{name: "a label", script: strings.Replace(goodScript, "boot\n", ":again\nboot\ngoto again\n", 1), wrong: "line 5"},
		{name: "a chain", script: "#!ipxe\nchain http://example.org/\n", wrong: "line 2"},
		{name: "a kernel from elsewhere", script: strings.Replace(goodScript, "kernel kernel", "kernel http://example.org/kernel", 1), wrong: "kernel kernel"},
		{name: "an initrd from elsewhere", script: strings.Replace(goodScript, "initrd initrd", "initrd http://example.org/initrd", 1), wrong: "initrd initrd"},
		{name: "two kernels", script: strings.Replace(goodScript, "initrd initrd", "kernel kernel "+init, 1), wrong: "one line each"},
		{name: "no boot", script: strings.Replace(goodScript, "boot\n", "", 1), wrong: "one line each"},
		{name: "more parameters than Linux takes", script: strings.Replace(goodScript, "loglevel=4", "loglevel=4 "+strings.Repeat("a=b ", 500), 1), wrong: "would lose"},
		{name: "too long", script: goodScript + strings.Repeat("#", maxScript), wrong: "larger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseScript([]byte(c.script))
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("got %+v, %v; want an error with %q", s, err, c.wrong)
				}
				return
			}
			if got := strings.Join(s.Params, " "); err != nil || got != c.want {
				t.Errorf("got %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

func TestParseBaseURL(t *testing.T) {
	for _, s := range []string{"http://10.0.0.2", "http://10.0.0.2:8080", "http://boot.example.org", "http://boot-1:65535", "http://[fd00::2]", "http://[fd00::2]:80"} {
		if got, err := ParseBaseURL(s); err != nil || string(got) != s {
			t.Errorf("%s: got %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "10.0.0.2", "https://10.0.0.2", "http://10.0.0.2/", "http://10.0.0.2/x", "http://a@10.0.0.2", "http://10.0.0.2?x", "http://10.0.0.2:", "http://10.0.0.2:999999", "http://a b", "http://a\nb", "http://${x}", "http://-a", "tftp://10.0.0.2", "HTTP://10.0.0.2", "http://10.0.0.2:0", "http://10.0.0.2:080", "http://10.0.0.2:65536", "http://10.0.0.256", "http://10.0.0", "http://a..b", "http://a.", "http://a-.b", "http://[fd00::2%25eth0]", "http://a%2f", "http://" + strings.Repeat("a.", 127) + "a"} {
		if got, err := ParseBaseURL(s); err == nil {
			t.Errorf("%q is taken for %q", s, got)
		}
	}
}

func TestReadChainToken(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	for _, c := range []struct{ data, want string }{
		{"0123456789abcdef\n", "0123456789abcdef"},
		{"0123456789abcdef", "0123456789abcdef"},
		{"", ""}, {"\n", ""}, {"short\n", ""}, {strings.Repeat("a", 129), ""}, {"0123456789abcdef\n\n", ""},
		{"0123456789 abcdef", ""}, {"0123456789abcdef\"", ""}, {"0123456789abcde/", ""}, {"0123456789${mac}", ""}, {"................", ""},
		{strings.Repeat("a", 5000), ""},
	} {
		if err := os.WriteFile(name, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadChainToken(name)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q, %v", clip(c.data), got, err)
		}
		if err != nil && c.data != "" && strings.TrimSpace(c.data) != "" && strings.Contains(err.Error(), strings.TrimSpace(c.data)) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
	if _, err := ReadChainToken(t.TempDir()); err == nil {
		t.Error("a directory is taken")
	}
}

func TestRender(t *testing.T) {
	dir := t.TempDir()
	efi := filepath.Join(t.TempDir(), "ipxe.efi")
	if err := os.WriteFile(efi, []byte("MZ"), 0o644); err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	for range 2 { // a restart finds what the last one wrote
		if err := Render(dir, "http://10.0.0.2", token, map[string]string{"ec-ipxe.efi": efi}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "tftp", "ec-ipxe.efi")); err != nil || string(got) != "MZ" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"tftp/chain.ipxe", "token.map"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(data), token) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if info, _ := os.Stat(filepath.Join(dir, name)); info.Mode().Perm() != 0o640 {
			t.Errorf("%s is for %v", name, info.Mode())
		}
	}
	// What is not served any more goes.
	if err := Render(dir, "http://10.0.0.2", token, nil); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "tftp")); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	// What a run has left that was killed goes, and what somebody else put there
	// stays.
	root := filepath.Join(dir, "tftp")
	if err := errors.Join(os.WriteFile(filepath.Join(root, ".chain.ipxe123"), nil, 0o600), os.Mkdir(filepath.Join(root, ".ec-ipxe.efi9"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := Render(dir, "http://10.0.0.2", token, map[string]string{"ec-ipxe.efi": efi}); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(root); len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
	theirs := filepath.Join(root, "pxelinux.cfg")
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Render(dir, "http://10.0.0.2", token, nil); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("somebody's directory: %v", err)
	}
	if err := os.Remove(theirs); err != nil {
		t.Errorf("somebody's directory is gone: %v", err)
	}
	for name, target := range map[string]string{"../x": efi, "chain.ipxe": efi, "a b": efi, "x": efi + "x", "y": dir} {
		if err := Render(dir, "http://10.0.0.2", token, map[string]string{name: target}); err == nil {
			t.Errorf("%s -> %s is taken", name, target)
		}
	}
}
