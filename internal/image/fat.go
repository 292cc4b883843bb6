package image

import (
	"bytes"
	"io"
	"math/bits"
)

const (
	fatBoot    = 512       // bytes of the boot sector that are read
	fatRecord  = 32        // bytes of a directory record
	maxFATDir  = 64 << 10  // records of one directory, as Linux and Windows allow
	maxFATRead = 4 << 20   // bytes of directories that are read from one FAT
	maxExtents = 256 << 10 // pieces of one file
	fatWindow  = 4 << 10   // bytes of the table that are read at once
	fatEnd     = -1
)

// FAT is a FAT12, FAT16 or FAT32 file system, such as an EFI system partition. Its files are
// read by name; as in a firmware, names are case-insensitive. It is not safe for concurrent
// use.
//
// Firmwares, boot loaders and Linux read a valid file system alike. One that they could
// read differently is refused: two files that one name leads to, a long name that belongs
// to no file, two tables that differ, a number of clusters for which GRUB and Linux assume
// tables of different width.
type FAT struct {
	r        io.ReaderAt
	entry    int   // bits of an entry of the table: 12, 16 or 32
	table    int64 // offset of the first table
	tables   int64 // how many there are, all the same
	perTable int64 // bytes of a table
	data     int64 // offset of cluster 2
	cluster  int64 // bytes of a cluster
	clusters int64 // number of clusters; the last is clusters+1
	root     fatNode
	left     int64 // bytes of directories that may still be read
	listed   map[fatPlace][]fatNode

	window   [fatWindow]byte
	windowAt int64 // offset in the table; -1 for none
}

// fatPlace is the beginning of a file or directory.
type fatPlace struct {
	cluster int64
	fixed   extent // the root of FAT12 and FAT16, which is not in clusters
}

// OpenFAT reads the head of the file system of size bytes in r. It returns [ErrMalformed] or
// [ErrUnsupported] if r has no FAT, or one that readers could read differently.
func OpenFAT(r io.ReaderAt, size int64) (*FAT, error) {
	var b [fatBoot]byte
	if err := readAt(r, b[:], 0); err != nil {
		return nil, err
	}
	if b[510] != 0x55 || b[511] != 0xaa || b[0] != 0xeb && b[0] != 0xe9 {
		return nil, malformed("it does not begin like a FAT file system")
	}
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, tables, rootRecords := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	total16, total32 := int64(le.Uint16(b[19:])), int64(le.Uint32(b[32:]))
	total, perTable := total16, int64(le.Uint16(b[22:]))
	if total16 == 0 {
		total = total32
	}
	is32 := perTable == 0
	if is32 {
		perTable = int64(le.Uint32(b[36:]))
	}
	f := &FAT{r: r, left: maxFATRead, listed: make(map[fatPlace][]fatNode), windowAt: -1}
	rootSize := rootRecords * fatRecord
	switch {
	case sector < 512 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1: //nolint:gosec // it is not negative
		return nil, malformed("a FAT with sectors of %d bytes", sector)
	case bits.OnesCount64(uint64(perCluster)) != 1: //nolint:gosec // it is not negative
		return nil, malformed("a FAT with clusters of %d sectors", perCluster)
	case reserved == 0 || tables == 0 || tables > 4 || perTable == 0:
		return nil, malformed("a FAT with %d reserved sectors and %d tables of %d", reserved, tables, perTable)
	case b[21] != 0xf0 && b[21] < 0xf8:
		return nil, malformed("a FAT on a medium of the kind %#x", b[21])
	case total16 != 0 && total32 != 0 && total16 != total32:
		return nil, unsupported("a FAT with two sizes")
	case total*sector > size:
		return nil, malformed("a FAT of %d bytes in %d", total*sector, size)
	case is32 == (rootRecords > 0), rootSize%sector != 0:
		return nil, malformed("a FAT with %d records in its root", rootRecords)
	case is32 && (le.Uint16(b[40:]) != 0 || le.Uint16(b[42:]) != 0):
		return nil, unsupported("a FAT with one active table of several, or of another version")
	}
	f.table, f.tables, f.perTable, f.cluster = reserved*sector, tables, perTable*sector, perCluster*sector
	rootAt := f.table + f.tables*f.perTable
	f.data = rootAt + rootSize
	if err := f.countClusters(total*sector, is32); err != nil {
		return nil, err
	}
	f.root = fatNode{isDir: true, at: fatPlace{fixed: extent{rootAt, rootSize}}}
	if is32 {
		f.root.at = fatPlace{cluster: int64(le.Uint32(b[44:]))}
	}
	return f, nil
}

