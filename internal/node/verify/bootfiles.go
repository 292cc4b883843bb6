package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
)

// bootFiles compares the files of one entry with those of the system that it claims to
// boot. The contents tier hashes the store's copies.
type bootFiles struct {
	run     *run
	tier    *report.Tier
	dir     bootDir
	entry   *bootloader.Entry
	name    string // of the entry, for the report
	release *candidate
	system  closure.StorePath
	// secrets says that the release's system lays secrets of the machine over its
	// initrd.
	secrets bool
	// worst is the gravest cause that was found, "" for none.
	worst report.Cause
}

// compare returns the gravest cause that was found, "" where all is the release's.
func (b *bootFiles) compare(ctx context.Context) report.Cause {
	e := b.entry
	if exists, err := b.run.store.Exists(b.system); err == nil && !exists {
		return report.BootUnchecked // that it is missing is what the contents tier says
	}
	spec, err := b.readSpec()
	if err != nil {
		b.found(report.BootUnchecked, b.name, "", "", "", err.Error())
		return b.worst
	}
	b.secrets = spec.V1.InitrdSecrets != ""
	b.options()
	if e.Foreign != "" {
		b.found(report.BootUnchecked, b.name, "", "", "", e.Foreign)
		return b.worst
	}
	if e.Image != "" {
		b.image(ctx, &spec)
		return b.worst
	}
	b.file(ctx, "kernel", e.Kernel, string(b.system)+"/kernel", false)
	for i, initrd := range e.Initrds {
		if i == 0 {
			b.file(ctx, "initrd", initrd, string(b.system)+"/initrd", b.secrets)
			continue
		}
		cause := report.BootAltered
		if b.secrets || spec.namesExtra(initrd) {
			cause = report.BootUnchecked
		}
		b.found(cause, b.name, "initrd", "one initrd", initrd, "a further initrd, which is laid over the release's")
	}
	if len(e.Initrds) == 0 {
		if _, _, err := b.run.store.ResolveLink(string(b.system) + "/initrd"); !errors.Is(err, fs.ErrNotExist) {
			b.found(report.BootAltered, b.name, "initrd", string(b.system)+"/initrd", "no initrd", "")
		}
	}
	b.devicetree(ctx, spec.SystemdBoot.Devicetree)
	return b.worst
}

func (b *bootFiles) found(cause report.Cause, path, field, want, got, detail string) {
	if b.worst != report.BootAltered {
		b.worst = cause
	}
	f := b.run.findOnce(report.Finding{Tier: report.TierLive, Cause: cause, Path: path, Field: field, Want: want, Got: got, Detail: detail})
	switch tag := b.release.Tag; { // entries of several releases may start one file
	case slices.Contains(f.Releases, tag):
	case b.release == b.run.chosen:
		f.Release, f.Releases = "", slices.Insert(f.Releases, 0, tag)
	default:
		f.Releases = append(f.Releases, tag)
		if f.Releases[0] != b.run.chosen.Tag {
			f.Release = f.Releases[0]
		}
	}
}

// options compares the command line with the one that the system is to have.
func (b *bootFiles) options() {
	b.tier.Checked++
	want, err := b.run.wantedCommandLine(b.system)
	if err != nil {
		b.found(report.BootUnchecked, b.name, "options", "", "", err.Error())
		return
	}
	got := oneBlank(b.entry.Options)
	if !hasParams(paramsOf(b.system, want), paramsOf(b.system, got), b.entry.Medium && !b.entry.Default) {
		b.found(report.BootAltered, b.name, "options", want, got, "")
	}
}

// wanted returns the store's file that from, a path of the system, leads to; the loader's
// file name should equal it.
func (b *bootFiles) wanted(field, name, from string) (p closure.StorePath, rest string, ok bool) {
	p, rest, err := b.run.store.ResolveLink(from)
	switch {
	case isAbsent(err):
		b.found(report.BootAltered, b.name, field, from, name, "the system has no such file")
		return "", "", false
	case err != nil:
		b.found(report.BootUnchecked, b.name, field, "", "", err.Error())
		return "", "", false
	}
	if _, own := b.run.mountedIn(b.release.manifest.Paths, string(p)); !own {
		b.found(report.BootAltered, b.name, field, from, string(p)+rest, "the system names a file that is not from its release")
		return "", "", false
	}
	b.tier.Checked++
	return p, rest, true
}

