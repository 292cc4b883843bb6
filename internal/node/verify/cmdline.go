package verify

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// maxCommandLine is above the 4 KiB that the kernel's largest platforms allow.
const maxCommandLine = 64 << 10

// checkCommandLine checks init= on the kernel's command line: the booted system created
// the link /run/booted-system, but the loader wrote this. It returns the command line, ""
// if it is unknown.
func (r *run) checkCommandLine(ctx context.Context, t *report.Tier) (line string) {
	link := liveLink{name: kernelCommand + " init=", cause: report.OtherBoot}
	line, values, err := commandLineInit(kernelCommand)
	if err != nil {
		r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: link.name, Detail: err.Error(), ConsequenceOf: r.withoutProc(report.TierLive)})
		return line
	}
	t.Checked++
	for _, value := range values {
		p, rest, err := r.StoreDir.Within(value)
		if err != nil || rest != "/init" {
			r.find(report.Finding{
				Tier: report.TierLive, Cause: report.OtherBoot, Path: link.name,
				Want: string(r.manifest.Toplevel.OutPath) + "/init", Got: value,
			})
			continue
		}
		r.judgeLink(ctx, link, p, "")
	}
	return line
}

// commandLineInit returns the command line in the file name, and the possible values of
// init=: one value if all readers agree.
func commandLineInit(name string) (line string, values []string, err error) {
	// Containers mount files of their own there.
	data, err := hostfile.ReadSmall(name, maxCommandLine)
	if err != nil {
		return "", nil, err
	}
	line = string(data)
	if values = initOf(line); len(values) == 0 {
		return line, nil, fmt.Errorf("%s has no init=, which boots NixOS", name)
	}
	return line, values, nil
}

// initOf returns what a command line may boot: one value if all readers agree, none
// without init=.
func initOf(line string) []string {
	values := []string{stageInit(line), kernelInit(line)}
	return slices.DeleteFunc(slices.Compact(values), func(v string) bool { return v == "" })
}

// stageInit returns init= as NixOS's first stage finds it, a loop of a shell
// over the words: the last of several, whatever quotes or "--" say.
func stageInit(line string) string {
	value := ""
	for _, word := range commandLineWords(line) {
		if v, ok := strings.CutPrefix(word, "init="); ok {
			value = v
		}
	}
	return value
}

// kernelInit returns init= as the kernel parses it, which matters without a first stage:
// the last of several before "--"; double quotes join words, and are removed from the
// ends of a word or of its value.
func kernelInit(line string) string {
	value, quoted := "", false
	// To the kernel the byte 0xa0 is a space, whatever it is part of.
	line = strings.ReplaceAll(line, "\xa0", "\f")
	words := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || '\t' <= r && r <= '\r')
	})
	for _, word := range words {
		if word == "--" {
			break
		}
		if rest, ok := strings.CutPrefix(word, `"`); ok {
			word = strings.TrimSuffix(rest, `"`)
		}
		if v, ok := strings.CutPrefix(word, "init="); ok {
			if rest, ok := strings.CutPrefix(v, `"`); ok {
				v = strings.TrimSuffix(rest, `"`)
			}
			value = v
		}
	}
	return value
}

// wantedCommandLine returns the command line that boots a system.
func (r *run) wantedCommandLine(system closure.StorePath) (string, error) {
	params, err := r.store.ReadFile(system, "kernel-params", maxCommandLine)
	if err != nil {
		return "", err
	}
	return oneBlank("init=" + string(system) + "/init " + string(params)), nil
}

// oneBlank has one blank between the parameters of a command line.
func oneBlank(s string) string { return strings.Join(parameters(s), " ") }

// parameters returns the parameters of a command line. Blanks between double quotes belong
// to a parameter. So do characters that only some programs take for blanks, such as U+00A0
// or, in the kernel, a form feed: such a parameter then differs from every wanted one.
func parameters(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && isBlank(r)
	})
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }

// commandLineWords returns the words of a command line as a shell splits it.
func commandLineWords(line string) []string {
	return strings.FieldsFunc(line, isBlank)
}

// paramsOf returns the parameters of a command line without those that name the system that
// it boots, which may stand anywhere: older NixOS names it once more.
func paramsOf(system closure.StorePath, line string) []string {
	init, older := "init="+string(system)+"/init", "systemConfig="+string(system)
	return slices.DeleteFunc(parameters(line), func(p string) bool { return p == init || p == older })
}

// checkBootedLine compares the running kernel's command line with the one that boots the
// system which it names, entry or no entry of a boot menu. It returns the parameters that
// the kernel has besides and that change nothing of what runs.
func (r *run) checkBootedLine(entries []bootloader.Entry, line string) (besides []string) {
	for _, value := range initOf(line) {
		p, rest, err := r.StoreDir.Within(value)
		if err != nil || rest != "/init" {
			continue // checkCommandLine says so
		}
		if exists, err := r.store.Exists(p); err == nil && !exists {
			continue // that it is missing is what the contents tier says
		}
		f := report.Finding{Tier: report.TierLive, Path: kernelCommand, Field: "options"}
		want, err := r.wantedCommandLine(p)
		same := entriesOf(entries, line)
		got := strings.Join(withoutAdditions(line, same), " ")
		more, ok := bootedBy(same).accepts(p, want, paramsOf(p, got))
		if err != nil {
			f.Cause, f.Detail = report.BootUnchecked, err.Error()
		} else if !ok {
			f.Cause, f.Want, f.Got, f.Detail = report.CommandLineAltered, want, got, otherWords(paramsOf(p, want), paramsOf(p, got))
		} else {
			besides = append(besides, more...)
			continue
		}
		r.findOnce(f)
	}
	return besides
}

