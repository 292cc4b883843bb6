package imagecheck

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/pkg/excerpt"
)

var (
	initPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`init=([^\s]*)`) })
	comment     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^[ \t]*#.*$`) })
)

// ipxeCommands are the commands allowed in a script that boots the files beside it.
var ipxeCommands = []string{"kernel", "initrd", "boot"}

// isScript reports whether a member is a boot script by its name.
func isScript(m image.Member) bool {
	switch path.Ext(m.Path) {
	case ".ipxe", ".cfg", ".conf":
		return true
	}
	return false
}

// script searches a boot script for the systems that it starts. An iPXE script is
// short and checked completely.
func (w *look) script(m image.Member, data []byte) {
	if isScript(m) {
		data = comment().ReplaceAll(data, nil)
	}
	starts := w.inits(m, data)
	w.starts += starts
	switch {
	case path.Ext(m.Path) == ".ipxe":
		if starts == 0 {
			w.wrongBoot(m, "", "it does not say which system is started")
		}
		if detail := oddIPXE(data); detail != "" {
			w.wrongBoot(m, "", detail)
		}
		w.scripts = append(w.scripts, paramScript{m.Name(), ipxeParams(data)})
	case isScript(m):
		if starts == 0 && loadsKernel(data) {
			w.i.add(Finding{Class: Inconclusive, Kind: NotChecked, Where: excerpt.Raw(m.Name()), Detail: "it loads a kernel and does not say which system is started (init=)"})
		}
		for _, l := range oddLoads(data) {
			w.wrongBoot(m, l.name, "it loads another "+l.what+" than the one that was checked")
		}
	}
}

// wrongBoot adds a finding about got, which a boot script has.
func (w *look) wrongBoot(m image.Member, got, detail string) {
	w.i.add(Finding{Class: Drift, Kind: Boot, Where: excerpt.Raw(m.Name()), Want: excerpt.Raw(string(w.s.manifest.Toplevel.OutPath) + "/init"), Got: excerpt.Raw(got), Detail: detail})
}

// inits returns how many systems a boot script starts, each of which must be in the
// closure.
func (w *look) inits(m image.Member, data []byte) (starts int) {
	for _, at := range initPattern().FindAllSubmatchIndex(data, -1) {
		init := strings.Trim(string(data[at[2]:at[3]]), `"'\`)
		if at[0] > 0 && isWord(data[at[0]-1]) {
			// rdinit= is another parameter: it starts something in the initrd.
			if at[0] >= 2 && string(data[at[0]-2:at[0]]) == "rd" && isScript(m) {
				w.wrongBoot(m, "rd"+string(data[at[0]:at[1]]), "it has the initrd start something else")
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
		w.wrongBoot(m, init, "it starts something that is not in the closure")
	}
	return starts
}

// paramScript is an iPXE script with its kernel parameters.
type paramScript struct{ name, params string }

// ipxeParams returns the kernel parameters of a script in the form of NixOS's
// kernel-params, without the script's own additions.
func ipxeParams(data []byte) string {
	var params []string
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		if len(words) < 2 || words[0] != "kernel" {
			continue
		}
		for _, word := range words[2:] {
			if !strings.HasPrefix(word, "init=") && word != "initrd=initrd" && word != "${cmdline}" {
				params = append(params, word)
			}
		}
	}
	return strings.Join(params, " ")
}

// checkParams requires iPXE scripts to pass the system's parameters: another
// parameter may start a shell just as another init= would.
func (w *look) checkParams() {
	if w.params == nil {
		return // the system has no kernel-params
	}
	want := strings.Join(strings.Fields(*w.params), " ")
	for _, s := range w.scripts {
		if s.params != want {
			w.i.add(Finding{Class: Drift, Kind: Boot, Where: excerpt.Raw(s.name), Want: excerpt.Raw(want), Got: excerpt.Raw(s.params), Detail: "its kernel parameters are not those of the system"})
		}
	}
}

// load is a file that a boot script loads.
type load struct{ what, name string }

// oddLoads returns the files that a script of GRUB, ISOLINUX or systemd-boot loads
// and whose names are not those of the checked kernels and initrds. It does not parse
// such a script, so other commands go unnoticed; a memory test is ignored.
func oddLoads(data []byte) []load {
	var odd []load
	for line := range strings.Lines(strings.ReplaceAll(string(data), "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch strings.ToLower(words[0]) {
		case "linux", "linux16", "linuxefi", "kernel":
			name := strings.Trim(words[1], `"'`)
			memtest := strings.HasPrefix(path.Base(name), "memtest") && !strings.Contains(line, "init")
			if !isBeside(name) || !isKernelName(path.Base(name)) && !memtest {
				odd = append(odd, load{"kernel", name})
			}
		case "initrd", "initrd16", "initrdefi":
			for name := range strings.FieldsFuncSeq(strings.Join(words[1:], ","), func(r rune) bool { return r == ',' }) {
				if name = strings.Trim(name, `"'`); !isBeside(name) || path.Base(name) != "initrd" {
					odd = append(odd, load{"initrd", name})
				}
			}
		case "append", "options":
		default:
			continue
		}
		for _, word := range words[1:] {
			if name, ok := strings.CutPrefix(strings.Trim(word, `"'`), "initrd="); ok && path.Base(strings.ReplaceAll(name, `\`, "/")) != "initrd" {
				odd = append(odd, load{"initrd", name})
			}
		}
	}
	return odd
}

// loadsKernel reports whether a boot script loads the kernel, by its name.
func loadsKernel(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 || !slices.Contains([]string{"linux", "linux16", "linuxefi", "kernel"}, strings.ToLower(words[0])) {
			continue
		}
		if isKernelName(path.Base(strings.Trim(words[1], `"'`))) {
			return true
		}
	}
	return false
}

// isBeside reports whether name is a file on the medium itself.
func isBeside(name string) bool {
	return strings.HasPrefix(name, "/") || strings.HasPrefix(name, "($root)/") || strings.HasPrefix(name, `(\$root)/`)
}

// isKernelName reports whether a member of that name is compared with the kernel.
func isKernelName(base string) bool { return base == "kernel" || base == "bzImage" || base == "Image" }

func isWord(b byte) bool {
	return b == '_' || b == '.' || b == '-' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// oddIPXE describes what an iPXE script does besides booting the kernel and the
// initrd beside it.
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
