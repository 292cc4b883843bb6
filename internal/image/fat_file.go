package image

import (
	"io"
	"io/fs"
)

// FATFile is a file in a FAT. It is safe for concurrent use if the FAT's [io.ReaderAt] is.
type FATFile struct {
	r     io.ReaderAt
	name  string
	size  int64
	parts []extent
}

// Size returns the size of the file in bytes.
func (f *FATFile) Size() int64 { return f.size }

// Close does nothing: the file is a part of another.
func (f *FATFile) Close() error { return nil }

// ReadAt implements [io.ReaderAt].
func (f *FATFile) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	want := p[:max(min(int64(len(p)), f.size-off), 0)]
	begin := int64(0) // offset of the part in the file
	for _, part := range f.parts {
		if n == len(want) {
			break
		}
		if skip := off + int64(n) - begin; skip < part.size {
			some := want[n:][:min(int64(len(want)-n), part.size-skip)]
			if err := readAt(f.r, some, part.off+skip); err != nil {
				return n, &fs.PathError{Op: "read", Path: f.name, Err: err}
			}
			n += len(some)
		}
		begin += part.size
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
