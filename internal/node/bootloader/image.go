package bootloader

import (
	"bytes"
	"cmp"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
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
		e := Entry{Loader: SystemdBoot, File: "EFI/Linux/" + name, Image: "EFI/Linux/" + name}
		if err := e.readImage(dir); err != nil {
			note(e.File, err)
			continue
		}
		e.Dir, e.tries = number, triesOf(name)
		out = append(out, e)
	}
	return out, nil
}

// readImage takes the command line of e, which starts an image, from there.
func (e *Entry) readImage(dir Dir) error {
	f, err := dir.Open(e.Image)
	if err != nil {
		return err
	}
	defer f.Close()
	image, err := ReadImage(f)
	if err != nil {
		return err
	}
	line, err := image.text(".cmdline")
	if err != nil {
		return err
	}
	if e.File == e.Image {
		release, err := image.text(".osrel")
		if err != nil {
			return err
		}
		e.sortBy(release)
	}
	// What the entry itself says goes before it.
	if e.Options == "" {
		e.Options = line
	}
	if e.Options == "" && e.Foreign == "" {
		e.Foreign = "it is an EFI program without a command line"
	}
	return nil
}

// sortBy takes from the os-release of an image what systemd-boot sorts it by.
func (e *Entry) sortBy(release string) {
	values := make(map[string]string)
	for line := range strings.Lines(release) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		values[name] = value
	}
	first := func(names ...string) string {
		for _, name := range names {
			if values[name] != "" {
				return values[name]
			}
		}
		return ""
	}
	e.sortKey = first("IMAGE_ID", "ID")
	e.version = first("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
	// Without a name it is not listed.
	e.skipped = e.skipped || first("PRETTY_NAME", "IMAGE_ID", "NAME", "ID") == ""
}

// ImageExtras returns the directories beside the image of e from which systemd-stub
// takes more than the image has: named after it, with the counter of tries or without.
func (e *Entry) ImageExtras() []string {
	out := []string{e.Image + ".extra.d"}
	if triesOf(path.Base(e.Image)) >= 0 {
		out = append(out, path.Join(path.Dir(e.Image), uncounted(path.Base(e.Image)))+".extra.d")
	}
	return out
}

// Image is an EFI program, such as a unified kernel image, as far as its sections go.
type Image struct {
	file  io.ReaderAt
	parts []Part
	// program is what it starts as: the machine, the entry point, and where the
	// tables are that the firmware goes by.
	program struct {
		machine     uint16
		entry       uint32
		base        uint64
		directories [16]pe.DataDirectory
	}
}

// Part is a section of an image. Its bytes in the file are those that the program
// finds in memory.
type Part struct {
	Name    string // ".linux"
	Address uint32 // in memory
	Size    int64  // of its bytes
	Zeroes  int64  // that follow in memory
	image   *Image
	offset  int64
}

// Open returns the bytes of p.
func (p *Part) Open() *io.SectionReader { return io.NewSectionReader(p.image.file, p.offset, p.Size) }

const (
	// maxHead bounds the headers of an image, in bytes.
	maxHead = 64 << 10
	// maxParts bounds its sections, as Windows does.
	maxParts = 96
)

