package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"every.channel/ec-verify/pkg/closure"
)

const (
	// systemPaths is how many paths each of two systems has, of which one in ownShare
	// is its own.
	systemPaths  = 160
	ownShare     = 20
	systemRounds = 7
	kernelSize   = 12 << 20
	initrdSize   = 24 << 20
	otherTag     = "boot-other"
)

// makeSystems puts two systems into the store that share all but one in twenty of their
// paths; each has an initrd of its own. It lays out /boot for both as systemd-boot does,
// and writes the release of each.
func makeSystems(ctx context.Context, paths int) error {
	m, err := newMaker(ctx)
	if err != nil {
		return err
	}
	defer m.store.Close()
	of := shapes["uniform"]
	own := paths / ownShare
	file := func(name string, size int) func(dir string) error {
		return func(dir string) error {
			start := m.random.IntN(len(m.noise) - size)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, name), m.noise[start:start+size], 0o444); err != nil {
				return err
			}
			return canonical(dir)
		}
	}
	kernel, err := m.add("linux", nil, file("bzImage", kernelSize))
	if err != nil {
		return err
	}
	for i := range paths - own - 1 {
		if _, err := m.add(fmt.Sprintf("package-%05d", i), nil, m.fill(of, i)); err != nil {
			return err
		}
	}
	shared := slices.Clone(m.infos)
	for n, tag := range []string{tag, otherTag} {
		infos := slices.Clone(shared)
		keep := func(info closure.PathInfo, err error) error {
			infos = append(infos, info)
			return err
		}
		// The initrd and the toplevel are the system's own as well.
		for i := range own - 2 {
			if err := keep(m.add(fmt.Sprintf("own-%d-%05d", n, i), nil, m.fill(of, i))); err != nil {
				return err
			}
		}
		initrd, err := m.add(fmt.Sprintf("initrd-%d", n), nil, file("initrd", initrdSize))
		if err := keep(initrd, err); err != nil {
			return err
		}
		var refs []closure.StorePath
		for _, info := range infos {
			refs = append(refs, info.Path)
		}
		top, err := m.add(fmt.Sprintf("nixos-system-bench-%d", n), refs, func(dir string) error { return fillSystem(dir, kernel.Path, initrd.Path) })
		if err := keep(top, err); err != nil {
			return err
		}
		if err := bootEntry(n, top.Path, kernel.Path, initrd.Path); err != nil {
			return err
		}
		if err := writeRelease(filepath.Join(releases, tag), infos); err != nil {
			return err
		}
	}
	return register(ctx, m.infos)
}

// fillSystem makes a toplevel with the files that a boot loader's files are compared with.
func fillSystem(dir string, kernel, initrd closure.StorePath) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, target := range map[string]string{"kernel": string(kernel) + "/bzImage", "initrd": string(initrd) + "/initrd"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"kernel-params": "loglevel=4", "init": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o444); err != nil {
			return err
		}
	}
	return canonicalTree(dir)
}

// canonicalTree is [canonical] for a tree with links.
func canonicalTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := canonical(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	const touch = `chmod 555 "$0"; find "$0" -exec touch -h -d @1 {} +`
	return exec.Command("sh", "-euc", touch, dir).Run()
}

