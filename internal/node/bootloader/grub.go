package bootloader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxWord   = 4 << 10 // of a script, in bytes
	maxBlocks = 100     // in each other
)

// parseGrub reads a grub.cfg. Of a command that starts something outside of a menu
// entry there is an entry, too, as GRUB may run it before it shows any. What the
// conditions make of the commands is not worked out: each counts.
func parseGrub(data, env []byte) ([]Entry, error) {
	var (
		out      []Entry
		places   []grubPlace
		count    = []int{0}
		menus    []string
		blocks   []string // those that are open: "menuentry", "submenu", "" for others
		at       = -1     // the entry that the commands belong to
		defaults grubDefaults
	)
	begin := func(title, id string) error {
		if len(out) == maxEntries {
			return errTooMany
		}
		titles := append(slices.Clone(menus), title)
		out = append(out, Entry{Loader: Grub, Title: strings.Join(titles, " > ")})
		places = append(places, grubPlace{titles: titles, id: id, numbers: slices.Clone(count)})
		return nil
	}
	defaults.environment(env)
	for c := range grubCommands(string(data)) {
		if slices.ContainsFunc(c.words, func(w string) bool { return len(w) > maxWord }) {
			return out, fmt.Errorf("a word of more than %d bytes", maxWord)
		}
		command, block := "", ""
		if len(c.words) > 0 {
			command = c.words[0]
		}
		switch isMenu := command == "menuentry" || command == "submenu"; {
		case c.closes:
			if len(blocks) == 0 {
				continue
			}
			switch blocks[len(blocks)-1] {
			case "menuentry":
				at = -1
			case "submenu":
				menus, count = menus[:len(menus)-1], count[:len(count)-1]
				count[len(count)-1]++
			}
			blocks = blocks[:len(blocks)-1]
			continue
		case isMenu && at >= 0:
			out[at].Foreign = "it has a menu of its own"
		case command == "submenu" && c.opens:
			if len(menus) == 8 {
				return out, errors.New("submenus in submenus, 8 deep")
			}
			title, _ := grubTitle(c.words[1:])
			menus, count, block = append(menus, title), append(count, 0), command
		case isMenu:
			title, id := grubTitle(c.words[1:])
			if err := begin(title, id); err != nil {
				return out, err
			}
			count[len(count)-1]++
			if !c.opens {
				out[len(out)-1].Foreign = "its commands are no block"
				continue
			}
			at, block = len(out)-1, command
		case c.startsSomething():
			e := at
			if e < 0 {
				if err := begin(command, ""); err != nil {
					return out, err
				}
				e = len(out) - 1
				out[e].Foreign = "outside of a menu entry: " + strings.TrimSpace(command+" "+c.text)
			}
			out[e].grubCommand(c)
		case at < 0:
			defaults.note(c.words)
		}
		if c.opens {
			if len(blocks) == maxBlocks {
				return out, fmt.Errorf("blocks in blocks, %d deep", maxBlocks)
			}
			blocks = append(blocks, block)
		}
	}
	for i := range out {
		if e := &out[i]; e.Kernel == "" && e.Foreign == "" {
			e.Foreign = "it names no kernel"
		}
	}
	defaults.mark(out, places)
	return out, nil
}

var grubStarts = []string{
	"linux", "linuxefi", "linux16", "initrd", "initrdefi", "initrd16", "devicetree", "boot", "chainloader", "configfile", "source",
	".", "normal", "multiboot", "multiboot2", "module", "module2", "ntldr", "xen_hypervisor", "extract_entries_configfile",
	"extract_entries_source", "legacy_configfile", "syslinux_configfile", "blscfg", "knetbsd", "kfreebsd", "kopenbsd",
	"legacy_kernel", "legacy_initrd", "appleloader", "freedos", "plan9", "truecrypt", "xnu_kernel", "xnu_kernel64", "eval", "exit",
}

// startsSomething reports whether a command has to do with what GRUB starts, or may
// have: its name is computed, or a function takes the name of one.
func (c *grubCommand) startsSomething() bool {
	if len(c.words) == 0 {
		return false
	}
	starts := func(name string) bool { return slices.Contains(grubStarts, name) }
	if c.words[0] == "function" && len(c.words) > 1 {
		return starts(c.words[1]) || slices.Contains([]string{"menuentry", "submenu", "set"}, c.words[1])
	}
	return c.computed || starts(c.words[0])
}

func (e *Entry) grubCommand(c grubCommand) {
	command, rest := c.words[0], c.text
	if c.computed {
		command = ""
	}
	switch command {
	case "linux", "linuxefi", "linux16":
		if e.Kernel != "" {
			e.Foreign = "it names two kernels"
		}
		e.Kernel, e.Options = rest, ""
		if i := strings.IndexAny(rest, " \t"); i >= 0 {
			e.Kernel, e.Options = rest[:i], strings.TrimSpace(rest[i:])
		}
	case "initrd", "initrdefi", "initrd16":
		e.Initrds = strings.Fields(rest)
	case "devicetree":
		e.Devicetree = rest
	case "boot":
	default:
		if e.Foreign == "" {
			e.Foreign = "it has the command " + c.words[0] + " " + rest
		}
	}
}

// grubTitle returns the title of a menu entry, which is the first word that is no
// option, and its id.
func grubTitle(words []string) (title, id string) {
	titled := false
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--id" && i+1 < len(words):
			i++
			id = words[i]
		case strings.HasPrefix(w, "--id="):
			id = strings.TrimPrefix(w, "--id=")
		case slices.Contains([]string{"--class", "--users", "--hotkey", "--source"}, w):
			i++
		case !titled && !strings.HasPrefix(w, "-"):
			title, titled = w, true
		}
	}
	return title, id
}
