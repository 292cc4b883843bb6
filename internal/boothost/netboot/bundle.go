package netboot

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/release"
)

// The files of a bundle, and of a stage.
const (
	KernelName = "kernel"
	InitrdName = "initrd"
	ScriptName = "netboot.ipxe"
)

// memberLimits are the files of a bundle, with the size limit of each in bytes. An initrd
// of NixOS contains the whole system.
var memberLimits = map[string]int64{
	KernelName: 512 << 20,
	InitrdName: 12 << 30,
	ScriptName: maxScript,
}

// File identifies the contents of a stage's file.
type File struct {
	Size   int64 // bytes
	SHA256 string
}

// errBundle is an error in a bundle: the release is to blame, not this machine.
type errBundle struct{ error }

func badBundle(format string, args ...any) error { return errBundle{fmt.Errorf(format, args...)} }

// unpack reads the bundle in, calls take with kernel and initrd in turn, and returns the
// script. A bundle has these three members as regular files and no others, apart from the
// directory "./" itself.
func unpack(ctx context.Context, in io.Reader, take func(name string, in io.Reader) error) (script []byte, err error) {
	// If it can't be read, the bundle is not to blame.
	medium := &hostfile.ErrorKeeper{R: in}
	defer func() {
		switch {
		case err == nil:
		case ctx.Err() != nil:
			err = ctx.Err()
		case medium.Err != nil:
			err = medium.Err
		}
	}()
	z, err := gzip.NewReader(medium)
	if err != nil {
		return nil, badBundle("it is not gzip: %v", err)
	}
	// A small compressed file may expand to hours of headers.
	expanded := hostfile.WithContext(ctx, z)
	if script, err = unpackMembers(tar.NewReader(expanded), take); err != nil {
		return nil, err
	}
	// gzip's checksum comes last. What follows the archive is padding.
	if n, err := io.Copy(io.Discard, io.LimitReader(expanded, 1<<20)); err != nil || n == 1<<20 {
		return nil, badBundle("it does not end at the end of its archive")
	}
	return script, nil
}

// unpackMembers is unpack of the archive in a bundle.
func unpackMembers(t *tar.Reader, take func(name string, in io.Reader) error) (script []byte, err error) {
	seen := make(map[string]bool)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badBundle("it is not a tar archive: %v", err)
		}
		if isRoot := h.Typeflag == tar.TypeDir && (h.Name == "./" || h.Name == "."); isRoot && !seen["."] {
			seen["."] = true
			continue
		}
		name := strings.TrimPrefix(h.Name, "./")
		if err := checkMember(h, name); err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, badBundle("it has %s twice", name)
		}
		seen[name] = true
		if name == ScriptName {
			script, err = io.ReadAll(t)
		} else {
			err = take(name, t)
		}
		if err != nil {
			return nil, memberError(name, err)
		}
	}
	for _, name := range []string{KernelName, InitrdName, ScriptName} {
		if !seen[name] {
			return nil, badBundle("it has no %s", name)
		}
	}
	return script, nil
}

// checkMember refuses a member that does not belong in a bundle.
func checkMember(h *tar.Header, name string) error {
	limit, known := memberLimits[name]
	switch {
	case !known:
		return badBundle("it has a member %q; want kernel, initrd and netboot.ipxe, and nothing else", clip(h.Name))
	case isSparse(h):
		return badBundle("its member %s has holes, of which a small archive can have terabytes", name)
	case h.Typeflag != tar.TypeReg:
		return badBundle("its member %s is not a regular file", name)
	case h.Size > limit:
		return badBundle("its member %s has %d bytes; at most %d are allowed", name, h.Size, limit)
	case h.Size == 0:
		return badBundle("its member %s is empty", name)
	}
	return nil
}

// isSparse reports whether a member leaves out the holes of its file, as GNU tar does
// with --sparse.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// memberError separates the archive's errors from this machine's.
func memberError(name string, err error) error {
	if errors.As(err, new(*os.PathError)) {
		return err
	}
	return badBundle("its member %s cannot be read: %v", name, err)
}

// writeFile writes a new file and syncs it to disk.
func writeFile(name string, in io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o640) //nolint:gosec // for the servers, which are in its group
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if err == nil {
		err = f.Sync()
	}
	return cmp.Or(err, f.Close())
}

// hashFile returns the size and digest of the regular file name.
func hashFile(ctx context.Context, name string) (File, error) {
	f, err := hostfile.OpenNoFollow(name)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	return hashOf(hostfile.WithContext(ctx, f))
}

// hashOf returns the size and digest of in.
func hashOf(in io.Reader) (File, error) {
	h := sha256.New()
	size, err := io.Copy(h, in)
	return File{size, fmt.Sprintf("%x", h.Sum(nil))}, err
}

// bundleName returns the only asset of r whose name matches pattern, which is
// well-formed.
func bundleName(r *release.Release, pattern string) (string, error) {
	var found []string
	for name := range r.Sums().All() {
		if ok, _ := filepath.Match(pattern, name); ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", &release.NotFoundError{What: fmt.Sprintf("a bundle that matches %q", pattern), Source: fmt.Sprintf("release %s from %s", r.Tag(), r.Source()), Hint: "the release's " + release.SumsName + " lists its files; was the release made with its netboot image?"}
	}
	return "", fmt.Errorf("release %s has %d bundles that match %q (%s); name one with --tarball", r.Tag(), len(found), pattern, strings.Join(found, ", "))
}
