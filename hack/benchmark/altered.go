package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// drifted runs a command that has to end with the exit code of drift.
func drifted(argv []string) []string {
	return with([]string{"sh", "-c", `"$@"; test $? = 1`, "sh"}, argv...)
}

// makeListed is makeStore for a release with a listing.
func makeListed(ctx context.Context, of shape, paths int) error {
	if err := makeStore(ctx, of, paths, nil); err != nil {
		return err
	}
	dir := filepath.Join(releases, tag)
	data, err := os.ReadFile(filepath.Join(dir, release.ManifestName(configuration)))
	if err != nil {
		return err
	}
	m, err := closure.DecodeManifest(data)
	if err != nil {
		return err
	}
	if err := writeListing(ctx, filepath.Join(dir, release.ListingName(configuration)), m.Paths); err != nil {
		return err
	}
	return release.WriteSums(ctx, dir)
}

func writeListing(ctx context.Context, file string, paths []closure.PathInfo) error {
	store, err := os.Open(string(closure.DefaultStoreDir))
	if err != nil {
		return err
	}
	defer store.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	listing, err := closure.NewListingWriter(out, configuration)
	if err != nil {
		return err
	}
	var files []nar.Entry
	hasher := nar.NewHasher(nar.Options{OnEntry: func(e nar.Entry) error {
		files = append(files, e)
		return nil
	}})
	for _, info := range paths {
		files = files[:0]
		if _, err := hasher.Sum(ctx, store, info.Path.Base()); err != nil {
			return err
		}
		if err := listing.Add(closure.PathFiles{Path: info.Path, NarHash: info.NarHash, Files: files}); err != nil {
			return err
		}
	}
	return errors.Join(listing.Close(), out.Close())
}

// alter changes a byte of one file in each path, and leaves its times as they were.
func alter() error {
	paths, err := filepath.Glob(string(closure.DefaultStoreDir) + "/*-package-*")
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if err := alterFile(name); err != nil {
				return err
			}
			return fs.SkipAll
		}); err != nil {
			return err
		}
	}
	return nil
}

func alterFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); err != nil {
		return err
	}
	first[0]++
	if _, err := f.WriteAt(first[:], 0); err != nil {
		return err
	}
	second := time.Unix(1, 0)
	return errors.Join(f.Close(), os.Chtimes(name, second, second))
}
