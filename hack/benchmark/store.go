package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	releaseDir    = "/srv/releases/boot-bench"
	configuration = "bench"
	fakeDigest    = "00000000000000000000000000000000"
)

// storePackages is how many store paths with 200 files each the store has: 80,000
// files and a little over 5 GB.
const storePackages = 400

// makeStore puts so many store paths into the store, registers them, and writes
// the release that they are. The sizes
// follow those of a system's closure: most files are small, most bytes are in
// large ones.
func makeStore(ctx context.Context, packages int) error {
	// The first thing that Nix is asked makes the store.
	if out, err := exec.CommandContext(ctx, "nix-store", "--init").CombinedOutput(); err != nil {
		return fmt.Errorf("make the store: %w\n%s", err, out)
	}
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 32<<20)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var infos []closure.PathInfo
	var refs []closure.StorePath
	hasher := nar.NewHasher(nar.Options{})
	store, err := os.Open(string(closure.DefaultStoreDir))
	if err != nil {
		return err
	}
	defer store.Close()
	add := func(name string, references []closure.StorePath, fill func(dir string) error) error {
		p, err := closure.DefaultStoreDir.ParseBase(fmt.Sprintf("%032d-%s", len(infos)+1, name))
		if err != nil {
			return err
		}
		if err := fill(string(p)); err != nil {
			return err
		}
		sum, err := hasher.Sum(ctx, store, p.Base())
		if err != nil {
			return err
		}
		infos = append(infos, closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size, References: references})
		refs = append(refs, p)
		return nil
	}
	for i := range packages {
		err := add(fmt.Sprintf("package-%03d", i), nil, func(dir string) error { return fillPackage(dir, random, noise) })
		if err != nil {
			return err
		}
	}
	err = add("nixos-system-bench", append([]closure.StorePath(nil), refs...), func(dir string) error {
		return os.WriteFile(dir, []byte("toplevel\n"), 0o444)
	})
	if err != nil {
		return err
	}
	if err := register(ctx, infos); err != nil {
		return err
	}
	return writeRelease(infos)
}

// fillPackage makes 200 files: 150 of some KiB, 45 of some tens, 5 of a few
// MiB.
func fillPackage(dir string, random *rand.Rand, noise []byte) error {
	for i := range 200 {
		size := 512 + random.IntN(8<<10)
		switch {
		case i >= 195:
			size = 1<<20 + random.IntN(3<<20)
		case i >= 150:
			size = 16<<10 + random.IntN(64<<10)
		}
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", i%20))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		start := random.IntN(len(noise) - size)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%03d", i)), noise[start:start+size], 0o444); err != nil {
			return err
		}
	}
	return nil
}

// register has Nix take the paths for valid, in the form that nix-store
// --load-db reads.
func register(ctx context.Context, infos []closure.PathInfo) error {
	var in bytes.Buffer
	for _, info := range infos {
		fmt.Fprintf(&in, "%s\n%x\n%d\n\n%d\n", info.Path, info.NarHash[:], info.NarSize, len(info.References))
		for _, ref := range info.References {
			fmt.Fprintln(&in, ref)
		}
	}
	cmd := exec.CommandContext(ctx, "nix-store", "--load-db")
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	return cmd.Run()
}

func writeRelease(infos []closure.PathInfo) error {
	m := closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: configuration, System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source: closure.Source{NarHash: infos[0].NarHash},
		Toplevel: closure.Toplevel{
			DrvPath: closure.StorePath(string(closure.DefaultStoreDir) + "/" + fakeDigest + "-nixos-system-bench.drv"),
			OutPath: infos[len(infos)-1].Path,
		},
		Paths: infos, Unreproducible: []closure.Unreproducible{},
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(releaseDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(releaseDir, release.ManifestName(configuration)), data, 0o644); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	info := release.Info{
		SchemaVersion: release.InfoSchema, Tag: "boot-bench", CreatedAt: now, BestBefore: now.Add(24 * time.Hour),
		Configurations: []string{configuration},
	}
	if err := release.WriteInfo(releaseDir, info); err != nil {
		return err
	}
	return release.WriteSums(context.Background(), releaseDir)
}
