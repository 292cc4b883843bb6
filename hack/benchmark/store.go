package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

const (
	releases      = "/srv/releases"
	configuration = "bench"
	fakeDigest    = "00000000000000000000000000000000"
	tag           = "boot-bench"
)

// A shape returns the sizes of the files in path number i of a store.
type shape func(i int, random *rand.Rand) (sizes []int)

// shapes are the stores that there are.
var shapes = map[string]shape{
	// 200 files to a path: with 400 paths 80,000 files and a little over 5 GB.
	"uniform": func(_ int, random *rand.Rand) (sizes []int) {
		for i := range 200 {
			switch {
			case i >= 195:
				sizes = append(sizes, 1<<20+random.IntN(3<<20))
			case i >= 150:
				sizes = append(sizes, 16<<10+random.IntN(64<<10))
			default:
				sizes = append(sizes, 512+random.IntN(8<<10))
			}
		}
		return sizes
	},
	// As a NixOS system's closure: of 100 paths 60 have a script, a unit or a file
	// of settings or two, 38 are packages of some dozen files, and two have the most
	// of all files and bytes. With 2,000 paths 83,000 files and 3.6 GB.
	"real": func(i int, random *rand.Rand) (sizes []int) {
		few := func(n, least, more int) {
			for range n {
				sizes = append(sizes, least+random.IntN(more))
			}
		}
		switch {
		case i%100 < 60:
			few(1+random.IntN(3), 100, 2<<10)
		case i%100 < 98:
			few(60, 512, 20<<10)
			few(3, 100<<10, 400<<10)
		default:
			few(800, 512, 20<<10)
			few(20, 1<<20, 3<<20)
		}
		return sizes
	},
	// One small file to a path.
	"tiny":  func(_ int, random *rand.Rand) []int { return []int{100 + random.IntN(2<<10)} },
	"files": smallFiles(1000),
	"bytes": func(int, *rand.Rand) []int { return []int{16 << 20} },
}

// smallFiles is a shape of n files in each path.
func smallFiles(n int) shape {
	return func(_ int, random *rand.Rand) []int {
		sizes := make([]int, n)
		for i := range sizes {
			sizes[i] = 512 + random.IntN(2<<10)
		}
		return sizes
	}
}

// namedShape returns a shape and the number of paths: n, except for "one", which is one
// path of n files.
func namedShape(name string, n int) (of shape, paths int, err error) {
	if name == "one" {
		return smallFiles(n), 1, nil
	}
	if shapes[name] == nil {
		return nil, 0, fmt.Errorf("there is no shape %q", name)
	}
	return shapes[name], n, nil
}

// maker makes a store, one path after the other.
type maker struct {
	ctx    context.Context
	random *rand.Rand
	noise  []byte
	hasher *nar.Hasher
	store  *os.File
	infos  []closure.PathInfo
}

func newMaker(ctx context.Context) (*maker, error) {
	// The first thing that Nix is asked makes the store.
	if out, err := exec.CommandContext(ctx, "nix-store", "--init").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make the store: %w\n%s", err, out)
	}
	store, err := os.Open(string(closure.DefaultStoreDir))
	if err != nil {
		return nil, err
	}
	m := &maker{ctx: ctx, random: rand.New(rand.NewPCG(1, 2)), noise: make([]byte, 32<<20), hasher: nar.NewHasher(nar.Options{}), store: store}
	for i := range m.noise {
		m.noise[i] = byte(m.random.Uint32())
	}
	return m, nil
}

// add makes a path that fill fills.
func (m *maker) add(name string, references []closure.StorePath, fill func(dir string) error) (closure.PathInfo, error) {
	p, err := closure.DefaultStoreDir.ParseBase(fmt.Sprintf("%032d-%s", len(m.infos)+1, name))
	if err != nil {
		return closure.PathInfo{}, err
	}
	if err := fill(string(p)); err != nil {
		return closure.PathInfo{}, err
	}
	sum, err := m.hasher.Sum(m.ctx, m.store, p.Base())
	if err != nil {
		return closure.PathInfo{}, err
	}
	info := closure.PathInfo{Path: p, NarHash: sum.Hash, NarSize: sum.Size, References: references}
	m.infos = append(m.infos, info)
	return info, nil
}

