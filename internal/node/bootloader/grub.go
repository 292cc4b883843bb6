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
	m := &grubMenu{count: []int{0}, least: []int{0}, at: -1, drives: make(grubDrives)}
	modules := m.defaults.environment(env)
	for name := range m.defaults.kept {
		m.drives.add(name, Drive{Other: "grubenv"})
	}
	if modules {
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
		m.odd = m.odd || c.odd
		if c.closes {
			m.closeBrace()
			continue
		}
		if m.keywords(c); len(m.blocks) >= maxBlocks {
			return m.entries, fmt.Errorf("blocks in blocks, %d deep", maxBlocks)
		}
		block, err := m.command(c)
		if err != nil {
			return m.entries, err
		}
		if c.opens {
			m.blocks = append(m.blocks, block)
		}
	}
	var err error
	if m.odd = m.odd || m.function || len(m.blocks) > 0; m.odd {
		err = errors.New("something that is no command to GRUB, which leaves out the entry or all that follows")
		m.defaults.any = true
	}
	for i := range m.entries {
		m.entries[i].wantKernel()
		m.entries[i].menuDrives = m.drives
	}
	m.defaults.mark(m.entries, m.places)
	return m.entries, err
}

// grubMenu is what was read of a script.
type grubMenu struct {
	entries  []Entry
	places   []grubPlace // of the entries
	count    []int       // entries and submenus before, in each of the menus around
	least    []int       // of these, those that no condition leaves out
	menus    []string    // the titles of the submenus around
	perhaps  []bool      // which of these a condition may leave out
	blocks   []string    // those that are open: "menuentry", "submenu", "if", "then", "else", "loop", "do", "" for others
	empty    bool        // no command has come since the innermost one began
	function bool        // a block must come, that of a function
	odd      bool        // GRUB leaves a part out
	at       int         // the entry that the commands belong to, -1 for none
	defaults grubDefaults
	drives   grubDrives // of the commands that belong to no entry
}

func (m *grubMenu) begin(title, id string) (*Entry, error) {
	if len(m.entries) == maxEntries {
		return nil, errTooMany
	}
	titles := append(slices.Clone(m.menus), title)
	m.entries = append(m.entries, Entry{Loader: Grub, Title: strings.Join(titles, " > ")})
	m.places = append(m.places, grubPlace{titles: titles, id: id, numbers: slices.Clone(m.count),
		lowest: slices.Clone(m.least), perhaps: append(slices.Clone(m.perhaps), m.conditional())})
	return &m.entries[len(m.entries)-1], nil
}

// conditional reports whether GRUB may leave out what comes next in the innermost menu.
func (m *grubMenu) conditional() bool {
	around := m.blocks[slices.Index(m.blocks, "submenu")+1:]
	for i := slices.Index(around, "submenu"); i >= 0; i = slices.Index(around, "submenu") {
		around = around[i+1:]
	}
	return slices.ContainsFunc(around, func(block string) bool { return block != "menuentry" })
}

// counted counts an entry or a submenu of the innermost menu.
func (m *grubMenu) counted(perhaps bool) {
	// In a loop or a function it may also come several times, or later.
	m.defaults.any = m.defaults.any || slices.ContainsFunc(m.blocks, func(block string) bool { return block == "" || block == "loop" || block == "do" })
	last := len(m.count) - 1
	if m.count[last]++; !perhaps {
		m.least[last]++
	}
}

// keywords opens and closes the blocks that are no braces, and notes what GRUB refuses.
func (m *grubMenu) keywords(c grubCommand) {
	for _, word := range c.before {
		switch word {
		case "if":
			m.blocks = append(m.blocks, "if")
		case "while", "until":
			m.blocks = append(m.blocks, "loop")
		case "then":
			m.goOn("then", "if")
		case "elif":
			m.goOn("if", "then")
		case "else":
			m.goOn("else", "then")
		case "do":
			m.goOn("do", "loop")
		}
		m.empty = !isGrubPrefix(word)
	}
	name := ""
	if len(c.words) > 0 {
		name = c.words[0]
	}
	inFunction := m.function && c.opens && name == ""
	m.odd = m.odd || m.function && !inFunction || c.opens && name == "" && !inFunction
	m.function = false
	if c.hidden {
		m.empty = c.opens
		return
	}
	switch name {
	case "":
		m.empty = m.empty || c.opens
		return
	case "for":
		m.odd = m.odd || len(c.words) < 3 || c.words[2] != "in" || c.opens
		m.blocks = append(m.blocks, "loop")
	case "fi":
		m.endKeyword(c, "then", "else")
	case "done":
		m.endKeyword(c, "do")
	case "function":
		m.odd = m.odd || len(c.words) != 2 || len(m.blocks) > 0
		m.function = !c.opens
	}
	m.empty = c.opens
}

