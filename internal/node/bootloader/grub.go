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
	m := &grubMenu{count: []int{0}, at: -1}
	if m.defaults.environment(env) {
		e, err := m.begin("grubenv", "")
		if err != nil {
			return nil, err
		}
		e.Foreign = "outside of a menu entry: grubenv sets prefix, where the modules are"
	}
	for c := range grubCommands(string(data)) {
		if slices.ContainsFunc(c.words, func(w string) bool { return len(w) > maxWord }) {
			return m.entries, fmt.Errorf("a word of more than %d bytes", maxWord)
		}
		if c.closes {
			m.closeBlock()
			continue
		}
		block, err := m.command(c)
		if err != nil {
			return m.entries, err
		}
		if !c.opens {
			continue
		}
		if len(m.blocks) == maxBlocks {
			return m.entries, fmt.Errorf("blocks in blocks, %d deep", maxBlocks)
		}
		m.blocks = append(m.blocks, block)
	}
	for i := range m.entries {
		m.entries[i].wantKernel()
	}
	m.defaults.mark(m.entries, m.places)
	return m.entries, nil
}

// grubMenu is what was read of a script.
type grubMenu struct {
	entries  []Entry
	places   []grubPlace // of the entries
	count    []int       // entries and submenus before, in each of the menus around
	menus    []string    // the titles of the submenus around
	blocks   []string    // those that are open: "menuentry", "submenu", "" for others
	at       int         // the entry that the commands belong to, -1 for none
	defaults grubDefaults
}

func (m *grubMenu) begin(title, id string) (*Entry, error) {
	if len(m.entries) == maxEntries {
		return nil, errTooMany
	}
	titles := append(slices.Clone(m.menus), title)
	m.entries = append(m.entries, Entry{Loader: Grub, Title: strings.Join(titles, " > ")})
	m.places = append(m.places, grubPlace{titles: titles, id: id, numbers: slices.Clone(m.count)})
	return &m.entries[len(m.entries)-1], nil
}

func (m *grubMenu) closeBlock() {
	last := len(m.blocks) - 1
	if last < 0 {
		return
	}
	switch m.blocks[last] {
	case "menuentry":
		m.at = -1
	case "submenu":
		m.menus, m.count = m.menus[:len(m.menus)-1], m.count[:len(m.count)-1]
		m.count[len(m.count)-1]++
	}
	m.blocks = m.blocks[:last]
}

// command interprets a command, and returns the kind of the block that it opens.
func (m *grubMenu) command(c grubCommand) (block string, err error) {
	name := ""
	if len(c.words) > 0 {
		name = c.words[0]
	}
	switch isMenu := name == "menuentry" || name == "submenu"; {
	case isMenu && m.at >= 0:
		m.entries[m.at].Foreign = "it has a menu of its own"
	case name == "submenu" && c.opens:
		if len(m.menus) == 8 {
			return "", errors.New("submenus in submenus, 8 deep")
		}
		title, _ := grubTitle(c.words[1:])
		m.menus, m.count = append(m.menus, title), append(m.count, 0)
		return name, nil
	case isMenu:
		e, err := m.begin(grubTitle(c.words[1:]))
		if err != nil {
			return "", err
		}
		m.count[len(m.count)-1]++
		if !c.opens {
			e.Foreign = "its commands are no block"
			return "", nil
		}
		m.at = len(m.entries) - 1
		return name, nil
	case c.startsSomething():
		if m.at >= 0 {
			m.entries[m.at].grubCommand(c)
			return "", nil
		}
		e, err := m.begin(name, "")
		if err != nil {
			return "", err
		}
		e.Foreign = "outside of a menu entry: " + strings.TrimSpace(name+" "+c.text)
		e.grubCommand(c)
	case m.at < 0:
		m.defaults.note(c.words)
	}
	return "", nil
}

var grubStarts = []string{
	"linux", "linuxefi", "linux16", "initrd", "initrdefi", "initrd16", "devicetree", "boot", "chainloader", "configfile", "source",
	".", "normal", "multiboot", "multiboot2", "module", "module2", "ntldr", "xen_hypervisor", "extract_entries_configfile",
	"extract_entries_source", "legacy_configfile", "syslinux_configfile", "blscfg", "knetbsd", "kfreebsd", "kopenbsd",
	"legacy_kernel", "legacy_initrd", "appleloader", "freedos", "plan9", "truecrypt", "xnu_kernel", "xnu_kernel64", "eval", "exit",
	// They alter memory, or have the firmware or the kernel run a program.
	"acpi", "write_byte", "write_word", "write_dword", "outb", "outw", "outl", "setpci", "loadbios", "fakebios",
}

// loadsModules reports whether a command says from where GRUB loads a module that has
// no name of NixOS's: modules are programs.
func (c *grubCommand) loadsModules() bool {
	switch {
	case strings.HasPrefix(c.words[0], "prefix="):
		return true
	case c.words[0] == "set":
		return slices.ContainsFunc(c.words[1:], func(w string) bool { return strings.HasPrefix(w, "prefix=") })
	case c.words[0] == "insmod":
		return slices.ContainsFunc(c.words[1:], func(w string) bool { return strings.ContainsAny(w, "/($") })
	}
	return false
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
	return c.computed || starts(c.words[0]) || c.loadsModules()
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
		if e.Initrds != nil {
			e.Foreign = "it has the command " + command + " twice"
		}
		e.Initrds = strings.Fields(rest)
	case "devicetree":
		if e.Devicetree != "" {
			e.Foreign = "it has the command devicetree twice"
		}
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