// fill makes a path number i of a shape.
func (m *maker) fill(of shape, i int) func(dir string) error {
	return func(dir string) error { return fillPath(dir, of(i, m.random), m.random, m.noise) }
}

// paths returns those that were made.
func (m *maker) paths() []closure.StorePath {
	out := make([]closure.StorePath, len(m.infos))
	for i, info := range m.infos {
		out[i] = info.Path
	}
	return out
}

// makeStore puts so many store paths of a shape into the store, registers them,
// and writes the release that they are. Each refers to some of those before it. Where
// there is a base, the system is a copy of that one, with all its closure.
func makeStore(ctx context.Context, of shape, paths int, base *closure.Manifest) error {
	m, err := newMaker(ctx)
	if err != nil {
		return err
	}
	defer m.store.Close()
	for i := range paths {
		var some []closure.StorePath
		for range min(i, 5) {
			some = append(some, m.infos[m.random.IntN(i)].Path)
		}
		slices.Sort(some)
		if _, err := m.add(fmt.Sprintf("package-%05d", i), slices.Compact(some), m.fill(of, i)); err != nil {
			return err
		}
	}
	refs := m.paths()
	if base != nil {
		for _, info := range base.Paths {
			refs = append(refs, info.Path)
		}
	}
	_, err = m.add("nixos-system-bench", refs, func(dir string) error {
		if base != nil {
			return exec.CommandContext(ctx, "cp", "-a", string(base.Toplevel.OutPath), dir).Run()
		}
		if err := os.WriteFile(dir, []byte("toplevel\n"), 0o444); err != nil {
			return err
		}
		return canonical(dir)
	})
	if err != nil {
		return err
	}
	if err := register(ctx, m.infos); err != nil {
		return err
	}
	infos := m.infos
	if base != nil {
		infos = append(infos, base.Paths...)
	}
	return writeRelease(filepath.Join(releases, tag), infos)
}

// fillPath makes files of those sizes, 20 to a directory; a single one is the path
// itself.
func fillPath(path string, sizes []int, random *rand.Rand, noise []byte) error {
	for i, size := range sizes {
		file := path
		if len(sizes) > 1 {
			dir := filepath.Join(path, fmt.Sprintf("d%04d", i/20))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			file = filepath.Join(dir, fmt.Sprintf("f%05d", i))
		}
		start := random.IntN(len(noise) - size)
		if err := os.WriteFile(file, noise[start:start+size], 0o444); err != nil {
			return err
		}
	}
	return canonical(path)
}

// canonical gives a tree the modes and times that Nix gives every store path.
func canonical(path string) error {
	second := time.Unix(1, 0)
	return filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(name, 0o555) //nolint:gosec // as Nix has it
		}
		if err != nil {
			return err
		}
		return os.Chtimes(name, second, second) //nolint:gosec // nobody else writes there
	})
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

// writeRelease writes an unsigned release of infos. The toplevel is the one that is
// called so, or else the last.
func writeRelease(dir string, infos []closure.PathInfo) error {
	toplevel := infos[len(infos)-1].Path
	for _, info := range infos {
		if info.Path.Name() == "nixos-system-bench" {
			toplevel = info.Path
		}
	}
	m := closure.Manifest{
		SchemaVersion: closure.ManifestSchema, Kind: closure.ManifestKind,
		Configuration: configuration, System: "x86_64-linux", StoreDir: closure.DefaultStoreDir,
		Source: closure.Source{NarHash: infos[0].NarHash},
		Toplevel: closure.Toplevel{
			DrvPath: closure.StorePath(string(closure.DefaultStoreDir) + "/" + fakeDigest + "-nixos-system-bench.drv"),
			OutPath: toplevel,
		},
		Paths: infos, Unreproducible: []closure.Unreproducible{},
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, release.ManifestName(configuration)), data, 0o644); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	info := release.Info{
		SchemaVersion: release.InfoSchema, Tag: release.Tag(filepath.Base(dir)), CreatedAt: now, BestBefore: now.Add(24 * time.Hour),
		Configurations: []string{configuration},
	}
	if err := release.WriteInfo(dir, info); err != nil {
		return err
	}
	return release.WriteSums(context.Background(), dir)
}
