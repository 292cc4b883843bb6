package running

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// chmod returns mode after a clause of chmod(1), with the umask of a service: octal
// digits, or such as "u+rx".
func chmod(mode uint32, clause string) (uint32, error) {
	if strings.Trim(clause, "01234567") == "" {
		var n uint32
		_, err := fmt.Sscanf(clause, "%o", &n)
		return n, err
	}
	at := strings.IndexAny(clause, "+-=")
	if at < 0 {
		return 0, fmt.Errorf("chmod: %q", clause)
	}
	who, operator := clause[:at], clause[at]
	if who == "" {
		who = "a"
	}
	var mask, bits uint32 // of those that it is about, and of those that it names
	for _, w := range who {
		switch w {
		case 'u':
			mask |= 0o700 | unix.S_ISUID
		case 'g':
			mask |= 0o070 | unix.S_ISGID
		case 'o':
			mask |= 0o007
		case 'a':
			mask |= 0o777 | unix.S_ISUID | unix.S_ISGID
		default:
			return 0, fmt.Errorf("chmod: %q", clause)
		}
	}
	for _, p := range clause[at+1:] {
		bit, ok := map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111, 's': unix.S_ISUID | unix.S_ISGID}[p]
		if !ok {
			return 0, fmt.Errorf("chmod: %q", clause)
		}
		bits |= bit
	}
	if at == 0 {
		bits &^= 0o022
	}
	switch operator {
	case '+':
		return mode | bits&mask, nil
	case '-':
		return mode &^ (bits & mask), nil
	}
	return mode&^mask | bits&mask, nil
}

// capabilityNames are those of capabilities(7), by their numbers.
var capabilityNames = strings.Fields(`
	chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
	net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
	sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
	mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
`)

// capabilities are those of a file.
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
