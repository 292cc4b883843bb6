package filediff

import (
	"encoding/binary"
	"fmt"

	"every.channel/ec-verify/pkg/excerpt"
)

// superblock is the offset of the first superblock, superblockSize its size, in bytes;
// the kernel's Documentation/filesystems/ext4/super.rst.
const superblock, superblockSize = 1024, 1024

func isExt4(data []byte) bool {
	return len(data) >= superblock+superblockSize && data[superblock+0x38] == 0x53 && data[superblock+0x39] == 0xef
}

func littleEndian32(data []byte, at int) int64 {
	if len(data) < at+4 {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(data[at:]))
}

// ext4Fields are the fields of a superblock that vary from build to build.
var ext4Fields = []struct {
	name     string
	at, size int
	cause    CauseName
}{
	{"time of the last mount", 0x2c, 4, Date},
	{"time of the last write", 0x30, 4, Date},
	{"time of the last check", 0x40, 4, Date},
	{"UUID", 0x68, 16, RandomID},
	{"hash seed of directories", 0xec, 16, RandomID},
	{"time of making", 0x108, 4, Date},
	{"checksum", 0x3fc, 4, ContentHash},
}

// ext4 compares the superblocks field by field, and the rest byte by byte.
func (c *comparison) ext4(r *Result, a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	accounted, fields := int64(0), 0
	for n, start := range superblocks(a) {
		if !isSuperblock(b, start) {
			continue
		}
		for _, f := range ext4Fields {
			from, to := start+f.at, start+f.at+f.size
			differ := measure(a[from:to], b[from:to]).Count
			if differ == 0 {
				continue
			}
			accounted += differ
			fields++
			if n > 0 {
				continue // a copy
			}
			show := func(data []byte) string {
				if f.cause == Date {
					return when(littleEndian32(data, from))
				}
				return fmt.Sprintf("%x", data[from:to])
			}
			r.part(Part{Kind: "field", Name: excerpt.Raw(f.name), Change: "changed", A: excerpt.Raw(show(a)), B: excerpt.Raw(show(b))}, c.limits)
			r.caused(Cause{Name: f.cause, Where: excerpt.Raw("superblock: " + f.name), A: excerpt.Raw(show(a)), B: excerpt.Raw(show(b))})
		}
	}
	if fields == 0 {
		return false
	}
	if r.Explained = accounted == r.Count; !r.Explained {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d bytes that differ are outside of the named fields", r.Count-accounted, r.Count))
		r.Window = window(a, b, r.First)
	}
	return true
}

// superblocks returns the offsets of the superblock and its copies.
func superblocks(data []byte) []int {
	list := []int{superblock}
	shift := littleEndian32(data, superblock+0x18)
	perGroup, first := littleEndian32(data, superblock+0x20), littleEndian32(data, superblock+0x14)
	if shift > 6 || perGroup < 256 {
		return list
	}
	block := int64(1024) << shift
	for group := int64(1); ; group++ {
		at := (group*perGroup + first) * block
		if at+superblockSize > int64(len(data)) {
			return list
		}
		if isSuperblock(data, int(at)) {
			list = append(list, int(at))
		}
	}
}

func isSuperblock(data []byte, at int) bool {
	return data[at+0x38] == 0x53 && data[at+0x39] == 0xef
}
