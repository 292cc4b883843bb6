package imagecheck

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// system is the release's data on one configuration.
type system struct {
	manifest *closure.Manifest
	paths    closure.Closure
	// kernel and initrd are the files that the toplevel links to; zero if the release
	// has no listing or the system has none.
	kernel, initrd nar.Entry
	listed         bool
}

// configurationOf returns the configuration of an image.
func (c *checker) configurationOf(asset string) (string, error) {
	if c.opts.Configuration != "" {
		return c.opts.Configuration, nil
	}
	best := ""
	all := c.r.Info().Configurations
	for _, name := range all {
		rest, ok := strings.CutPrefix(asset, name)
		if ok && len(name) > len(best) && (rest == "" || rest[0] == '-' || rest[0] == '.') {
			best = name
		}
	}
	switch {
	case best != "":
		return best, nil
	case len(all) == 1:
		return all[0], nil
	}
	return "", fmt.Errorf("the name of %s names no configuration: give --configuration, one of %s", asset, strings.Join(all, ", "))
}

// system reads the release's data about a configuration, once.
func (c *checker) system(ctx context.Context, configuration string) (*system, error) {
	if s, ok := c.systems[configuration]; ok {
		return s, nil
	}
	m, err := c.r.Manifest(ctx, configuration)
	if err != nil {
		return nil, err
	}
	s := &system{manifest: m, paths: m.Closure()}
	if err := s.findBoot(ctx, c.r); err != nil {
		return nil, err
	}
	if c.systems == nil {
		c.systems = make(map[string]*system)
	}
	c.systems[configuration] = s
	return s, nil
}

// findBoot finds what the toplevel links to as its kernel and initrd.
func (s *system) findBoot(ctx context.Context, r *release.Release) error {
	links := map[string]string{}
	top, err := s.files(ctx, r, s.manifest.Toplevel.OutPath)
	if errors.Is(err, release.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.listed = true
	for _, e := range top[s.manifest.Toplevel.OutPath] {
		if (e.Path == "kernel" || e.Path == "initrd") && e.Type == nar.Symlink {
			links[e.Path] = e.Target
		}
	}
	for name, target := range links {
		p, rest, err := s.manifest.StoreDir.Within(target)
		if err != nil {
			continue
		}
		files, err := s.files(ctx, r, p)
		if err != nil {
			return err
		}
		for _, e := range files[p] {
			if e.Type == nar.Regular && "/"+e.Path == path.Clean(rest) {
				if name == "kernel" {
					s.kernel = e
				} else {
					s.initrd = e
				}
			}
		}
	}
	return nil
}

// files returns the listed files of store paths.
func (s *system) files(ctx context.Context, r *release.Release, paths ...closure.StorePath) (map[closure.StorePath][]nar.Entry, error) {
	want := make(map[closure.StorePath]bool)
	for _, p := range paths {
		want[p] = true
	}
	out := make(map[closure.StorePath][]nar.Entry)
	for f, err := range r.Files(ctx, s.manifest.Configuration, func(p closure.StorePath) bool { return want[p] }) {
		if err != nil {
			return nil, err
		}
		out[f.Path] = f.Files
	}
	return out, nil
}
