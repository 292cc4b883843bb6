package image

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"every.channel/ec-verify/pkg/nar"
)

// The magic numbers of cpio archives that Linux unpacks: without and with checksums.
const (
	magicNewc  = "070701"
	magicNewcC = "070702"
)

func isCpio(head []byte) bool {
	return strings.HasPrefix(string(head), magicNewc) || strings.HasPrefix(string(head), magicNewcC)
}

// walkInitrd walks an initial RAM disk as Linux unpacks it: a sequence of archives, each
// plain or compressed, with zeros between them.
func (w *walker) walkInitrd(r *bufio.Reader, pos func() int64, inside []string) error {
	for {
		if err := skipZeros(r, 1<<20); err != nil {
			return err
		}
		head, err := r.Peek(6)
		if len(head) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		at := pos()
		switch c := compressionOf(head); {
		case isCpio(head):
			if err := w.walkCpio(r, at, inside); err != nil {
				return err
			}
		case c != plain || isSkippable(head):
			if c == plain {
				c = zstandard
			}
			z, err := w.decompress(r, c, true)
			if err != nil {
				return err
			}
			inner := bufio.NewReaderSize(w.metered(z), bufferSize)
			err = w.walkPlain(inner, at, inside)
			if err == nil {
				// To the end of the frame, so that r is positioned after it.
				_, err = io.Copy(io.Discard, inner)
			}
			z.Close()
			if err != nil {
				return err
			}
		default:
			return malformed("an initrd continues with %q, which is neither a cpio archive nor gzip, zstd or xz", head)
		}
	}
}

// walkPlain walks the archives in one decompressed part.
func (w *walker) walkPlain(r *bufio.Reader, at int64, inside []string) error {
	for {
		if err := skipZeros(r, 1<<20); err != nil {
			return err
		}
		head, err := r.Peek(6)
		switch {
		case len(head) == 0 && errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case !isCpio(head):
			return malformed("a part of an initrd begins with %q, which is no cpio archive", head)
		}
		if err := w.walkCpio(r, at, inside); err != nil {
			return err
		}
	}
}

// skipZeros skips the padding between archives, at most limit bytes.
func skipZeros(r *bufio.Reader, limit int) error {
	for range limit {
		b, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
	return malformed("more than %d zeros between two archives", limit)
}

const cpioHeader = 6 + 13*8

// walkCpio walks one archive and leaves r after its trailer.
func (w *walker) walkCpio(r *bufio.Reader, at int64, inside []string) error {
	linked := newCpioLinks(w)
	defer linked.drop()
	for {
		m, link, name, err := readCpioHeader(r)
		if err != nil {
			return err
		}
		if name == "TRAILER!!!" {
			if m.Size != 0 { // Linux skips them, and what they seem to hold
				return malformed("the end of a cpio archive has %d bytes", m.Size)
			}
			return linked.end()
		}
		if m.Path, err = cleanPath(name); err != nil {
			return err
		}
		m.Inside, m.In, m.Segment = inside, Initrd, at
		size := m.Size
		padded := (4 - size%4) % 4
		if m.Type == nar.Symlink {
			if size > maxTarget {
				return malformed("the target of %s has %d bytes", quote(name), size)
			}
			target := make([]byte, size)
			if _, err := io.ReadFull(r, target); err != nil {
				return noEOF(err)
			}
			m.Target, m.Size, size = string(target), 0, 0
		}
		if m.Type != nar.Regular {
			m.Size = 0
		}
		names := []Member{m}
		if m.Type == nar.Regular && link.count > 1 {
			if names, err = linked.add(link.file, m); err != nil {
				return err
			}
		}
		if len(names) > 0 {
			if err := w.members(names, io.LimitReader(r, size), size); err != nil {
				return err
			}
		}
		if _, err := r.Discard(int(padded)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}

// cpioLink identifies a node's file, and says how many names it has, inside the archive
// or outside.
type cpioLink struct {
	file  cpioFile
	count uint32
}

// readCpioHeader reads the header and the name of one node.
func readCpioHeader(r *bufio.Reader) (Member, cpioLink, string, error) {
	var head [cpioHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Member{}, cpioLink{}, "", noEOF(err)
	}
	if !isCpio(head[:]) {
		return Member{}, cpioLink{}, "", malformed("a cpio header begins with %q", head[:6])
	}
	var field [13]uint32
	for i := range field {
		var raw [4]byte
		if _, err := hex.Decode(raw[:], head[6+8*i:14+8*i]); err != nil {
			return Member{}, cpioLink{}, "", malformed("a cpio header has %q in place of a number", head[6+8*i:14+8*i])
		}
		field[i] = uint32(raw[0])<<24 | uint32(raw[1])<<16 | uint32(raw[2])<<8 | uint32(raw[3])
	}
	mode, nameSize := field[1], field[11]
	if nameSize == 0 || nameSize > maxPath {
		return Member{}, cpioLink{}, "", malformed("a name of %d bytes in a cpio archive", nameSize)
	}
	name := make([]byte, nameSize)
	if _, err := io.ReadFull(r, name); err != nil {
		return Member{}, cpioLink{}, "", noEOF(err)
	}
	if name[nameSize-1] != 0 {
		return Member{}, cpioLink{}, "", malformed("a name in a cpio archive does not end")
	}
	if _, err := r.Discard(int((4 - (cpioHeader+nameSize)%4) % 4)); err != nil {
		return Member{}, cpioLink{}, "", noEOF(err)
	}
	m := Member{Mode: mode & 0o7777, Type: typeOf(mode), UID: field[2], GID: field[3], MTime: int64(field[5]), Size: int64(field[6])}
	return m, cpioLink{cpioFile{major: field[7], minor: field[8], inode: field[0]}, field[4]}, string(name[:nameSize-1]), nil
}

// typeOf returns the type in an st_mode; zero if a NAR cannot represent it.
func typeOf(mode uint32) nar.Type {
	switch mode & 0o170000 {
	case 0o100000:
		return nar.Regular
	case 0o040000:
		return nar.Directory
	case 0o120000:
		return nar.Symlink
	}
	return 0
}
