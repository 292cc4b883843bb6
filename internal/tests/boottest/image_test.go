//go:build qemu

package boottest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"every.channel/ec-verify/internal/tests/guest"
)

const mebibyte = 1 << 20

// makeInitrd writes an initrd with the layout's units to file.
func makeInitrd(t *testing.T, l layout, file string) {
	t.Helper()
	dir := t.TempDir()
	system := filepath.Join(dir, "etc/systemd/system")
	install(t, system, l.InitrdUnits)
	// From here on, what NixOS' own modules add: where stage 1 finds its fstab,
	// and /run below the new root.
	const fstab = "/etc/overlay-root.fstab"
	write(t, filepath.Join(dir, fstab), l.Fstab)
	write(t, filepath.Join(dir, "etc/systemd/system.conf"),
		"[Manager]\nDefaultEnvironment=PATH=/bin:/sbin\nManagerEnvironment=PATH=/bin:/sbin SYSTEMD_SYSROOT_FSTAB="+fstab+"\n")
	write(t, filepath.Join(system, "initrd-parse-etc.service.d/overrides.conf"),
		"[Service]\nEnvironment=SYSTEMD_SYSROOT_FSTAB="+fstab+"\n")
	install(t, system, map[string]unit{"sysroot-run.mount": {
		Text:       "[Unit]\nBefore=initrd-fs.target\nDefaultDependencies=false\n\n[Mount]\nWhat=/run\nWhere=/sysroot/run\nOptions=rbind\n",
		RequiredBy: []string{"initrd-fs.target"},
	}})
	shell(t, `cat "$1/initrd" >"$2"; cd "$3"; find . | cpio --quiet -o -H newc -R +0:+0 >>"$2"`, guest.Made(t), file, dir)
}

// makeRoot fills dir with the machine's root: Debian's files, and of NixOS what
// its modules make of the layout.
func makeRoot(t *testing.T, l layout, dir string) {
	t.Helper()
	guest.Root(t, dir)
	system := filepath.Join(dir, "etc/systemd/system")
	write(t, filepath.Join(dir, "etc/fstab"), l.Fstab)
	write(t, filepath.Join(dir, "etc/hostname"), "runner\n")
	write(t, filepath.Join(dir, "etc/systemd/journald.conf.d/nixos.conf"), "[Journal]\nStorage=persistent\n")
	install(t, system, l.SystemUnits)
	for _, name := range l.SuppressedSystemUnits {
		link(t, "/dev/null", filepath.Join(system, name))
	}
	var keys, generate strings.Builder
	for _, k := range l.HostKeys {
		fmt.Fprintf(&keys, "HostKey %s\n", k.Path)
		fmt.Fprintf(&generate, "ExecStart=/bin/sh -c '[ -s %[2]s ] || { mkdir -p $(dirname %[2]s) && ssh-keygen -q -t %[1]s -f %[2]s -N \"\"; }'\n", k.Type, k.Path)
	}
	write(t, filepath.Join(dir, "etc/ssh/sshd_config.d/keys.conf"), keys.String())
	write(t, filepath.Join(system, "sshd-keygen.service"), "[Unit]\nBefore=ssh.service\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"+generate.String())
	link(t, "../sshd-keygen.service", filepath.Join(system, "ssh.service.wants/sshd-keygen.service"))
}

// content is what goes onto one partition of a disk.
type content struct {
	name    string // of the layout
	mib     int
	from    string // a directory, or empty
	skipped bool   // the partition is there, without a file system
}

// makeDisk writes a partitioned disk to file. It returns the byte offsets of
// its partitions, by name.
func makeDisk(t *testing.T, l layout, file string, parts ...content) map[string]int64 {
	t.Helper()
	table, offset, offsets := "label: gpt\n", int64(1), map[string]int64{}
	for _, c := range parts {
		p := l.partition(t, c.name)
		table += fmt.Sprintf("start=%dMiB, size=%dMiB, type=%s, name=%s\n", offset, c.mib, p.Type, p.Partlabel)
		offsets[c.name] = offset * mebibyte
		offset += int64(c.mib)
	}
	run(t, "truncate", "-s", fmt.Sprintf("%dM", offset+1), file)
	sfdisk := exec.Command("sfdisk", "--quiet", file)
	sfdisk.Stdin = strings.NewReader(table)
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s\n%s", err, out, table)
	}
	for _, c := range parts {
		if c.skipped {
			continue
		}
		p := l.partition(t, c.name)
		switch p.FsType {
		case "vfat":
			run(t, "mkfs.vfat", "-F", "16", "-n", p.Label, "--offset", fmt.Sprint(offsets[c.name]/512), file, fmt.Sprint(c.mib*1024))
		default:
			args := []string{"-q", "-F", "-L", p.Label, "-E", fmt.Sprintf("offset=%d", offsets[c.name])}
			if c.from != "" {
				args = append(args, "-d", c.from)
			}
			run(t, "mkfs."+p.FsType, append(args, file, fmt.Sprintf("%dM", c.mib))...)
		}
	}
	return offsets
}

func (l layout) partition(t *testing.T, name string) partition {
	t.Helper()
	for _, p := range l.Disk.Partitions {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("the disk layout has no partition %s", name)
	return partition{}
}
