package imagecheck

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"every.channel/ec-verify/internal/image"
	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/excerpt"
)

// Options configures a check.
type Options struct {
	// Inside also checks the contents of images.
	Inside bool
	// Configuration is the configuration of the images; "" derives it from their
	// names.
	Configuration string
	// As is the asset to compare the one file or device with; "" derives it from its
	// name or bytes.
	As      string
	TempDir string
	Limits  image.Limits
	// Progress is called with the image and how many of its bytes were read.
	Progress func(name string, done, total int64)
}

// sector is the unit of image sizes: on a larger device, the image ends at a multiple
// of it.
const sector = 2048

// Check compares files, devices and the files in directories with r. It returns an
// error if a directory can't be listed or ctx is done; any other problem is a
// finding.
func Check(ctx context.Context, r *release.Release, names []string, opts Options) (*Result, error) {
	c := &checker{r: r, opts: opts}
	files, err := expand(names)
	if err != nil {
		return nil, err
	}
	if opts.As != "" && len(files) != 1 {
		return nil, fmt.Errorf("%d files could be %s; name one", len(files), opts.As)
	}
	result := &Result{}
	for _, name := range files {
		i := c.file(ctx, name)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		result.Images = append(result.Images, i)
	}
	for name := range r.Sums().All() {
		kind, _ := release.KindOf(name)
		if kind == release.KindImage && !slices.ContainsFunc(result.Images, func(i Image) bool { return i.Asset == name }) {
			result.Absent = append(result.Absent, name)
		}
	}
	return result, nil
}

// expand returns the named files, and the files in named directories. The latter
// include the release's own files that are not images.
func expand(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if kind, _ := release.KindOf(e.Name()); kind != release.KindSums && kind != release.KindBundle {
				out = append(out, filepath.Join(name, e.Name()))
			}
		}
	}
	return out, nil
}

type checker struct {
	r       *release.Release
	opts    Options
	systems map[string]*system // by configuration
}

// file checks one file or device.
func (c *checker) file(ctx context.Context, name string) Image {
	i := Image{File: excerpt.Raw(name)}
	f, size, device, err := open(name)
	if err != nil {
		i.add(Finding{Class: Inconclusive, Kind: Unreadable, Detail: err.Error()})
		return i
	}
	defer f.Close()
	i.Size, i.Device = size, device
	i.Asset, err = c.assetOf(filepath.Base(name), device)
	if err != nil {
		i.add(Finding{Class: Inconclusive, Kind: NotChecked, Detail: err.Error()})
		return i
	}
	if err := c.whole(ctx, f, &i); err != nil {
		i.add(Finding{Class: Inconclusive, Kind: Unreadable, Detail: err.Error()})
		return i
	}
	kind, _ := release.KindOf(i.Asset)
	if c.opts.Inside && i.Asset != "" && kind == release.KindImage {
		c.inside(ctx, f, &i)
	}
	return i
}

// open opens a regular file or a block device.
func open(name string) (f *os.File, size int64, device bool, err error) {
	f, err = os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, false, err
	}
	info, err := f.Stat()
	if err == nil {
		mode := info.Mode()
		switch {
		case mode.IsRegular():
			return f, info.Size(), false, nil
		case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
			if size, err = f.Seek(0, io.SeekEnd); err == nil {
				return f, size, true, nil
			}
		default:
			err = &fs.PathError{Op: "read", Path: name, Err: errors.New("neither a file nor a block device")}
		}
	}
	f.Close()
	return nil, 0, false, err
}

// assetOf returns the asset to compare a file with; "" means that it is found by its
// bytes.
func (c *checker) assetOf(base string, device bool) (string, error) {
	if c.opts.As != "" {
		if _, ok := c.r.Sums().Digest(c.opts.As); !ok {
			return "", fmt.Errorf("the release has no %s", c.opts.As)
		}
		return c.opts.As, nil
	}
	if _, ok := c.r.Sums().Digest(base); ok && !device {
		return base, nil
	}
	if !device {
		return "", nil
	}
	var isos []string
	for name := range c.r.Sums().All() {
		if strings.HasSuffix(name, ".iso") {
			isos = append(isos, name)
		}
	}
	if len(isos) != 1 {
		return "", fmt.Errorf("the release has %d ISO images; choose the one that the device should have with --as NAME", len(isos))
	}
	return isos[0], nil
}

// whole compares an image with SHA256SUMS.txt. If the release has no asset with the
// file's name, the asset is found by the file's bytes.
func (c *checker) whole(ctx context.Context, f *os.File, i *Image) error {
	limit := min(i.Size, release.MaxImageSize)
	if !i.Device && i.Size > limit {
		i.add(Finding{Class: Drift, Kind: Checksum, Detail: fmt.Sprintf("it has %d bytes, and an image of a release at most %d", i.Size, limit)})
		return nil
	}
	want, _ := c.r.Sums().Digest(i.Asset)
	h := sha256.New()
	buf := make([]byte, 128*sector)
	sum := func() (d release.Digest) { h.Sum(d[:0]); return d }
	for at := int64(0); at < limit; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), limit-at)], at)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = errors.New("it ends before its size")
			}
			return err
		}
		if !i.Device {
			h.Write(buf[:n])
			at += int64(n)
			c.tell(i, at, limit)
			continue
		}
		// A device is larger than the image written to it: try each prefix until one
		// has the digest.
		for off := 0; off < n; off += sector {
			h.Write(buf[off:min(off+sector, n)])
			if sum() == want {
				i.Size, i.Beyond, i.Intact = at+int64(off)+sector, i.Size-(at+int64(off)+sector), true
				return nil
			}
		}
		at += int64(n)
		c.tell(i, at, limit)
	}
	got := sum()
	switch {
	case i.Device:
		i.add(Finding{Class: Drift, Kind: Checksum, Want: excerpt.Raw("sha256 " + want.String()), Detail: fmt.Sprintf("no beginning of the device is %s", i.Asset)})
	case i.Asset == "":
		for name, digest := range c.r.Sums().All() {
			if digest == got {
				i.Asset, i.Intact = name, true
				return nil
			}
		}
		i.add(Finding{Class: Drift, Kind: Unknown, Got: excerpt.Raw("sha256 " + got.String()), Detail: "the release has no image of this name or of these bytes"})
	case got != want:
		i.add(Finding{Class: Drift, Kind: Checksum, Want: excerpt.Raw("sha256 " + want.String()), Got: excerpt.Raw("sha256 " + got.String()), Detail: c.sizes(ctx, i)})
	default:
		i.Intact = true
	}
	return nil
}

// sizeWait limits the wait for a size that only makes the finding clearer.
const sizeWait = 15 * time.Second

// sizes describes how the size of an image differs from the published one at its
// source; "" if it does not, or if that is unknown.
func (c *checker) sizes(ctx context.Context, i *Image) string {
	ctx, cancel := context.WithTimeout(ctx, sizeWait)
	defer cancel()
	published, ok := c.r.AssetSize(ctx, i.Asset)
	switch {
	case !ok || published == i.Size:
		return ""
	case i.Size < published:
		return fmt.Sprintf("it has %d of the %d bytes of the published one: an incomplete download; fetch it again", i.Size, published)
	}
	return fmt.Sprintf("it has %d bytes; the published one has %d", i.Size, published)
}

func (c *checker) tell(i *Image, done, total int64) {
	if c.opts.Progress != nil {
		c.opts.Progress(string(i.File), done, total)
	}
}
