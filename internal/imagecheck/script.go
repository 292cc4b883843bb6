package imagecheck

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/image"
)

var (
	initPattern = regexp.MustCompile(`init=([^\s]*)`)
	// loadPattern is a line of GRUB that loads a kernel and says what it starts.
	loadPattern = regexp.MustCompile(`(?m)^[ \t]*linux(?:16|efi)?[ \t]+(\S+)[ \t].*init=`)
	comment     = regexp.MustCompile(`(?m)^[ \t]*#.*$`)
)

// ipxeCommands are those of a script that boots what lies beside it.
var ipxeCommands = []string{"kernel", "initrd", "boot"}

// isScript reports whether a member is a boot script by its name.
func isScript(m image.Member) bool {
	switch path.Ext(m.Path) {
	case ".ipxe", ".cfg", ".conf":
		return true
	}
	return false
}

// script looks for the systems that a boot script starts, and at a script for
// iPXE, which is not much, as a whole.
func (w *look) script(m image.Member, data []byte) {
	wrong := func(got, detail string) {
		w.i.add(Finding{Class: Drift, Kind: Boot, Where: m.Name(), Want: string(w.s.manifest.Toplevel.OutPath) + "/init", Got: got, Detail: detail})
	}
	if isScript(m) {
		data = comment.ReplaceAll(data, nil)
	}
	found := initPattern.FindAllSubmatchIndex(data, -1)
	starts := 0
	for _, at := range found {
		init := strings.Trim(string(data[at[2]:at[3]]), `"'\`)
		if at[0] > 0 && isWord(data[at[0]-1]) {
			// Another word that ends so: rdinit= starts something in the initrd.
			if at[0] >= 2 && string(data[at[0]-2:at[0]]) == "rd" && isScript(m) {
				wrong("rd"+string(data[at[0]:at[1]]), "it has the initrd start something else")
			}
			continue
		}
		if init == "" && !isScript(m) {
			continue // a word in a program
		}
		starts++
		p, rest, err := w.s.manifest.StoreDir.Within(init)
		if _, ok := w.s.paths[p]; err == nil && ok && rest == "/init" {
			w.i.Inside.Files++
			continue
		}
		wrong(init, "it starts something that is not in the closure")
	}
	if path.Ext(m.Path) != ".ipxe" {
		for _, match := range loadPattern.FindAllSubmatch(data, -1) {
			if name := string(match[1]); isScript(m) && !isKernelName(path.Base(name)) {
				wrong(name, "it loads another kernel than the one that was looked at")
			}
		}
		return
	}
	if starts == 0 {
		wrong("", "it does not say which system is started")
	}
	if detail := oddIPXE(data); detail != "" {
		wrong("", detail)
	}
}

// isKernelName reports whether a member of that name is held to the kernel.
func isKernelName(base string) bool { return base == "kernel" || base == "bzImage" || base == "Image" }

func isWord(b byte) bool {
	return b == '_' || b == '.' || b == '-' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// oddIPXE says what a script for iPXE does beside booting the kernel and the
// initrd that lie beside it.
func oddIPXE(data []byte) string {
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if !slices.Contains(ipxeCommands, words[0]) {
			return fmt.Sprintf("it has the command %s", clipWord(words[0]))
		}
		if slices.Contains(words, "&&") || slices.Contains(words, "||") {
			return "it does one thing or another"
		}
		if words[0] == "boot" && len(words) > 1 || words[0] != "boot" && (len(words) < 2 || words[1] != words[0]) || words[0] == "initrd" && len(words) > 2 {
			return fmt.Sprintf("its command %s is not for the %s beside it", words[0], words[0])
		}
	}
	return ""
}

func clipWord(s string) string { return fmt.Sprintf("%.40q", s) }
