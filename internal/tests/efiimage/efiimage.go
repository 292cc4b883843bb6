// Package efiimage makes EFI programs for tests: unified kernel images, and the stubs
// that these are made of. Nothing but tests may import it.
package efiimage

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Section is a section of a program.
type Section struct {
	Name string // at most 8 bytes
	Data []byte
}

const (
	align     = 0x1000 // of sections in memory, and in the file
	headSize  = 0x1000
	header    = 0x40 // where the PE header begins
	optional  = header + 24
	sizes     = 0xf0 // of the optional header
	table     = optional + sizes
	entrySize = 40
)

// Make returns a 64-bit program with sections. Its entry point is in the first one.
func Make(sections ...Section) []byte {
	out := make([]byte, headSize)
	copy(out, "MZ")
	put32(out, 0x3c, header)
	copy(out[header:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(out[header+4:], 0x8664) // x86-64
	binary.LittleEndian.PutUint16(out[header+20:], sizes)
	binary.LittleEndian.PutUint16(out[header+22:], 0x22)
	binary.LittleEndian.PutUint16(out[optional:], 0x20b) // PE32+
	put32(out, optional+16, headSize)                    // entry point
	put32(out, optional+32, align)
	put32(out, optional+36, align)
	put32(out, optional+60, headSize)
	binary.LittleEndian.PutUint16(out[optional+68:], 10) // an EFI application
	put32(out, optional+108, 16)                         // directories
	return Add(out, sections...)
}

// Add returns a program with sections added to it, as ukify does.
func Add(program []byte, sections ...Section) []byte {
	out := append([]byte(nil), program...)
	at := int(binary.LittleEndian.Uint32(out[0x3c:]))
	opt := at + 24
	count := int(binary.LittleEndian.Uint16(out[at+6:]))
	entries := opt + int(binary.LittleEndian.Uint16(out[at+20:]))
	memory := uint32(headSize)
	for i := range count {
		e := out[entries+i*entrySize:]
		memory = max(memory, roundUp(binary.LittleEndian.Uint32(e[12:])+binary.LittleEndian.Uint32(e[8:])))
	}
	for _, s := range sections {
		e := entries + count*entrySize
		if len(s.Name) > 8 || e+entrySize > int(binary.LittleEndian.Uint32(out[opt+60:])) {
			panic(fmt.Sprintf("section %q does not fit", s.Name))
		}
		out = append(out, make([]byte, int(roundUp(uint32(len(out))))-len(out))...)
		copy(out[e:], make([]byte, entrySize))
		copy(out[e:], s.Name)
		put32(out, e+8, uint32(len(s.Data)))
		put32(out, e+12, memory)
		put32(out, e+16, roundUp(uint32(len(s.Data))))
		put32(out, e+20, uint32(len(out)))
		put32(out, e+36, 0x40000040) // initialized data, read
		out = append(out, s.Data...)
		out = append(out, make([]byte, int(roundUp(uint32(len(out))))-len(out))...)
		memory = roundUp(memory + uint32(max(len(s.Data), 1)))
		count++
	}
	binary.LittleEndian.PutUint16(out[at+6:], uint16(count))
	put32(out, opt+56, memory) // size in memory
	return out
}

func put32(b []byte, at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }

func roundUp(n uint32) uint32 { return (n + align - 1) / align * align }

// Place returns the place of a section's bytes in a program.
func Place(program []byte, name string) (offset, size int) {
	at := int(binary.LittleEndian.Uint32(program[0x3c:]))
	entries := at + 24 + int(binary.LittleEndian.Uint16(program[at+20:]))
	for i := range int(binary.LittleEndian.Uint16(program[at+6:])) {
		e := program[entries+i*entrySize:]
		if strings.TrimRight(string(e[:8]), "\x00") == name {
			return int(binary.LittleEndian.Uint32(e[20:])), int(binary.LittleEndian.Uint32(e[8:]))
		}
	}
	panic(fmt.Sprintf("no section %q", name))
}