// file compares a file that the loader names with the one where from, a path of the
// system, leads. With appended there may be more at the end of it.
func (b *bootFiles) file(ctx context.Context, field, name, from string, appended bool) {
	p, rest, ok := b.wanted(field, name, from)
	if !ok {
		return
	}
	source := string(p) + rest
	where, inStore := b.locate(name)
	if in := b.dir.Name(); where != "" {
		if inStore {
			in = string(b.run.StoreDir)
		}
		b.drives(field, name, in)
	}
	switch {
	case where == "":
		b.found(report.BootUnchecked, b.name, field, source, name, "it is unknown which directory of this machine that is")
	case inStore:
		// Nothing was copied: the contents tier hashes it.
		if source != where {
			b.found(report.BootAltered, b.name, field, source, name, "")
		}
	default:
		pair := bootPair{b.dir, where, storeFile{p, strings.TrimPrefix(rest, "/")}}
		b.copied(ctx, pair, appended, func(cause report.Cause, got, detail string) {
			b.found(cause, path.Join(b.dir.Name(), where), field, source, got, detail)
		})
	}
}

// copied compares a file of the boot loader's directory with the store's file that it is a
// copy of, and reports what is wrong.
func (b *bootFiles) copied(ctx context.Context, pair bootPair, appended bool, found func(cause report.Cause, got, detail string)) {
	want, got, cause, err := b.sizes(pair)
	switch {
	case err != nil && cause == report.BootAltered:
		found(cause, "nothing", "")
		return
	case err != nil:
		found(cause, "", err.Error())
		return
	case got < want || got > want && !appended:
		found(report.BootAltered, fmt.Sprintf("%d bytes, not %d", got, want), "")
		return
	}
	same, cached, err := b.run.same(ctx, pair, want)
	at := int64(-1)
	if err == nil && !same {
		at, err = b.run.firstOther(ctx, pair, want)
	}
	switch {
	case ctx.Err() != nil:
		b.worst = report.BootUnchecked
	case err != nil:
		found(report.BootUnchecked, "", err.Error())
	case !same && at < 0:
		found(report.BootUnchecked, "", "it changed while it was read, or the disk reads unsteadily")
	case !same:
		found(report.BootAltered, fmt.Sprintf("another byte at %d of %d", at, got), "")
	case cached:
		found(report.BootUnchecked, "", errCached.Error())
	case got > want:
		found(report.BootUnchecked, fmt.Sprintf("%d bytes more", got-want), appendedDetail)
	}
}

// appendedDetail says why the rest of an initrd can't be checked.
const appendedDetail = "this machine's own files are appended, which no release can know; they can replace anything in the initrd"

// sizes returns the sizes of both files, or why not, with the cause of the finding
// about that.
func (b *bootFiles) sizes(p bootPair) (want, got int64, cause report.Cause, err error) {
	stored, err := b.run.store.OpenFile(p.want.path, p.want.rel)
	if err != nil {
		return 0, 0, report.BootUnchecked, err
	}
	defer stored.Close()
	copied, err := p.dir.Open(p.name)
	switch {
	case isAbsent(err):
		return 0, 0, report.BootAltered, err
	case err != nil:
		return 0, 0, report.BootUnchecked, err
	}
	defer copied.Close()
	return stored.Size(), copied.Size(), "", nil
}

// firstDifference returns where the first n bytes of two files differ, -1 where they
// do not.
func firstDifference(ctx context.Context, pace func(context.Context, int) error, a, b io.ReaderAt, n int64) (int64, error) {
	const piece = 256 << 10
	bufA, bufB := make([]byte, piece), make([]byte, piece)
	for at := int64(0); at < n; at += piece {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		size := min(piece, n-at)
		for _, from := range []struct {
			io.ReaderAt
			to []byte
		}{{a, bufA[:size]}, {b, bufB[:size]}} {
			if pace != nil {
				if err := pace(ctx, len(from.to)); err != nil {
					return 0, err
				}
			}
			if got, err := from.ReadAt(from.to, at); int64(got) < size {
				return 0, err
			}
		}
		if !bytes.Equal(bufA[:size], bufB[:size]) {
			for i := range size {
				if bufA[i] != bufB[i] {
					return at + i, nil
				}
			}
		}
	}
	return -1, nil
}