// ReadImage reads the headers of an EFI program. It refuses one whose sections could
// be other bytes in memory than in the file: two of one name, or of one place.
func ReadImage(f File) (*Image, error) {
	parsed, err := readHeaders(f)
	if err != nil {
		return nil, err
	}
	i := &Image{file: f}
	var headers uint32
	i.program.machine = parsed.Machine
	switch o := parsed.OptionalHeader.(type) {
	case *pe.OptionalHeader32:
		headers, i.program.entry, i.program.base, i.program.directories = o.SizeOfHeaders, o.AddressOfEntryPoint, uint64(o.ImageBase), o.DataDirectory
	case *pe.OptionalHeader64:
		headers, i.program.entry, i.program.base, i.program.directories = o.SizeOfHeaders, o.AddressOfEntryPoint, o.ImageBase, o.DataDirectory
	default:
		return nil, noProgram("it has no header of a program")
	}
	// A signature is laid behind all else.
	i.program.directories[pe.IMAGE_DIRECTORY_ENTRY_SECURITY] = pe.DataDirectory{}
	for _, s := range parsed.Sections {
		p := Part{Name: s.Name, Address: s.VirtualAddress, Size: int64(min(s.VirtualSize, s.Size)), image: i, offset: int64(s.Offset)}
		if s.VirtualSize == 0 {
			p.Size = int64(s.Size) // as a firmware loads it
		}
		p.Zeroes = max(int64(s.VirtualSize)-p.Size, 0)
		if p.Size > 0 && p.offset+p.Size > f.Size() {
			return nil, noProgram("its section %q ends behind it", p.Name)
		}
		i.parts = append(i.parts, p)
	}
	if err := checkApart(i.parts, int64(headers)); err != nil {
		return nil, err
	}
	return i, nil
}

func noProgram(format string, args ...any) error {
	return fmt.Errorf("it is no EFI program: "+format, args...)
}

// readHeaders parses what is before the sections of an EFI program, without its symbols:
// nobody needs them, and they have no bound.
func readHeaders(f File) (*pe.File, error) {
	head := make([]byte, min(maxHead, f.Size()))
	if len(head) < 0x40 {
		return nil, noProgram("it ends too early")
	}
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	if string(head[:2]) != "MZ" {
		return nil, noProgram("it does not begin with MZ")
	}
	at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at < 0x40 || at+24 > int64(len(head)) {
		return nil, noProgram("its header lies at byte %d", at)
	}
	clear(head[at+12 : at+20])
	if n := binary.LittleEndian.Uint16(head[at+6:]); n > maxParts {
		return nil, noProgram("it has %d sections", n)
	}
	parsed, err := pe.NewFile(bytes.NewReader(head))
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, noProgram("it ends too early")
	case err != nil:
		return nil, noProgram("%v", err)
	}
	return parsed, nil
}

// checkApart requires that no two parts have one name, or one place in memory, of which the
// first bytes are the headers'.
func checkApart(parts []Part, headers int64) error {
	inMemory := slices.Clone(parts)
	slices.SortFunc(inMemory, func(a, b Part) int { return cmp.Compare(a.Address, b.Address) })
	end, named := headers, make(map[string]bool)
	for _, p := range inMemory {
		switch {
		case named[p.Name]:
			return noProgram("it has two sections %q", p.Name)
		case int64(p.Address) < end:
			return noProgram("its section %q overlaps what is before it", p.Name)
		}
		named[p.Name], end = true, int64(p.Address)+p.Size+p.Zeroes
	}
	return nil
}

// Parts returns the sections in the order in which the file names them.
func (i *Image) Parts() []Part { return i.parts }

// Part returns the section of that name, nil for none.
func (i *Image) Part(name string) *Part {
	at := slices.IndexFunc(i.parts, func(p Part) bool { return p.Name == name })
	if at < 0 {
		return nil
	}
	return &i.parts[at]
}

// CommandLine returns what the image hands to its kernel, "" for nothing.
func (i *Image) CommandLine() (string, error) { return i.text(".cmdline") }

// text returns a section that is text, "" where there is none.
func (i *Image) text(name string) (string, error) {
	p := i.Part(name)
	if p == nil {
		return "", nil
	}
	if p.Size > maxEntry {
		return "", fmt.Errorf("its section %s has %d bytes, at most %d are read", name, p.Size, maxEntry)
	}
	data := make([]byte, p.Size)
	if _, err := io.ReadFull(p.Open(), data); err != nil {
		return "", err
	}
	return strings.TrimSpace(strings.TrimRight(string(data), "\x00")), nil
}

// StartsAs reports whether i and another image begin at the same place of the same
// memory: with the sections of the other in it, it is that program.
func (i *Image) StartsAs(other *Image) bool { return i.program == other.program }
