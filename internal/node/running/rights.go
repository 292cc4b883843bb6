package running

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bits of a mode for the owner, the group, others, and all of these.
var modeBits = map[rune]uint32{
	'u': 0o700 | unix.S_ISUID, 'g': 0o070 | unix.S_ISGID, 'o': 0o007 | unix.S_ISVTX, 'a': 0o7777,
}

// chmod returns the mode of a file after a clause of chmod(1), with the umask of a service:
// octal digits, or such as "u+rx" or "go=u-w".
func chmod(mode uint32, clause string) (uint32, error) {
	if n, err := strconv.ParseUint(clause, 8, 12); err == nil {
		return uint32(n), nil
	}
	failed := fmt.Errorf("chmod: %q", clause)
	actions := strings.TrimLeft(clause, "ugoa")
	about, grants := concerned(clause[:len(clause)-len(actions)])
	if actions == "" {
		return 0, failed
	}
	for actions != "" {
		operator, named := actions[0], actions[1:]
		if next := strings.IndexAny(named, "+-="); next >= 0 {
			named = named[:next]
		}
		actions = actions[1+len(named):]
		bits, err := permissions(mode, named)
		if err != nil {
			return 0, failed
		}
		switch bits &= grants; operator {
		case '+':
			mode |= bits
		case '-':
			mode &^= bits
		case '=':
			mode = mode&^about | bits
		default:
			return 0, failed
		}
	}
	return mode, nil
}

// concerned returns the mode bits of the users that a clause of chmod(1) names, and the bits
// that it can grant. A clause that names nobody applies to all, except for the umask.
func concerned(who string) (about, grants uint32) {
	if who == "" {
		return 0o7777, 0o7777 &^ 0o022
	}
	for _, letter := range who {
		about |= modeBits[letter]
	}
	return about, about
}

// permissions returns the bits that a clause of chmod(1) names, for all classes of users:
// as letters, as octal digits, or as a copy of the present bits of a class.
func permissions(mode uint32, named string) (bits uint32, err error) {
	switch named {
	case "u":
		return mode >> 6 & 7 * 0o111, nil
	case "g":
		return mode >> 3 & 7 * 0o111, nil
	case "o":
		return mode & 7 * 0o111, nil
	}
	if n, err := strconv.ParseUint(named, 8, 12); err == nil {
		return uint32(n), nil
	}
	of := map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': unix.S_ISUID | unix.S_ISGID, 't': unix.S_ISVTX}
	if of['X'] = 0; mode&0o111 != 0 {
		of['X'] = 0o111
	}
	for _, p := range named {
		bit, ok := of[p]
		if !ok {
			return 0, fmt.Errorf("%q", p)
		}
		bits |= bit
	}
	return bits, nil
}

// capabilityNames are the names in capabilities(7), by number.
var capabilityNames = strings.Fields(`
	chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
	net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
	sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
	mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
`)

// capabilities are the capabilities of a file.
type capabilities struct {
	permitted, inheritable uint64
	effective              bool
}

// parseCapabilities reads the text that setcap(8) takes, such as "cap_setpcap,cap_net_raw+ep".
func parseCapabilities(text string) (c capabilities, err error) {
	for _, clause := range strings.Fields(text) {
		at := strings.IndexAny(clause, "+=")
		if at < 0 || strings.Trim(clause[at+1:], "eip") != "" {
			return c, fmt.Errorf("setcap: %q", text)
		}
		for _, name := range strings.Split(clause[:at], ",") {
			n := slices.Index(capabilityNames, strings.TrimPrefix(strings.ToLower(name), "cap_"))
			if n < 0 {
				return c, fmt.Errorf("setcap: %q", text)
			}
			if strings.Contains(clause[at:], "p") {
				c.permitted |= 1 << n
			}
			if strings.Contains(clause[at:], "i") {
				c.inheritable |= 1 << n
			}
		}
		c.effective = c.effective || strings.Contains(clause[at:], "e")
	}
	return c, nil
}

// capabilitiesOf reads the attribute security.capability of a file, "" for none.
func capabilitiesOf(attribute string) (c capabilities) {
	if len(attribute) < 20 {
		return c
	}
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32([]byte(attribute[4*i:]))) }
	return capabilities{word(1) | word(3)<<32, word(2) | word(4)<<32, word(0)&1 != 0}
}