// bootedBy are the entries of boot menus that a machine may have been booted by.
type bootedBy []bootloader.Entry

// accepts reports whether a kernel that has the parameters got was booted with those
// wanted. GRUB quotes them its own way. Where no menu is known to have booted it, a firmware
// or a hypervisor may have given it more, which are returned.
func (b bootedBy) accepts(system closure.StorePath, wanted string, got []string) (besides []string, ok bool) {
	has := func(is func(e bootloader.Entry) bool) bool { return slices.ContainsFunc(b, is) }
	medium := has(func(e bootloader.Entry) bool { return e.Medium })
	want := paramsOf(system, wanted)
	if hasParams(want, got, medium) {
		return nil, true
	}
	if len(b) == 0 || has(func(e bootloader.Entry) bool { return e.Loader == bootloader.Grub }) {
		if grub, ok := bootloader.GrubLine(wanted); ok && hasParams(paramsOf(system, grub), got, medium) {
			return nil, true
		}
	}
	if len(b) > 0 {
		return nil, false
	}
	for i := range len(got) - len(want) + 1 {
		if !slices.Equal(want, got[i:i+len(want)]) {
			continue
		}
		besides = slices.Concat(got[:i], got[i+len(want):])
		if !slices.ContainsFunc(besides, func(p string) bool { return !isByHost(system, p) }) {
			return besides, true
		}
	}
	return nil, false
}

// entriesOf returns those of entries that boot the same system as a command line, and by
// the initrd that it names, if it does.
func entriesOf(entries []bootloader.Entry, line string) (same []bootloader.Entry) {
	init, initrds := initOf(line), initrdsOf(line)
	for _, e := range entries {
		if len(init) == 0 || !slices.Equal(initOf(e.Options), init) {
			continue
		}
		if len(initrds) == 0 || slices.ContainsFunc(initrds, func(name string) bool { return hasInitrd(e, name) }) {
			same = append(same, e)
		}
	}
	return same
}

// initrdsOf returns the names of initrds in a command line. That of iPXE under UEFI is no
// file's.
func initrdsOf(line string) (names []string) {
	for _, p := range parameters(line) {
		if name, ok := strings.CutPrefix(p, "initrd="); ok && name != "initrd.magic" {
			names = append(names, name)
		}
	}
	return names
}

func hasInitrd(e bootloader.Entry, name string) bool {
	slashed := func(name string) string { return path.Clean("/" + strings.ReplaceAll(name, `\`, "/")) }
	return slices.ContainsFunc(e.Initrds, func(has string) bool { return slashed(has) == slashed(name) })
}

// withoutAdditions returns the parameters of the running kernel without those that boot
// loaders add: GRUB and SYSLINUX BOOT_IMAGE=, iPXE under UEFI the name of the kernel's
// file as the first one, and all where the kernel loads the initrd itself its name: that
// of an entry for the same system, or any, but one alone.
func withoutAdditions(line string, entries []bootloader.Entry) []string {
	params, initrds := parameters(line), initrdsOf(line)
	if len(params) > 0 && slices.Contains([]string{"kernel", "bzImage", "Image"}, params[0]) {
		params = params[1:]
	}
	known := slices.DeleteFunc(slices.Clone(initrds), func(name string) bool {
		return !slices.ContainsFunc(entries, func(e bootloader.Entry) bool { return hasInitrd(e, name) })
	})
	if len(known) == 0 && len(initrds) > 0 { // all that iPXE has, as one
		known = initrds[:1]
	}
	return slices.DeleteFunc(params, func(p string) bool {
		name, initrd := strings.CutPrefix(p, "initrd=")
		added := initrd && (name == "initrd.magic" || slices.Contains(known, name)) || strings.HasPrefix(p, "BOOT_IMAGE=")
		return added && isOneWord(p)
	})
}

// isOneWord reports whether no reader of a command line takes a parameter for more than
// one, or for a part of one: quotes and a backslash at its end reach into others.
func isOneWord(parameter string) bool {
	return !strings.ContainsFunc(parameter, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\'' }) && !strings.HasSuffix(parameter, `\`)
}

// mediumParams are what the entries under "Options" of NixOS's installation media add.
var mediumParams = []string{
	"copytoram", "nomodeset", "debug", "systemd.mask=display-manager.service plymouth.enable=0",
	"fbcon=rotate:1", "fbcon=rotate:2", "fbcon=rotate:3", "console=ttyS0,115200n8",
}

// hasParams reports whether the parameters of a command line are those wanted, or, with
// options, what an entry under "Options" of an installation medium has.
func hasParams(want, got []string, options bool) bool {
	n := min(len(want), len(got))
	return slices.Equal(want, got[:n]) && (n == len(got) || options && slices.Contains(mediumParams, strings.Join(got[n:], " ")))
}

// maxShownWords limits in bytes what is shown of the words of a command line.
const maxShownWords = 200

// otherWords says how the words of a command line differ from those wanted.
func otherWords(want, got []string) string {
	without := func(all, others []string) string {
		others = slices.Clone(others)
		return excerpt.Of(strings.Join(slices.DeleteFunc(slices.Clone(all), func(w string) bool {
			i := slices.Index(others, w)
			if i >= 0 {
				others = slices.Delete(others, i, i+1)
			}
			return i >= 0
		}), " "), maxShownWords)
	}
	var parts []string
	if more := without(got, want); more != "" {
		parts = append(parts, "it was booted with "+more+" besides")
	}
	if fewer := without(want, got); fewer != "" {
		parts = append(parts, "it was booted without "+fewer)
	}
	if len(parts) == 0 {
		return "it was booted with the parameters in another order"
	}
	return strings.Join(parts, ", and ")
}
