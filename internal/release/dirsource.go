package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"every.channel/ec-verify/internal/hostfile"
)

// DirSource is a directory of releases: DIR/TAG/SHA256SUMS.txt and so on. DIR may
// also directly contain the files of one release (DIR/SHA256SUMS.txt); it then
// answers for any tag without a subdirectory. Since the signed release.json states
// the tag, a release under a wrong tag is still refused.
type DirSource struct{ dir string }

// NewDirSource returns the source in dir. Opening an asset fails if dir does not
// exist.
func NewDirSource(dir string) *DirSource { return &DirSource{filepath.Clean(dir)} }

// Dir returns the cleaned path of the directory.
func (s *DirSource) Dir() string { return s.dir }

// String returns the directory.
func (s *DirSource) String() string { return printable(s.dir) }

func newFileSource(u *url.URL, _ sourceOptions) (Source, error) {
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("parse source %q: want file:///DIR", redacted(u.String()))
	}
	return NewDirSource(u.Path), nil
}

// Remote implements [Source].
func (s *DirSource) Remote() bool { return false }

// Open implements [Source].
func (s *DirSource) Open(ctx context.Context, tag Tag, name string, limit int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, &UnavailableError{assetOf(name, tag), s.String(), err}
	}
	if err := CheckAssetName(name); err != nil {
		return nil, err
	}
	dir, err := s.releaseDir(tag)
	if err != nil {
		return nil, err
	}
	return openFile(filepath.Join(dir, name), assetOf(name, tag), printable(dir), limit)
}

// releaseDir returns the directory with the files of tag.
func (s *DirSource) releaseDir(tag Tag) (string, error) {
	if tag != "" {
		if _, err := ParseTag(string(tag)); err != nil {
			return "", err
		}
		sub := filepath.Join(s.dir, string(tag))
		if info, err := os.Stat(sub); err == nil && info.IsDir() {
			return sub, nil
		}
	}
	_, err := os.Stat(filepath.Join(s.dir, SumsName))
	switch {
	case err == nil:
		return s.dir, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		what, hint := "release", "it contains no "+SumsName
		if tag != "" {
			what += " " + string(tag)
			hint = fmt.Sprintf("it contains neither a directory %s nor a %s", tag, SumsName)
		}
		if s.missing() {
			hint = missingHint
		}
		return "", &NotFoundError{What: what, Source: s.String(), Hint: hint}
	}
	return "", &UnavailableError{"release " + string(tag), s.String(), err}
}

const missingHint = "the directory does not exist; check its name"

// missing reports whether the directory does not exist or is something else.
func (s *DirSource) missing() bool {
	info, err := os.Stat(s.dir)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir()
}

// Tags implements [Lister]: it returns the subdirectories that have a SHA256SUMS.txt.
// A directory with the files of one release has none.
func (s *DirSource) Tags(ctx context.Context) ([]Tag, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &UnavailableError{"the list of releases", s.String(), err}
	}
	var tags []Tag
	for _, e := range entries {
		tag, err := ParseTag(e.Name())
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.dir, e.Name(), SumsName)); err == nil {
			tags = append(tags, tag)
		}
	}
	slices.SortFunc(tags, func(a, b Tag) int { return compareTags(b, a) })
	return tags, ctx.Err()
}

// openFile opens a local asset, which must be a regular file.
func openFile(path, what, source string, limit int64) (io.ReadCloser, error) {
	f, err := hostfile.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &NotFoundError{What: what, Source: source}
	case errors.Is(err, hostfile.ErrNotRegular):
		return nil, Untrusted(ReasonNotRegular, "%s is not a regular file", what)
	case err != nil:
		return nil, &UnavailableError{what, source, err}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = &UnavailableError{what, source, err}
	case info.Size() > limit:
		err = tooLarge(what, info.Size(), limit)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileReader{f, &limitReader{f, limit, what, limit}, info.Size()}, nil
}

type fileReader struct {
	f    *os.File
	r    io.Reader
	size int64
}

func (r *fileReader) Read(p []byte) (int, error) { return r.r.Read(p) }
func (r *fileReader) Close() error               { return r.f.Close() }
func (r *fileReader) Size() int64                { return r.size }

// limitReader returns an error, not io.EOF, when the limit is exceeded.
type limitReader struct {
	r     io.Reader
	left  int64
	what  string
	limit int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, tooLarge(l.what, -1, l.limit)
	}
	return n, err
}

// tooLarge returns the error for an asset of size bytes, -1 if the size is unknown.
func tooLarge(what string, size, limit int64) error {
	if size < 0 {
		return Untrusted(ReasonTooLarge, "%s is larger than the allowed %d bytes", what, limit)
	}
	return Untrusted(ReasonTooLarge, "%s has %d bytes, at most %d are allowed", what, size, limit)
}

func assetOf(name string, tag Tag) string {
	if tag == "" {
		return name
	}
	return fmt.Sprintf("%s of %s", name, tag)
}

// printable returns s unchanged if a terminal can show it, and quoted otherwise.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
