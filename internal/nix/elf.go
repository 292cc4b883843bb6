package nix

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
)

// maxInterpreter bounds the path of a dynamic loader.
const maxInterpreter = 4096

// interpreter returns the dynamic loader that a program names, and "" of a
// static one.
func interpreter(file string) (string, error) {
	f, err := elf.Open(file)
	if errors.As(err, new(*elf.FormatError)) {
		return "", fmt.Errorf("%s is no ELF program, and only those run in a sandbox: set nix.binDir to the directory of the programs themselves", file)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), maxInterpreter))
		if err != nil {
			return "", fmt.Errorf("read the loader's name in %s: %w", file, err)
		}
		return string(bytes.TrimRight(name, "\x00")), nil
	}
	return "", nil
}
