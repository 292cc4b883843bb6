package importer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// exportMagic follows each NAR in the output of nix-store --export.
const exportMagic = 0x4558494e

// export writes paths in the form of nix-store --export: for each a 1, its NAR,
// [exportMagic], its path, its references, its deriver and a 0, where signatures used to
// be; at the end a 0. Numbers have 64 bits, little-endian; strings start with their
// length and are padded to eight bytes.
//
// Each NAR is hashed again on its way. A wrong one is not followed by a path, and so is
// not registered.
func export(w io.Writer, paths []closure.PathInfo, open func(closure.PathInfo) (io.ReadCloser, error)) error {
	for _, p := range byReferences(paths) {
		if err := writeNumbers(w, 1); err != nil {
			return err
		}
		if err := copyNAR(w, p, open); err != nil {
			return err
		}
		if err := writeNumbers(w, exportMagic); err != nil {
			return err
		}
		if err := writeString(w, string(p.Path)); err != nil {
			return err
		}
		if err := writeNumbers(w, uint64(len(p.References))); err != nil {
			return err
		}
		for _, r := range p.References {
			if err := writeString(w, string(r)); err != nil {
				return err
			}
		}
		if err := writeString(w, string(p.Deriver)); err != nil {
			return err
		}
		if err := writeNumbers(w, 0); err != nil {
			return err
		}
	}
	return writeNumbers(w, 0)
}

func copyNAR(w io.Writer, p closure.PathInfo, open func(closure.PathInfo) (io.ReadCloser, error)) error {
	f, err := open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(f, p.NarSize+1))
	if err != nil {
		return err
	}
	if got := nar.Hash(h.Sum(nil)); n != p.NarSize || got != p.NarHash {
		return fmt.Errorf("%s was altered after it was fetched", p.Path)
	}
	return nil
}

func writeNumbers(w io.Writer, n uint64) error {
	_, err := w.Write(binary.LittleEndian.AppendUint64(nil, n))
	return err
}

func writeString(w io.Writer, s string) error {
	buf := binary.LittleEndian.AppendUint64(nil, uint64(len(s)))
	buf = append(buf, s...)
	for len(buf)%8 != 0 {
		buf = append(buf, 0)
	}
	_, err := w.Write(buf)
	return err
}

// byReferences returns paths in an order in which each comes after those that it
// refers to.
func byReferences(paths []closure.PathInfo) []closure.PathInfo {
	all := make(map[closure.StorePath]closure.PathInfo, len(paths))
	for _, p := range paths {
		all[p.Path] = p
	}
	out := make([]closure.PathInfo, 0, len(paths))
	var add func(p closure.PathInfo)
	add = func(p closure.PathInfo) {
		delete(all, p.Path) // also ends a circle, which no store has
		for _, r := range p.References {
			if next, ok := all[r]; ok {
				add(next)
			}
		}
		out = append(out, p)
	}
	for _, p := range paths {
		if _, ok := all[p.Path]; ok {
			add(p)
		}
	}
	return out
}
