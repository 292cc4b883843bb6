package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/nar"
)

// image compares a unified kernel image with the system that it claims to boot: each
// of its sections is a file of the system, or its command line, or belongs to the stub
// of systemd that starts them.
func (b *bootFiles) image(ctx context.Context, spec *bootSpec) {
	e := b.entry
	shown := path.Join(b.dir.Name(), e.Image)
	for _, further := range append(slices.Clone(e.Initrds), e.Devicetree) {
		if further != "" {
			b.found(report.BootAltered, b.name, "image", e.Image, further, "a further file, which the image is started with")
		}
	}
	f, err := b.dir.Open(e.Image)
	if err != nil {
		b.found(report.BootUnchecked, shown, "image", "", "", err.Error())
		return
	}
	defer f.Close()
	image, err := bootloader.ReadImage(f)
	if err != nil {
		b.found(report.BootUnchecked, shown, "image", "", "", err.Error())
		return
	}
	if want, err := b.run.wantedCommandLine(b.system); err == nil { // else options said so
		if line, err := image.CommandLine(); err != nil {
			b.found(report.BootUnchecked, shown, "options", want, "", err.Error())
		} else if oneBlank(line) != want && oneBlank(line) != oneBlank(e.Options) {
			b.found(report.BootAltered, shown, "options", want, line, "")
		}
	}
	if b.run.Read == nar.ReadDisk {
		b.found(report.BootUnchecked, shown, "image", "", "", errCached.Error())
	}
	stub, err := b.stubOf(ctx, image)
	switch {
	case ctx.Err() != nil:
		b.worst = report.BootUnchecked
		return
	case err != nil:
		b.found(report.BootUnchecked, shown, "stub", "", "", err.Error())
		return
	case stub == nil:
		b.run.findOnce(report.Finding{
			Tier: report.TierLive, Cause: report.LoaderUnknown, Path: shown, Field: "stub",
			Detail: "the program in the image, which starts its kernel, is no systemd-stub of an accepted release",
		})
	}
	b.sections(ctx, shown, image, stub, spec)
	b.addons()
}

// sections compares the sections of an image other than its program.
func (b *bootFiles) sections(ctx context.Context, shown string, image, stub *bootloader.Image, spec *bootSpec) {
	system := string(b.system)
	from := map[string]string{
		".linux": system + "/kernel", ".initrd": system + "/initrd", ".osrel": system + "/etc/os-release", ".dtb": spec.SystemdBoot.Devicetree,
	}
	fields := map[string]string{".linux": "kernel", ".initrd": "initrd", ".dtb": "devicetree"}
	for _, part := range image.Parts() {
		field := fields[part.Name]
		if field == "" {
			field = part.Name
		}
		switch part.Name {
		case ".linux", ".initrd", ".osrel", ".dtb":
			if from[part.Name] == "" {
				b.found(report.BootAltered, shown, field, "nothing", "a section "+part.Name, "")
				continue
			}
			if p, rest, ok := b.wanted(field, part.Name, from[part.Name]); ok {
				appended := part.Name == ".initrd" && (b.secrets || len(spec.ExtraInitrd.Paths) > 0)
				b.part(ctx, shown, field, &part, storeFile{p, strings.TrimPrefix(rest, "/")}, appended)
			}
			if part.Zeroes > 0 {
				b.found(report.BootAltered, shown, field, "", fmt.Sprintf("%d zero bytes more", part.Zeroes), "")
			}
		case ".cmdline", ".uname", ".sbat":
			// The first is compared above. The others start nothing: they name the
			// kernel's version to people, and the stub's to whoever signs it.
		case ".ucode", ".dtbauto", ".efifw":
			b.found(report.BootAltered, shown, field, "nothing", "a section "+part.Name, "it is passed to the kernel or the firmware, and no system has it")
		default:
			if stub != nil && stub.Part(part.Name) == nil {
				b.found(report.BootUnchecked, shown, field, "", "a section "+part.Name, "no release states its contents")
			}
		}
	}
	for name, file := range from {
		if name != ".osrel" && file != "" && image.Part(name) == nil {
			if _, _, err := b.run.store.ResolveLink(file); !isAbsent(err) {
				b.found(report.BootAltered, shown, fields[name], file, "no section "+name, "")
			}
		}
	}
}