// locate returns the path, in the boot loader's directory, of a file that it names or,
// with inStore, the path in the store that it reads itself; "" if that is unknown.
func (b *bootFiles) locate(name string) (where string, inStore bool) {
	if !plainName(b.entry.Loader, name) {
		return "", false
	}
	if b.entry.Medium {
		if !path.IsAbs(name) {
			return "", false
		}
		return clean(name), false
	}
	switch b.entry.Loader {
	case bootloader.SystemdBoot:
		return clean(strings.ReplaceAll(name, `\`, "/")), false
	case bootloader.Grub:
		if strings.HasPrefix(name, "(") {
			_, name, _ = strings.Cut(name, ")")
		}
	default:
		if !path.IsAbs(name) {
			return clean(path.Join("/", path.Dir(b.entry.File), name)), false
		}
	}
	return locateIn(name, b.dir.Name(), b.run.StoreDir, b.namesOf)
}

// locateIn is [bootFiles.locate] of a name that begins at a file system, which need not be
// mounted at the root. names returns those by which the loader may know a directory.
func locateIn(name, dir string, store closure.StoreDir, names func(dir string, usual ...string) []string) (where string, inStore bool) {
	name = path.Clean("/" + name)
	below := func(as string) (rest string, ok bool) {
		return strings.CutPrefix(name, strings.TrimSuffix(as, "/")+"/")
	}
	for _, as := range names(string(store), string(store), strings.TrimPrefix(string(store), path.Dir(string(store)))) {
		if rest, ok := below(as); ok {
			if _, _, err := store.Within(string(store) + "/" + rest); err == nil {
				return string(store) + "/" + rest, true
			}
		}
	}
	for _, as := range names(dir, dir, "") {
		if rest, ok := below(as); ok && (strings.HasPrefix(rest, "kernels/") || strings.HasPrefix(rest, "nixos/")) {
			return clean(rest), false
		}
	}
	return "", false
}

// plainName reports whether name is the name of one file, whoever reads it: a loader may
// follow a link before "..", and GRUB takes quotes and variables out of a name, and files
// for a pattern.
func plainName(loader, name string) bool {
	if loader == bootloader.Grub {
		if strings.HasPrefix(name, "(") {
			_, name, _ = strings.Cut(name, ")")
		}
		if strings.ContainsAny(name, "'\"\\$*?[]{}") {
			return false
		}
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' })
	for len(parts) > 0 && parts[0] == ".." {
		parts = parts[1:] // from where the loader begins
	}
	return !slices.Contains(parts, "..")
}

// namesOf returns the names by which a loader may know a directory: its own one within its
// file system, and the usual ones unless that is sure.
func (b *bootFiles) namesOf(dir string, usual ...string) []string {
	origins, err := b.run.store.Origins(dir)
	if err != nil || len(origins) == 0 {
		return usual
	}
	return namesIn(origins[0].Mounts, origins[0].Path, b.run.outside(), usual)
}

func namesIn(mounts []nixstore.Mount, dir string, outside bool, usual []string) []string {
	name, sure := nameInFileSystem(mounts, dir)
	if sure && !outside {
		return []string{name}
	}
	return append([]string{name}, usual...)
}

// nameInFileSystem returns GRUB's name of a directory within its file system, which is the
// last of mounts. It is not sure in a container, whose root may be a directory of a file
// system, and of a file system that GRUB does not read.
func nameInFileSystem(mounts []nixstore.Mount, dir string) (name string, sure bool) {
	name = nixstore.At(mounts, dir).Dir
	last := &mounts[len(mounts)-1]
	switch last.Type {
	case "zfs":
		_, dataset, _ := strings.Cut(last.Source, "/")
		return path.Join("/", dataset, "@", name), true
	case "btrfs":
		return name, true
	}
	return name, !strings.HasPrefix(last.Device, "0:") &&
		slices.ContainsFunc(mounts, func(m nixstore.Mount) bool { return m.Device == last.Device && m.Root == "/" })
}

// clean returns an absolute path as one below a directory.
func clean(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name != "" {
		return name
	}
	return "."
}

// devicetree compares the device tree that the loader passes to the kernel, or the
// directory from which it chooses one. want is the device tree that the system has
// systemd-boot load; "" for none. Other loaders take one of the system's dtbs.
func (b *bootFiles) devicetree(ctx context.Context, want string) {
	e := b.entry
	switch {
	case e.Loader == bootloader.SystemdBoot:
		switch {
		case want != "" && e.Devicetree == "", want == "" && e.Devicetree != "":
			b.found(report.BootAltered, b.name, "devicetree", want, e.Devicetree, "")
		case want != "":
			b.file(ctx, "devicetree", e.Devicetree, want, false)
		}
	case e.DevicetreeDir != "":
		where, inStore := b.locate(e.DevicetreeDir)
		b.tree(ctx, where, inStore, string(b.system)+"/dtbs", 0)
	case e.Devicetree != "" && e.Loader == bootloader.Extlinux:
		// It is in the loader's copy of the system's directory dtbs.
		where, _ := b.locate(e.Devicetree)
		parts := strings.SplitN(where, "-dtbs/", 2)
		if len(parts) != 2 {
			b.found(report.BootAltered, b.name, "devicetree", string(b.system)+"/dtbs", e.Devicetree, "")
			return
		}
		b.file(ctx, "devicetree", e.Devicetree, string(b.system)+"/dtbs/"+parts[1], false)
	case e.Devicetree != "":
		b.found(report.BootUnchecked, b.name, "devicetree", "", e.Devicetree, "no release says which device tree GRUB hands on")
	}
}

// bootSpec is the part of a system's boot.json that is read.
type bootSpec struct {
	V1 struct {
		InitrdSecrets string `json:"initrdSecrets"`
	} `json:"org.nixos.bootspec.v1"`
	SystemdBoot struct {
		Devicetree string `json:"devicetree"`
	} `json:"org.nixos.systemd-boot"`
	ExtraInitrd struct {
		// Paths are those of files that the machine makes itself, on its boot partition.
		Paths []string `json:"paths"`
	} `json:"org.nixos.extra-initrd.v1"`
}

// namesExtra reports whether the system asks for a further initrd of that name.
func (s *bootSpec) namesExtra(name string) bool {
	return slices.ContainsFunc(s.ExtraInitrd.Paths, func(p string) bool { return clean(p) == clean(name) })
}

// readSpec reads the boot.json of the system. One without any has no device tree for
// systemd-boot, and secrets if it has the program that appends them.
func (b *bootFiles) readSpec() (spec bootSpec, err error) {
	const maxSpec = 1 << 20
	data, err := b.run.store.ReadFile(b.system, "boot.json", maxSpec)
	if errors.Is(err, fs.ErrNotExist) {
		if _, _, err := b.run.store.ResolveLink(string(b.system) + "/append-initrd-secrets"); !isAbsent(err) {
			spec.V1.InitrdSecrets = "append-initrd-secrets"
		}
		return spec, nil
	}
	if err != nil {
		return spec, err
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return spec, fmt.Errorf("boot.json of the system: %w", err)
	}
	return spec, nil
}

const (
	maxTreeNames = 10_000
	maxTreeDepth = 4
)

// tree compares a directory of device trees with the one where from leads, which has
// directories of vendors.
func (b *bootFiles) tree(ctx context.Context, where string, inStore bool, from string, depth int) {
	p, rest, err := b.run.store.ResolveLink(from)
	if err != nil {
		b.found(report.BootAltered, b.name, "devicetree", from, where, err.Error())
		return
	}
	if inStore || where == "" {
		if string(p)+rest != where {
			b.found(report.BootAltered, b.name, "devicetree", string(p)+rest, where, "")
		}
		return
	}
	want, err := b.run.store.EntriesOf(p, strings.TrimPrefix(rest, "/"), maxTreeNames)
	if err != nil {
		b.found(report.BootUnchecked, b.name, "devicetree", from, "", err.Error())
		return
	}
	got, err := b.dir.Names(where, maxTreeNames)
	if err != nil {
		b.found(report.BootAltered, path.Join(b.dir.Name(), where), "devicetree", string(p)+rest, "", err.Error())
		return
	}
	slices.Sort(want)
	slices.Sort(got)
	for _, name := range got {
		if _, has := slices.BinarySearch(want, name); !has {
			b.found(report.BootAltered, path.Join(b.dir.Name(), where, name), "devicetree", "nothing", "a file or directory", "")
		}
	}
	for _, name := range want {
		if ctx.Err() != nil {
			b.worst = report.BootUnchecked
			return
		}
		if strings.HasSuffix(name, ".dtb") || strings.HasSuffix(name, ".dtbo") {
			b.relative(ctx, path.Join(where, name), from+"/"+name)
			continue
		}
		if depth == maxTreeDepth {
			b.found(report.BootUnchecked, path.Join(b.dir.Name(), where, name), "devicetree", "", "", "directories in directories")
			continue
		}
		b.tree(ctx, path.Join(where, name), false, from+"/"+name, depth+1)
	}
}

// relative is file of a name relative to the loader's directory.
func (b *bootFiles) relative(ctx context.Context, where, from string) {
	own := *b.entry
	own.Loader, own.File = bootloader.Extlinux, ""
	c := *b
	c.entry = &own
	c.file(ctx, "devicetree", where, from, false)
	b.worst = c.worst
}