// bootEntry makes a system a generation, with an entry of the boot menu; the first one
// is what the machine boots and runs.
func bootEntry(n int, top, kernel, initrd closure.StorePath) error {
	const lay = `
		mkdir -p /boot/loader/entries /boot/EFI/nixos /nix/var/nix/profiles
		cp -n $3/bzImage /boot/EFI/nixos/kernel.efi; cp $4/initrd /boot/EFI/nixos/initrd-$1.efi
		printf '%s\n' 'title NixOS' "version $1" 'linux /EFI/nixos/kernel.efi' "initrd /EFI/nixos/initrd-$1.efi" \
			"options init=$2/init loglevel=4" >/boot/loader/entries/nixos-generation-$1.conf
		ln -s $2 /nix/var/nix/profiles/system-$1-link
		[ $1 != 0 ] || { ln -s system-0-link /nix/var/nix/profiles/system
			printf 'default nixos-generation-0.conf\n' >/boot/loader/loader.conf; }`
	cmd := exec.Command("sh", "-euc", lay, "sh", fmt.Sprint(n), string(top), string(kernel), string(initrd))
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// driveSystems measures the audit of two accepted systems beside that of one, of a disk
// that has both, and says so in the document.
func driveSystems(ctx context.Context) error {
	b, done, err := prepareAs(ctx, []string{"systems", fmt.Sprint(systemPaths)})
	if err != nil {
		return err
	}
	defer done()
	machine, err := b.machine()
	if err != nil {
		return err
	}
	var entries []entry
	var bytes []int64
	for name, accept := range map[string][]string{"one": {tag}, "two": {tag, otherTag}} {
		config, err := json.Marshal(map[string]any{
			"release":        map[string]any{"source": []string{filepath.Join(b.root, releases)}, "accept": accept},
			"unsafeUnsigned": true, "unsafeSkip": []string{"source", "eval"},
		})
		if err != nil {
			return err
		}
		file := filepath.Join(filepath.Dir(b.root), name+".json")
		if err := os.WriteFile(file, config, 0o600); err != nil {
			return err
		}
		entries = append(entries, entry{name, []string{
			filepath.Join(b.root, inRoot, "ec-verify"), "--config", file, "--store-root", b.root, "--state-dir", filepath.Join(filepath.Dir(b.root), "state-"+name), "--progress", "never",
		}})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for _, e := range entries {
		out, err := exec.CommandContext(ctx, e.argv[0], append(e.argv[1:], "--output", "json")...).Output()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", e.name, err, out)
		}
		var r struct{ Coverage struct{ Bytes int64 } }
		if err := json.Unmarshal(out, &r); err != nil {
			return err
		}
		bytes = append(bytes, r.Coverage.Bytes)
	}
	got := make(measured)
	for i := range systemRounds {
		say("round %d of %d", i+1, systemRounds)
		turns := slices.Clone(entries)
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, e := range turns {
			c, err := costHere(ctx, e.argv)
			if err != nil {
				return err
			}
			got[e.name] = append(got[e.name], c)
		}
	}
	// Beside the store the boot files, and what they are compared with.
	const boots = 2 * (kernelSize + initrdSize)
	goals := []goal{
		ratio("CPU time of two systems, of one's", got["two"], got["one"], cpu, 1.1),
		plain("bytes read of two systems, of one's", float64(bytes[1]+boots+2*initrdSize)/float64(bytes[0]+boots), 1.1),
	}
	fmt.Print(goalTable(goals))
	return writePart(systemsHeading, fmt.Sprintf(systemsHeading+`

Written by `+"`go run ./hack/benchmark systems`"+`: the audit of a disk that has two accepted
systems, of %d paths each, which share %d %% of them and the kernel, beside the audit of
the same disk where one of the two is accepted. Contents and boot files, warm, %d rounds;
%.1f GB for one. The bytes are those that the report counts, and the sizes of the boot files
and of what these are compared with.

%s
%s
| | CPU | at best |
|---|---|---|
%s`, systemPaths, 100-100/ownShare, systemRounds, float64(bytes[0]+boots)/1e9, list(machine), goalTable(goals), systemRows(got)))
}

func systemRows(got measured) string {
	var out strings.Builder
	for _, name := range []string{"one", "two"} {
		all := sorted(got[name], cpu)
		fmt.Fprintf(&out, "| %s | %s | %s |\n", name, seconds(all[len(all)/2]), seconds(all[0]))
	}
	return out.String()
}

// costHere measures a command outside the root.
func costHere(ctx context.Context, argv []string) (c cost, err error) {
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"run"}, argv...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(out, &c)
}