// part compares a section with a file of the store. With appended there may be more at
// the end of it.
func (b *bootFiles) part(ctx context.Context, shown, field string, part *bootloader.Part, from storeFile, appended bool) {
	want, err := b.run.store.OpenFile(from.path, from.rel)
	if err != nil {
		b.found(report.BootUnchecked, shown, field, from.String(), "", err.Error())
		return
	}
	defer want.Close()
	size := want.Size()
	at, err := firstDifference(ctx, b.run.boots().pace, want, part.Open(), min(size, part.Size))
	switch {
	case ctx.Err() != nil:
		b.worst = report.BootUnchecked
	case err != nil:
		b.found(report.BootUnchecked, shown, field, from.String(), "", err.Error())
	case at >= 0:
		b.found(report.BootAltered, shown, field, from.String(), fmt.Sprintf("another byte at %d of %d", at, part.Size), "")
	case part.Size < size || part.Size > size && !appended:
		b.found(report.BootAltered, shown, field, from.String(), fmt.Sprintf("%d bytes, not %d", part.Size, size), "")
	case part.Size > size:
		b.found(report.BootUnchecked, shown, field, from.String(), fmt.Sprintf("%d bytes more", part.Size-size), appendedDetail)
	}
}

// stubOf returns the systemd-stub of an accepted release that an image is made of, nil
// for none.
func (b *bootFiles) stubOf(ctx context.Context, image *bootloader.Image) (*bootloader.Image, error) {
	for _, file := range b.run.loaderFiles(b.release) {
		if !strings.HasPrefix(path.Base(file.rel), "linux") || !strings.HasSuffix(file.rel, ".efi.stub") {
			continue
		}
		f, err := b.run.store.OpenFile(file.path, file.rel)
		if err != nil {
			return nil, err
		}
		stub, err := bootloader.ReadImage(f)
		if err == nil {
			var same bool
			if same, err = b.run.madeOf(ctx, image, stub); same && err == nil {
				f.Close()
				return stub, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// madeOf reports whether an image has all of a stub, each section at its place.
func (r *run) madeOf(ctx context.Context, image, stub *bootloader.Image) (bool, error) {
	if !image.StartsAs(stub) {
		return false, nil
	}
	for _, want := range stub.Parts() {
		if want.Name == ".sbat" {
			continue // programs that make images add to it
		}
		got := image.Part(want.Name)
		if got == nil || got.Address != want.Address || got.Size != want.Size || got.Zeroes != want.Zeroes {
			return false, nil
		}
		at, err := firstDifference(ctx, r.boots().pace, want.Open(), got.Open(), want.Size)
		if err != nil || at >= 0 {
			return false, ignoreEnd(err)
		}
	}
	return true, nil
}

// ignoreEnd returns nil for the end of a file: it was shortened meanwhile, so it differs.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// addons reports the files that systemd-stub would pass on besides the image: command
// lines, device trees, credentials, extensions of the initrd.
func (b *bootFiles) addons() {
	const most = 100
	for _, place := range append(b.entry.ImageExtras(), "loader/addons", "loader/credentials", "loader/extensions") {
		names, err := b.dir.Names(place, most)
		if isAbsent(err) || err == nil && len(names) == 0 {
			continue
		}
		detail := "these files are passed on with the image"
		if err != nil {
			detail = err.Error()
		}
		slices.Sort(names)
		b.found(report.BootUnchecked, path.Join(b.dir.Name(), place), "image", "", strings.Join(names, " "), detail)
	}
}
