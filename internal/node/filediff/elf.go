package filediff

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"slices"

	"every.channel/ec-verify/pkg/excerpt"
)

// maxSymbols limits a symbol table, in bytes: it takes five times as much memory.
const maxSymbols = 16 << 20

// isELF reports whether data is an ELF file. One that states the number of sections in
// its first section, which it may if it has more than 65,279, is not examined.
func isELF(data []byte) bool {
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) || len(data) < 64 {
		return false
	}
	number := 0x30
	if elf.Class(data[elf.EI_CLASS]) == elf.ELFCLASS64 {
		number = 0x3c
	}
	return data[number] != 0 || data[number+1] != 0
}

// section is the part of a section that is compared.
type section struct {
	name string
	data []byte
}

// elf compares section by section, and names the symbols whose bytes differ.
func (c *comparison) elf(r *Result, a, b []byte) bool {
	fileA, err := elf.NewFile(bytes.NewReader(a))
	if err != nil {
		return false
	}
	fileB, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return false
	}
	before := r.Notes
	sectionsA, okA := c.sections(r, fileA)
	sectionsB, okB := c.sections(r, fileB)
	if !okA || !okB {
		r.Notes = append(before, "its sections were not compared: they expand to too much, or overlap")
		return false
	}
	defer func(before directories) { c.built = before }(c.built)
	symbolsA, symbolsB := c.symbolBytes(fileA), c.symbolBytes(fileB)
	c.built = nil
	if sameNames(symbolsA, symbolsB) {
		c.built = c.builtDirectories(fileA, fileB)
	}
	for _, dirs := range c.built.sorted() {
		r.caused(Cause{Name: BuildDir, Where: ".debug_info", A: excerpt.Raw(dirs[0]), B: excerpt.Raw(dirs[1])})
	}
	all := true
	differing := 0
	inB := make(map[string][]byte, len(sectionsB))
	for _, s := range sectionsB {
		inB[s.name] = s.data
	}
	inA := make(map[string]bool, len(sectionsA))
	for _, s := range sectionsA {
		inA[s.name] = true
		other, ok := inB[s.name]
		switch {
		case !ok:
			differing, all = differing+1, false
			r.part(Part{Kind: "section", Name: excerpt.Raw(s.name), Change: "removed", A: excerpt.Raw(size(len(s.data)))}, c.limits)
		case !bytes.Equal(s.data, other):
			differing++
			all = c.section(r, s.name, s.data, other) && all
		}
	}
	for _, s := range sectionsB {
		if !inA[s.name] {
			differing, all = differing+1, false
			r.part(Part{Kind: "section", Name: excerpt.Raw(s.name), Change: "added", B: excerpt.Raw(size(len(s.data)))}, c.limits)
		}
	}
	if differing == 0 {
		// The difference is outside of all sections, for instance in a header.
		return false
	}
	c.symbols(r, symbolsA, symbolsB)
	// Headers and padding are accounted for only if nothing moved.
	r.Explained = all && len(a) == len(b)
	return true
}

// section compares one section, and reports whether its differences are accounted for.
func (c *comparison) section(r *Result, name string, a, b []byte) bool {
	p := Part{Kind: "section", Name: excerpt.Raw(name), Change: "changed", A: excerpt.Raw(size(len(a))), B: excerpt.Raw(size(len(b)))}
	if name == ".note.gnu.build-id" || name == ".note.go.buildid" || name == ".gnu_debuglink" {
		p.Within = measure(a, b)
		p.Within.Causes, p.Within.Explained = []Cause{{Name: ContentHash, Count: 1}}, true
	} else {
		p.Within = measure(a, b)
		c.binary(p.Within, a, b)
	}
	r.adopt(p.Within, excerpt.Raw(name))
	r.part(p, c.limits)
	return p.Within.Explained
}

// sections returns the sections with contents, a second one of the same name as "NAME 2".
func (c *comparison) sections(r *Result, f *elf.File) (list []section, ok bool) {
	seen := make(map[string]int)
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS {
			continue
		}
		if s.Size > MaxSize || !c.take(int64(s.Size)) {
			return nil, false
		}
		data, err := s.Data()
		if err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("section %q can't be read: %v", s.Name, err))
			return nil, false
		}
		name := s.Name
		if seen[s.Name]++; seen[s.Name] > 1 {
			name = fmt.Sprintf("%s %d", s.Name, seen[s.Name])
		}
		list = append(list, section{name, data})
	}
	return list, true
}

func size(n int) string { return fmt.Sprintf("%d bytes", n) }

// symbols names the functions and variables whose bytes, from [comparison.symbolBytes],
// differ, or that only one side has.
func (c *comparison) symbols(r *Result, inA, inB map[string][]byte) {
	if inA == nil || inB == nil {
		r.Notes = append(r.Notes, "it has no table of symbols, or a very large one")
		return
	}
	var parts []Part
	for name, data := range inA {
		other, ok := inB[name]
		switch {
		case !ok:
			parts = append(parts, Part{Kind: "symbol", Name: excerpt.Raw(name), Change: "removed", A: excerpt.Raw(size(len(data)))})
		case !bytes.Equal(data, other):
			parts = append(parts, Part{Kind: "symbol", Name: excerpt.Raw(name), Change: "changed", A: excerpt.Raw(size(len(data))), B: excerpt.Raw(size(len(other)))})
		}
	}
	for name, data := range inB {
		if _, ok := inA[name]; !ok {
			parts = append(parts, Part{Kind: "symbol", Name: excerpt.Raw(name), Change: "added", B: excerpt.Raw(size(len(data)))})
		}
	}
	slices.SortFunc(parts, func(x, y Part) int { return cmp.Or(cmp.Compare(x.Change, y.Change), cmp.Compare(x.Name, y.Name)) })
	for _, p := range parts {
		r.part(p, c.limits)
	}
}

// symbolBytes returns the bytes of the functions and variables of f by name; nil if it
// has no symbols.
func (c *comparison) symbolBytes(f *elf.File) map[string][]byte {
	symbols, err := symbolsOf(f)
	if err != nil {
		return nil
	}
	data := make(map[elf.SectionIndex][]byte)
	out := make(map[string][]byte)
	for _, s := range symbols {
		kind := elf.ST_TYPE(s.Info)
		if kind != elf.STT_FUNC && kind != elf.STT_OBJECT || s.Size == 0 || s.Name == "" || int(s.Section) >= len(f.Sections) {
			continue
		}
		in := f.Sections[s.Section]
		if in.Type == elf.SHT_NOBITS || s.Value < in.Addr && f.Type != elf.ET_REL {
			continue
		}
		if _, read := data[s.Section]; !read {
			data[s.Section] = nil
			if c.take(int64(min(in.Size, MaxSize+1))) {
				data[s.Section], _ = in.Data()
			}
		}
		from := s.Value
		if f.Type != elf.ET_REL {
			from -= in.Addr
		}
		bytesOf := data[s.Section]
		if from > uint64(len(bytesOf)) || s.Size > uint64(len(bytesOf))-from {
			continue
		}
		out[s.Name] = bytesOf[from : from+s.Size]
	}
	return out
}

// symbolsOf returns the symbols of f or, if it was stripped of them, those for the dynamic
// linker.
func symbolsOf(f *elf.File) ([]elf.Symbol, error) {
	for _, s := range f.Sections {
		if (s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_DYNSYM) && s.Size > maxSymbols {
			return nil, errors.New("too many symbols")
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		return f.DynamicSymbols()
	}
	return symbols, nil
}
