package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"every.channel/ec-verify/internal/hostfile"
	"every.channel/ec-verify/internal/node/bootloader"
	"every.channel/ec-verify/internal/report"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
)

// efiVariables is where the firmware keeps what systemd-boot goes by.
const efiVariables = "/sys/firmware/efi/efivars/"

// checkBoot checks what a machine boots from, and its command line.
func (r *run) checkBoot(ctx context.Context, t *report.Tier, line string) {
	entries := r.checkEntries(ctx, t)
	besides := r.checkBootedLine(entries, line)
	unseen := []string{bootUnseen(entriesOf(entries, line), besides), r.firmwareUnseen(), r.searchUnseen()}
	t.Why = strings.Join(slices.DeleteFunc(unseen, func(s string) bool { return s == "" }), "; ")
}

// checkEntries checks where the entries of the boot menus lead, and returns them.
func (r *run) checkEntries(ctx context.Context, t *report.Tier) []bootloader.Entry {
	dirs := r.openBootDirs()
	asLoader := make([]bootloader.Dir, len(dirs))
	for i, d := range dirs {
		defer d.Close()
		asLoader[i] = d
	}
	if r.ContentsBudget > 0 {
		r.Pacer.PauseUntil(time.Now().Add(r.ContentsBudget))
		defer r.Pacer.PauseUntil(time.Time{})
	}
	defer r.endBoots()
	entries, problems := bootloader.Read(asLoader, r.loaderVariables())
	at := func(name string) int { return slices.IndexFunc(dirs, func(d bootDir) bool { return d.Name() == name }) }
	if i := at(mediumDir); i >= 0 {
		var efi bootloader.Dir
		if j := at(mediumImage); j >= 0 {
			efi = dirs[j]
		}
		more, odd := bootloader.ReadMedium(dirs[i], i, efi)
		entries, problems = append(entries, more...), append(problems, odd...)
	}
	for _, p := range problems {
		r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: path.Join(dirs[p.Dir].Name(), p.File), Detail: p.Err.Error()})
	}
	for i := range entries {
		if ctx.Err() != nil {
			return nil
		}
		t.Checked++
		e := &entries[i]
		dir := dirs[e.Dir]
		r.judgeEntry(ctx, &bootFiles{run: r, tier: t, dir: dir, entry: e, name: strings.TrimSuffix(dir.Name(), "/") + "/" + e.Name()})
	}
	for _, dir := range dirs {
		if !r.planning {
			r.checkLoaders(ctx, t, dir)
		}
	}
	return entries
}

// bootUnseen returns a sentence that says that the booted kernel and initrd could not be
// compared; "" if they could. The entries are those for the booted system and initrd;
// besides are the kernel's parameters that the release does not have.
func bootUnseen(entries []bootloader.Entry, besides []string) string {
	if len(entries) > 0 {
		return ""
	}
	const why = "no boot menu here has the booted entry, so kernel and initrd were not compared"
	if len(besides) == 0 {
		return why
	}
	return why + "; a firmware or hypervisor gave the kernel " + excerpt.Of(strings.Join(besides, " "), maxShownWords) + " besides"
}

// loaderVariables returns the firmware's variables for systemd-boot. An unreadable one
// counts as unset.
func (r *run) loaderVariables() bootloader.Variables {
	if r.outside() {
		return bootloader.Variables{}
	}
	read := func(name string) string {
		const maxVariable = 4 << 10
		data, err := hostfile.ReadSmall(efiVariables+name+"-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", maxVariable)
		if err != nil || len(data) < 4 {
			return ""
		}
		data = data[4:] // after the attributes
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(data[2*i:])
		}
		return strings.TrimRight(string(utf16.Decode(units)), "\x00")
	}
	return bootloader.Variables{
		OneShot: read("LoaderEntryOneShot"), Preferred: read("LoaderEntryPreferred"),
		Default: read("LoaderEntryDefault"), LastBooted: read("LoaderEntryLastBooted"),
	}
}

// judgeEntry judges where an entry of the boot menu leads, and notes it for the
// contents tier.
func (r *run) judgeEntry(ctx context.Context, b *bootFiles) {
	values := initOf(b.entry.Options)
	if len(values) == 0 {
		why := b.entry.Foreign
		if why == "" {
			why = "its command line has no init=, which boots NixOS"
		}
		r.foreignEntry(b.entry, b.name, "", why, true)
		return
	}
	for _, value := range values {
		l, leads := r.judgeInit(ctx, b, value)
		if leads {
			r.live.leads = append(r.live.leads, l)
		} else if ctx.Err() != nil {
			return
		}
	}
}