// isIn reports whether the innermost block is of one of the kinds.
func (m *grubMenu) isIn(kinds ...string) bool {
	return len(m.blocks) > 0 && slices.Contains(kinds, m.blocks[len(m.blocks)-1])
}

// goOn replaces the innermost block, if it is of a kind and has a command.
func (m *grubMenu) goOn(with, kind string) {
	if !m.isIn(kind) || m.empty {
		m.odd = true
		return
	}
	m.blocks[len(m.blocks)-1] = with
}

// endKeyword closes the innermost block, if it is of one of the kinds and has a command.
func (m *grubMenu) endKeyword(c grubCommand, kinds ...string) {
	m.odd = m.odd || m.empty || len(c.words) > 1 || c.opens || !m.isIn(kinds...)
	if m.isIn(kinds...) {
		m.blocks = m.blocks[:len(m.blocks)-1]
	}
}

// closeBrace closes the innermost block in braces.
func (m *grubMenu) closeBrace() {
	m.odd, m.empty = m.odd || m.empty, false
	for m.isIn("if", "then", "else", "loop", "do") {
		m.odd, m.blocks = true, m.blocks[:len(m.blocks)-1]
	}
	last := len(m.blocks) - 1
	if last < 0 {
		m.odd = true
		return
	}
	block := m.blocks[last]
	m.blocks = m.blocks[:last]
	switch block {
	case "menuentry":
		m.at = -1
	case "submenu":
		perhaps := m.perhaps[len(m.perhaps)-1]
		m.menus, m.perhaps = m.menus[:len(m.menus)-1], m.perhaps[:len(m.perhaps)-1]
		m.count, m.least = m.count[:len(m.count)-1], m.least[:len(m.least)-1]
		m.counted(perhaps)
	}
}

