package bootloader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// readImages reads the unified kernel images in EFI/Linux, type 2 of the boot
// loader specification: EFI programs that hold kernel, initrd and command line.
func readImages(dir Dir, number int, note func(string, error)) ([]Entry, error) {
	names, err := dir.Names("EFI/Linux", maxEntries)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []Entry
	for _, name := range names {
		if !strings.HasSuffix(strings.ToLower(name), ".efi") {
			continue
		}
		file := "EFI/Linux/" + name
		e, err := readImage(dir, file)
		if err != nil {
			note(file, err)
			continue
		}
		e.Dir, e.tries = number, triesOf(name)
		out = append(out, e)
	}
	return out, nil
}

func readImage(dir Dir, file string) (Entry, error) {
	f, err := dir.Open(file)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	e := Entry{Loader: SystemdBoot, File: file, Foreign: "it is a unified kernel image: only its command line is checked"}
	options, err := Section(f, ".cmdline", maxEntry)
	if err != nil {
		return Entry{}, err
	}
	e.Options = strings.TrimSpace(strings.TrimRight(string(options), "\x00"))
	if e.Options == "" {
		e.Foreign = "it is an EFI program without a command line"
	}
	return e, nil
}

// Section returns a section of an EFI program, of at most limit bytes; nil where it
// has none of that name.
func Section(f File, name string, limit int64) ([]byte, error) {
	malformed := func(what string) error { return fmt.Errorf("it is no EFI program: %s", what) }
	dos := make([]byte, 0x40)
	if _, err := f.ReadAt(dos, 0); err != nil {
		return nil, malformedRead(err)
	}
	if string(dos[:2]) != "MZ" {
		return nil, malformed("it does not begin with MZ")
	}
	at := int64(binary.LittleEndian.Uint32(dos[0x3c:]))
	head := make([]byte, 24)
	if _, err := f.ReadAt(head, at); err != nil {
		return nil, malformedRead(err)
	}
	if string(head[:4]) != "PE\x00\x00" {
		return nil, malformed("it has no PE header")
	}
	const maxSections = 96 // as Windows has it
	count := int(binary.LittleEndian.Uint16(head[6:]))
	if count > maxSections {
		return nil, malformed(fmt.Sprintf("it has %d sections", count))
	}
	table := make([]byte, 40*count)
	if _, err := f.ReadAt(table, at+24+int64(binary.LittleEndian.Uint16(head[20:]))); err != nil {
		return nil, malformedRead(err)
	}
	for ; len(table) > 0; table = table[40:] {
		if strings.TrimRight(string(table[:8]), "\x00") != name {
			continue
		}
		size := min(binary.LittleEndian.Uint32(table[8:]), binary.LittleEndian.Uint32(table[16:]))
		if int64(size) > limit {
			return nil, malformed(fmt.Sprintf("its section %s has %d bytes, at most %d are read", name, size, limit))
		}
		data := make([]byte, size)
		if _, err := f.ReadAt(data, int64(binary.LittleEndian.Uint32(table[20:]))); err != nil {
			return nil, malformedRead(err)
		}
		return data, nil
	}
	return nil, nil
}

func malformedRead(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it is no EFI program: it ends too early")
	}
	return err
}
