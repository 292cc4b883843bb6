package filediff

import (
	"debug/dwarf"
	"debug/elf"
	"path"
	"strings"
)

// maxUnits limits the compilation units of a program that are read.
const maxUnits = 10_000

// builtDirectories returns the pairs of directories in which a and b, which have the same
// symbols, were built according to the compilers. It returns some only if both have the
// same sources by name: two unrelated programs were built in two directories as well,
// which explains nothing.
func (c *comparison) builtDirectories(a, b *elf.File) directories {
	inA, inB := c.compiled(a), c.compiled(b)
	if len(inA) == 0 || len(inA) != len(inB) {
		return nil
	}
	built := make(directories)
	for source, dirA := range inA {
		dirB, ok := inB[source]
		if !ok {
			return nil
		}
		if dirA != dirB {
			built[[2]string{dirA, dirB}] = true
		}
	}
	return built
}

// sameNames reports whether a and b have the same symbols, at least one.
func sameNames(a, b map[string][]byte) bool {
	if len(a) == 0 || len(a) != len(b) {
		return false
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			return false
		}
	}
	return true
}

// compiled returns, for each source with a relative name in the debugging information of
// f, the directory in which it was compiled; nil if that is unknown.
func (c *comparison) compiled(f *elf.File) map[string]string {
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") && (s.Size > MaxSize || !c.take(int64(s.Size))) {
			return nil
		}
	}
	info, err := f.DWARF()
	if err != nil {
		return nil
	}
	out := make(map[string]string)
	for r := info.Reader(); len(out) <= maxUnits && c.ctx.Err() == nil; r.SkipChildren() {
		unit, err := r.Next()
		if err != nil {
			return nil
		}
		if unit == nil {
			return out
		}
		name, _ := unit.Val(dwarf.AttrName).(string)
		dir, _ := unit.Val(dwarf.AttrCompDir).(string)
		if unit.Tag != dwarf.TagCompileUnit || name == "" || path.IsAbs(name) || !path.IsAbs(dir) {
			continue
		}
		if other, seen := out[name]; seen && other != dir {
			return nil // which of the two is meant is not told
		}
		out[name] = dir
	}
	return nil
}
