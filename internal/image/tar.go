package image

import (
	"archive/tar"
	"errors"
	"io"

	"every.channel/ec-verify/pkg/nar"
)

func isTar(head []byte) bool { return len(head) >= 262 && string(head[257:262]) == "ustar" }

// walkTar walks a decompressed tar archive.
func (w *walker) walkTar(r io.Reader, inside []string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// The bytes after the end are read too, so that the checksum of the
			// compressed form is verified.
			_, err = io.Copy(io.Discard, r)
			return asMalformed(err)
		}
		if err != nil {
			return asMalformed(err)
		}
		m := Member{
			Inside: inside, In: Tar, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
			MTime: h.ModTime.Unix(),
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			m.Type, m.Size = nar.Regular, h.Size
		case tar.TypeDir:
			m.Type = nar.Directory
		case tar.TypeSymlink:
			m.Type, m.Target = nar.Symlink, h.Linkname
		case tar.TypeXGlobalHeader:
			continue
		}
		if m.Path, err = cleanPath(h.Name); err != nil {
			return err
		}
		for key := range h.PAXRecords {
			if len(key) > 13 && key[:13] == "SCHILY.xattr." {
				m.Xattrs = true
			}
		}
		if err := w.member(m, t, m.Size); err != nil {
			return asMalformed(err)
		}
	}
}