// command interprets a command, and returns the kind of the block that it opens.
func (m *grubMenu) command(c grubCommand) (block string, err error) {
	name := ""
	if len(c.words) > 0 {
		name = c.words[0]
		m.notesDrives().note(&c)
	}
	switch isMenu := name == "menuentry" || name == "submenu"; {
	case isMenu && m.at >= 0:
		m.entries[m.at].Foreign = "it has a menu of its own"
	case name == "submenu" && c.opens:
		if len(m.menus) == 8 {
			return "", errors.New("submenus in submenus, 8 deep")
		}
		title, _ := grubTitle(c.words[1:])
		m.perhaps = append(m.perhaps, m.conditional())
		m.menus, m.count, m.least = append(m.menus, title), append(m.count, 0), append(m.least, 0)
		return name, nil
	case isMenu:
		e, err := m.begin(grubTitle(c.words[1:]))
		if err != nil {
			return "", err
		}
		m.counted(m.conditional())
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
		m.defaults.note(c.words)
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

// notesDrives returns the drives of the entry that the commands belong to, or of the menu.
func (m *grubMenu) notesDrives() grubDrives {
	if m.at < 0 {
		return m.drives
	}
	e := &m.entries[m.at]
	if e.drives == nil {
		e.drives = make(grubDrives)
	}
	return e.drives
}

var grubStarts = []string{
	"linux", "linuxefi", "linux16", "initrd", "initrdefi", "initrd16", "devicetree", "boot", "chainloader", "configfile", "source",
	".", "normal", "normal_exit", "multiboot", "multiboot2", "module", "module2", "ntldr", "xen_hypervisor", "xen_module",
	"extract_entries_configfile", "extract_entries_source", "extract_legacy_entries_configfile", "extract_legacy_entries_source",
	"extract_syslinux_entries_configfile", "extract_syslinux_entries_source", "legacy_configfile", "legacy_source",
	"syslinux_configfile", "syslinux_source", "blscfg", "uki", "knetbsd", "kfreebsd", "kopenbsd", "kfreebsd_module", "kfreebsd_module_elf",
	"knetbsd_module", "knetbsd_module_elf", "kopenbsd_ramdisk", "legacy_kernel", "legacy_initrd", "legacy_initrd_nounzip", "appleloader",
	"freedos", "plan9", "pxechainloader", "truecrypt", "xnu_kernel", "xnu_kernel64", "xnu_kext", "xnu_kextdir", "xnu_mkext", "xnu_ramdisk",
	"xnu_resume", "eval", "exit", "bootnext", "fpswa",
	// They alter memory, or have the firmware or the kernel run a program.
	"acpi", "write_byte", "write_word", "write_dword", "outb", "outw", "outl", "setpci", "wrmsr", "loadbios", "fakebios", "drivemap",
	"efiemu_loadcore", "gdbstub", "xnu_devprop_load",
}

// loadsModules reports whether a command says from where GRUB loads a module that has
// no name of NixOS's: modules are programs.
func (c *grubCommand) loadsModules() bool {
	switch c.words[0] {
	case "insmod":
		return slices.ContainsFunc(c.words[1:], func(w string) bool { return strings.ContainsAny(w, "/($") })
	case "load_env":
		// Of the menu's own file, which is read here, it needs no name.
		return slices.ContainsFunc(c.words[1:], func(w string) bool {
			return strings.HasPrefix(w, "--file") || isShort(w) && strings.Contains(w, "f") || strings.Contains(w, "$")
		})
	}
	return slices.ContainsFunc(c.sets(), func(name string) bool {
		return name == "prefix" || strings.Contains(name, "$") || name == "" && c.words[0] != "search" // which finds a disk, no place
	})
}

// isShort reports whether a word is one or more short options: "-s", "-us".
func isShort(w string) bool { return len(w) > 1 && w[0] == '-' && w[1] != '-' }

// grubSetters are the commands with an option for the name of a variable, apart from those
// that [Entry] counts as a start.
var grubSetters = []string{
	"search", "regexp", "probe", "smbios", "rdmsr", "inb", "inw", "inl", "read_byte", "read_word", "read_dword", "tr",
}

// sets returns the names of the variables that a command may give a value, each as it is
// written; "" stands for any, where the value of a variable may be such an option.
func (c *grubCommand) sets() (names []string) {
	first, words := c.words[0], c.words[1:]
	named := func(w string) string {
		name, _, _ := strings.Cut(w, "=")
		return name
	}
	switch {
	case first == "set":
		for _, w := range words {
			names = append(names, named(w))
		}
		return names
	case first == "for" && len(words) > 0:
		return words[:1]
	case strings.Contains(first, "="):
		return []string{named(first)}
	case first == "read" || first == "net_get_dhcp_option", strings.HasPrefix(first, "search"+"."), strings.HasPrefix(first, "search_"):
		names = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return first[0] != 'r' && strings.Contains(w, "/") })
	}
	if slices.Contains([]string{"[", "test", "echo"}, first) {
		return nil
	}
	if slices.Contains(grubSetters, first) && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, "$") }) {
		names = append(names, "")
	}
	// "--set NAME", "--set=NAME", "-s NAME", "-us NAME", "--set NUMBER:NAME"
	for i, w := range words {
		value, is := strings.CutPrefix(w, "--set")
		if !is {
			value, is = strings.CutPrefix(w, "-s")
		}
		if isShort(w) && strings.HasSuffix(w, "s") {
			value, is = "", true
		}
		switch {
		case !is:
			continue
		case value == "" && i+1 < len(words):
			value = words[i+1]
		}
		value = strings.TrimPrefix(value, "=")
		names = append(names, value[strings.LastIndexByte(value, ':')+1:])
	}
	return names
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
		case w == "--":
			if !titled && i+1 < len(words) {
				title = words[i+1]
			}
			return title, id
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
