package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"every.channel/ec-verify/internal/nix"
	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/nar"
)

// Source has store paths.
type Source interface {
	// References returns the references of paths as the source claims them. Paths that it
	// lacks have no entry.
	References(ctx context.Context, wanted []closure.PathInfo, temp string) (map[closure.StorePath][]closure.StorePath, error)
	// Dump writes the NAR of a path as the source has it, which need not be right.
	Dump(ctx context.Context, want closure.PathInfo, temp string, w io.Writer) error
	String() string
}

// Dumper reads paths of a store; see [nix.Nix].
type Dumper interface {
	References(ctx context.Context, r nix.ReferencesRequest) (map[closure.StorePath][]closure.StorePath, error)
	Dump(ctx context.Context, r nix.DumpRequest, w io.Writer) error
}

// ParseSource returns the source that spec names: a directory with a binary cache, or
// with a copy of a store, or of its paths; file:///DIR with one of these; or
// https://HOST/… and ssh-ng://HOST, which are read by d.
func ParseSource(spec string, d Dumper) (Source, error) {
	dir := spec
	if strings.Contains(spec, "://") {
		u, err := url.Parse(spec)
		if err != nil {
			// Without the URL, which may have a password.
			if e, ok := errors.AsType[*url.Error](err); ok {
				err = e.Err
			}
			return nil, err
		}
		if _, secret := u.User.Password(); secret {
			return nil, errors.New("a URL with a password is shown to all users, in the list of processes: leave it out, and put it into Nix's netrc-file, or use a key of ssh")
		}
		switch {
		case u.Scheme == "file" && u.Host == "" && u.RawQuery == "" && u.Path != "":
			dir = u.Path
		case u.Scheme == "https" && u.Host != "", u.Scheme == "ssh-ng" && u.Host != "" && !strings.HasPrefix(u.Host, "-") && !strings.HasPrefix(u.User.Username(), "-"):
			return nixStore{spec, d}, nil
		default:
			return nil, fmt.Errorf("%q: want a directory, file:///DIR, https://HOST/… or ssh-ng://HOST", spec)
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "nix-cache-info")); err == nil {
		return nixStore{(&url.URL{Scheme: "file", Path: dir}).String(), d}, nil
	}
	return tree{dir}, nil
}

// nixStore is a store that Nix reads.
type nixStore struct {
	url    string
	dumper Dumper
}

func (s nixStore) String() string { return s.url }

const (
	// atLeast is how long any path may take, and slowest how many bytes a second are
	// to come beside that: a peer that brings less is not waited for.
	atLeast = 10 * time.Minute
	slowest = 64 << 10
)

// patience returns the time that a transfer of size bytes may take.
func patience(size int64) time.Duration {
	return atLeast + time.Duration(size/slowest)*time.Second
}

// References implements [Source].
func (s nixStore) References(ctx context.Context, wanted []closure.PathInfo, temp string) (map[closure.StorePath][]closure.StorePath, error) {
	paths := make([]closure.StorePath, len(wanted))
	for i, want := range wanted {
		paths[i] = want.Path
	}
	return s.dumper.References(ctx, nix.ReferencesRequest{Store: s.url, Paths: paths, Timeout: patience(0), Temp: temp})
}

// Dump implements [Source].
func (s nixStore) Dump(ctx context.Context, want closure.PathInfo, temp string, w io.Writer) error {
	return s.dumper.Dump(ctx, nix.DumpRequest{Store: s.url, Path: want.Path, Timeout: patience(want.NarSize), Temp: temp}, w)
}

// tree is a directory with the files of store paths: at DIR/nix/store/PATH, as on a
// mounted disk, or at DIR/PATH. No database is needed.
type tree struct{ dir string }

func (t tree) String() string { return t.dir }

// References implements [Source]: of files nobody says what they refer to.
func (t tree) References(_ context.Context, wanted []closure.PathInfo, _ string) (map[closure.StorePath][]closure.StorePath, error) {
	references := make(map[closure.StorePath][]closure.StorePath, len(wanted))
	for _, want := range wanted {
		if t.find(want.Path) != "" {
			references[want.Path] = nil
		}
	}
	return references, nil
}

// Dump implements [Source].
func (t tree) Dump(ctx context.Context, want closure.PathInfo, _ string, w io.Writer) error {
	name := t.find(want.Path)
	if name == "" {
		return errNone
	}
	return nar.Dump(ctx, w, name, nar.Options{MaxSize: want.NarSize})
}

// find returns where the files of a path are, "" for nowhere.
func (t tree) find(p closure.StorePath) string {
	for _, dir := range []string{filepath.Join(t.dir, string(p.Dir())), t.dir} {
		name := filepath.Join(dir, p.Base())
		if _, err := os.Lstat(name); err == nil {
			return name
		}
	}
	return ""
}

var errNone = errors.New("it no longer exists")