// countClusters sets the number of clusters of a file system of size bytes, and the width
// of a table's entries, which follows from it.
func (f *FAT) countClusters(size int64, is32 bool) error {
	f.clusters = (size - f.data) / f.cluster
	switch {
	case f.data >= size || f.clusters == 0:
		return malformed("a FAT without room for files")
	case is32:
		f.entry = 32
	case f.clusters < 4085:
		f.entry = 12
	case f.clusters <= 4086: // GRUB reads these as FAT12, and Linux as FAT16
		return unsupported("a FAT of %d clusters", f.clusters)
	case f.clusters < 65525:
		f.entry = 16
	default:
		return malformed("a FAT16 of %d clusters", f.clusters)
	}
	if f.clusters > 0x0ffffff4 || (f.clusters+2)*int64(f.entry) > f.perTable*8 {
		return malformed("the table of a FAT is shorter than its %d clusters", f.clusters)
	}
	return nil
}

// next returns the cluster that follows one in its file, or fatEnd.
func (f *FAT) next(cluster int64) (int64, error) {
	var b [4]byte
	at, n := cluster*int64(f.entry)/8, int64(f.entry+7)/8
	for i := range n {
		v, err := f.tableByte(at + i)
		if err != nil {
			return 0, err
		}
		b[i] = v
	}
	value := int64(le.Uint32(b[:]))
	var last int64
	switch f.entry {
	case 12:
		if cluster%2 == 1 {
			value >>= 4
		}
		value, last = value&0xfff, 0xff8
	case 16:
		last = 0xfff8
	default:
		// To GRUB the four upper bits are a part of the number, and to Linux not. Of an
		// end they change nothing.
		if low := value & 0x0fffffff; low != value && low < 0x0ffffff8 {
			return 0, unsupported("a FAT32 with the number of a cluster %#x", value)
		}
		value, last = value&0x0fffffff, 0x0ffffff8
	}
	if value >= last {
		return fatEnd, nil
	}
	return value, nil
}

func (f *FAT) tableByte(at int64) (byte, error) {
	begin := at &^ (fatWindow - 1)
	if begin != f.windowAt {
		f.windowAt = -1
		size := min(fatWindow, f.perTable-begin)
		if size <= at-begin {
			return 0, malformed("the table of a FAT ends too early")
		}
		if err := readAt(f.r, f.window[:size], f.table+begin); err != nil {
			return 0, err
		}
		for i := range f.tables - 1 {
			var other [fatWindow]byte
			if err := readAt(f.r, other[:size], f.table+(i+1)*f.perTable+begin); err != nil {
				return 0, err
			}
			if !bytes.Equal(f.window[:size], other[:size]) {
				return 0, unsupported("a FAT with two tables that differ")
			}
		}
		f.windowAt = begin
	}
	return f.window[at-begin], nil
}

// chain returns the places of the clusters of a file or directory, of at most most bytes.
// With whole, the chain must have at least that many bytes.
func (f *FAT) chain(cluster, most int64, whole bool) (parts []extent, err error) {
	if whole && most > f.clusters*f.cluster {
		return nil, malformed("a file of %d bytes in a FAT of %d clusters", most, f.clusters)
	}
	for left := most; left > 0; left -= f.cluster {
		if cluster == fatEnd && !whole {
			break
		}
		if cluster < 2 || cluster > f.clusters+1 {
			return nil, malformed("a file in a FAT is cut short, or has no cluster %d", cluster)
		}
		off := f.data + (cluster-2)*f.cluster
		if k := len(parts) - 1; k >= 0 && parts[k].off+parts[k].size == off {
			parts[k].size += f.cluster
		} else {
			parts = append(parts, extent{off, f.cluster})
		}
		if len(parts) > maxExtents {
			return nil, tooLarge("a file in a FAT has more than %d pieces", maxExtents)
		}
		if cluster, err = f.next(cluster); err != nil {
			return nil, err
		}
	}
	if !whole && cluster != fatEnd {
		return nil, tooLarge("a directory of more than %d bytes", most)
	}
	return parts, nil
}