// judgeInit judges an init= of an entry, and returns where it leads; false if no accepted
// release can be there.
func (r *run) judgeInit(ctx context.Context, b *bootFiles, value string) (l lead, leads bool) {
	e, name := b.entry, b.name
	p, rest, err := r.StoreDir.Within(value)
	if err != nil || rest != "/init" {
		r.foreignEntry(e, name, value, "", false)
		return l, false
	}
	l.next = e.Default
	release, unknown, err := r.acceptedAs(ctx, p)
	switch {
	case ctx.Err() != nil:
		return l, false
	case err != nil:
		r.find(report.Finding{Tier: report.TierLive, Cause: report.LiveUnknown, Path: name, Detail: err.Error()})
		return l, true
	case release == nil && unknown != nil && e.Default:
		r.find(report.Finding{
			Tier: report.TierLive, Cause: report.LiveUnknown, Path: name, Got: value,
			Detail: fmt.Sprintf("it may be the accepted release %s, which could not be opened: %v", unknown.Tag, unknown.Err),
		})
		return l, true
	case release != nil && release != r.chosen && release.revoked() != nil:
		r.revokedEntry(e, name, p, release)
		return l, false
	case release == nil:
		r.strangerEntry(e, name, p)
		return l, false
	}
	l.release = release
	b.release, b.system = release, p
	if r.planning {
		return l, true
	}
	switch b.compare(ctx) {
	case report.BootAltered:
		l.odd = report.BootAltered
	case report.BootUnchecked:
		l.unchecked = true
	}
	if e.Default && release != r.chosen {
		l.pending = report.Finding{
			Tier: report.TierLive, Path: name, Want: string(r.manifest.Toplevel.OutPath), Got: string(p),
			Detail: "it leads to the accepted release " + release.Tag,
		}
	}
	return l, true
}

// foreignEntry adds the finding about an entry that leads to no system in the store.
// One that the operator may have configured, such as a memory test, is graded.
func (r *run) foreignEntry(e *bootloader.Entry, name, got, why string, graded bool) {
	f := report.Finding{Tier: report.TierLive, Cause: report.OtherEntry, Path: name, Got: got, Detail: why}
	if graded && !e.Default && !r.StrictEntries {
		f.Cause = report.UnacceptedEntry
	}
	if e.Default {
		f.Want = string(r.manifest.Toplevel.OutPath) + "/init"
		r.live.leads = append(r.live.leads, lead{next: true, odd: f.Cause})
	}
	r.find(f)
}

// revokedEntry adds the finding about an entry that leads to a release which is
// revoked: an older generation is graded as one of no accepted release, unless the
// machine boots it by itself.
func (r *run) revokedEntry(e *bootloader.Entry, name string, p closure.StorePath, c *candidate) {
	why := "it is release " + c.Tag + ": " + c.revoked().String()
	if !e.Default {
		r.foreignEntry(e, name, string(p), why, true)
		return
	}
	r.live.leads = append(r.live.leads, lead{next: true, odd: report.ReleaseRevoked})
	r.find(report.Finding{
		Tier: report.TierLive, Cause: report.ReleaseRevoked, Path: name,
		Want: string(r.manifest.Toplevel.OutPath) + "/init", Got: string(p), Detail: why,
	})
}

// strangerEntry adds the finding about an entry that leads to a system of no accepted
// release. An older generation has the configured grade, and so has a system that can no
// longer be booted; a system in no profile is no older generation.
func (r *run) strangerEntry(e *bootloader.Entry, name string, p closure.StorePath) {
	exists, err := r.store.Exists(p)
	generation, genErr := r.isGeneration(p)
	switch {
	case err != nil || genErr != nil:
		r.foreignEntry(e, name, string(p), fmt.Sprintf("it is unknown whether it is a generation of a system profile: %v", errors.Join(err, genErr)), false)
	case !exists:
		r.foreignEntry(e, name, string(p), "it is not in the store any more", true)
	case generation != "":
		r.foreignEntry(e, name, string(p), "it is the generation "+generation, true)
	default:
		r.foreignEntry(e, name, string(p), "it is no generation of a system profile", false)
	}
}

// maxGenerations limits the names in a directory of profiles.
const maxGenerations = 20_000

var generationLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^.+-[0-9]+-link$`) })

// isGeneration returns the link of a system profile that leads to p, "" for none.
func (r *run) isGeneration(p closure.StorePath) (string, error) {
	if r.generations == nil {
		r.generations = make(map[closure.StorePath]string)
		for _, of := range []struct{ dir, prefix string }{{profilesDir, "system-"}, {profilesDir + "/system-profiles", ""}} {
			d, err := r.store.Directory(of.dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return "", err
			}
			names, err := d.Names(".", maxGenerations)
			d.Close()
			if err != nil {
				return "", err
			}
			for _, name := range names {
				if !generationLink().MatchString(name) || !strings.HasPrefix(name, of.prefix) {
					continue
				}
				if to, rest, err := r.store.ResolveLink(of.dir + "/" + name); err == nil && rest == "" {
					r.generations[to] = name
				}
			}
		}
	}
	return r.generations[p], nil
}
