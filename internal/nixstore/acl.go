package nixstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/pkg/excerpt"
)

// maxAccessList limits an access control list, in bytes; the kernel's limit for an
// extended attribute is 64 KiB too.
const maxAccessList = 64 << 10

// The kinds of entries of a POSIX access control list, and the one permission that
// matters here; see linux/posix_acl_xattr.h.
const (
	aclVersion = 2
	aclUser    = 0x02
	aclGroup   = 0x08
	aclMask    = 0x10
	aclWrite   = 0x2
)

// accessList is what a POSIX access control list grants beyond the mode, which covers the
// owner, the owning group and everybody.
type accessList struct {
	fresh   bool     // for entries yet to be made
	writers []string // "user 1000", "group 100", who may write
}

// parseAccessList parses the attribute called name: a version, and entries of kind,
// permissions and ID, all little-endian.
func parseAccessList(name string, data []byte) (accessList, error) {
	list := accessList{fresh: strings.HasSuffix(name, "_default")}
	const header, size = 4, 8
	if len(data) < header || (len(data)-header)%size != 0 || binary.LittleEndian.Uint32(data) != aclVersion {
		return list, errors.New("malformed access control list")
	}
	mask := uint16(aclWrite)
	for entry := data[header:]; len(entry) > 0; entry = entry[size:] {
		kind, perm, id := binary.LittleEndian.Uint16(entry), binary.LittleEndian.Uint16(entry[2:]), binary.LittleEndian.Uint32(entry[4:])
		switch {
		case kind == aclMask:
			mask = perm
		case kind == aclUser && perm&aclWrite != 0 && id != 0:
			list.writers = append(list.writers, fmt.Sprintf("user %d", id))
		case kind == aclGroup && perm&aclWrite != 0 && id != 0:
			list.writers = append(list.writers, fmt.Sprintf("group %d", id))
		}
	}
	if mask&aclWrite == 0 {
		// The mask removes a permission from everybody but the owner.
		list.writers = nil
	}
	return list, nil
}

// maxWriters limits how many are named.
const maxWriters = 5

// lets says which entry of a directory's list lets others replace its contents; "" for
// none.
func (l *accessList) lets(st *unix.Stat_t, store bool) string {
	if len(l.writers) == 0 || !store && st.Mode&unix.S_ISVTX != 0 {
		return ""
	}
	who := excerpt.List(l.writers, ", ", maxWriters)
	if l.fresh {
		return "a default access control list that lets write to new entries: " + who
	}
	return "an access control list that lets write: " + who
}
