// Package flakelock reads flake.lock: the inputs of a flake, and their store paths.
package flakelock

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/pkg/closure"
	"every.channel/ec-verify/pkg/excerpt"
	"every.channel/ec-verify/pkg/nar"
)

// MaxSize limits the size of a lock file in bytes.
const MaxSize = 16 << 20

// Input is a locked input of a flake. Its path need not exist: not every input is
// used.
type Input struct {
	// Name is the name of its node in the lock file, unchanged.
	Name string            `json:"name"`
	Path closure.StorePath `json:"path"`
	Hash nar.Hash          `json:"-"`
	// Ref is its origin with the revision, as a flake reference for people:
	// "github:NixOS/nixpkgs/REVISION", a URL. It is not trusted.
	Ref string `json:"ref"`
}

// UnlockedError means that the lock file lacks the hash of an input. Nix would fetch
// it at each evaluation, but a machine under verification has no network.
type UnlockedError struct {
	// Inputs are names of nodes, ascending, as in the lock file.
	Inputs []string
}

func (e *UnlockedError) Error() string {
	quoted := make([]string, len(e.Inputs))
	for i, name := range e.Inputs {
		quoted[i] = fmt.Sprintf("%q", clip(name))
	}
	const shown = 10
	return fmt.Sprintf("lock file: no narHash of the input %s: no machine without network can obtain it, so none can evaluate this flake; lock it anew with nix flake update", excerpt.List(quoted, ", ", shown))
}

type node struct {
	Inputs map[string]jsontext.Value `json:"inputs"`
	Locked *locked                   `json:"locked"`
	// Info exists in lock files before version 7. Nix lets it override the locked
	// values, also in version 7.
	Info jsontext.Value `json:"info"`
}

type locked struct {
	Type    string `json:"type"`
	Path    string `json:"path"`
	NarHash string `json:"narHash"`
	Owner   string `json:"owner"`
	Repo    string `json:"repo"`
	URL     string `json:"url"`
	Rev     string `json:"rev"`
}

// ref returns the origin of n.
func (n node) ref() string {
	l := n.Locked
	where := l.URL
	switch {
	case l.Owner != "" && l.Repo != "":
		where = l.Type + ":" + l.Owner + "/" + l.Repo
	case where == "":
		where = l.Type + ":" + l.Path
	}
	if l.Rev != "" {
		where += "/" + l.Rev
	}
	return clip(where)
}

// isWithin reports whether n is part of the source of the flake that names it, like
// an input of type path with a relative path.
func (n node) isWithin() bool {
	return n.Locked.Type == "path" && n.Locked.NarHash == "" && !strings.HasPrefix(n.Locked.Path, "/")
}

// lockFile is what is read of a lock file.
type lockFile struct {
	Nodes map[string]node `json:"nodes"`
	Root  string          `json:"root"`
}

// Parse returns the flake's inputs in a lock file, including those of its inputs, in
// the order of their names. An input without narHash is an [*UnlockedError].
func Parse(dir closure.StoreDir, lock []byte) ([]Input, error) {
	var file lockFile
	if err := json.Unmarshal(lock, &file); err != nil {
		return nil, errors.New("lock file: not the JSON of a flake.lock")
	}
	needed, err := file.needed()
	if err != nil {
		return nil, err
	}
	var inputs []Input
	var unlocked []string
	for _, name := range needed {
		n := file.Nodes[name]
		if n.Locked != nil && n.Info != nil {
			if err := json.Unmarshal(n.Info, n.Locked); err != nil {
				return nil, fmt.Errorf("lock file: input %q: info differs from the locked reference", clip(name))
			}
		}
		switch {
		case n.Locked == nil:
			unlocked = append(unlocked, name)
			continue
		case n.isWithin():
			continue
		case n.Locked.NarHash == "":
			unlocked = append(unlocked, name)
			continue
		}
		h, err := nar.ParseHash(n.Locked.NarHash)
		if err != nil {
			return nil, fmt.Errorf("lock file: input %q: %w", clip(name), err)
		}
		inputs = append(inputs, Input{Name: name, Path: dir.SourcePath(h, "source"), Hash: h, Ref: n.ref()})
	}
	if len(unlocked) > 0 {
		return nil, &UnlockedError{Inputs: unlocked}
	}
	return inputs, nil
}

// needed returns the names of the nodes that the root needs, ascending.
func (f *lockFile) needed() ([]string, error) {
	if _, ok := f.Nodes[f.Root]; !ok {
		return nil, fmt.Errorf("lock file: no node %q, which is its root", clip(f.Root))
	}
	needed := map[string]bool{f.Root: true}
	for todo := []string{f.Root}; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, value := range f.Nodes[name].Inputs {
			if value.Kind() != '"' {
				continue // a path to a node that another input names
			}
			var next string
			if err := json.Unmarshal(value, &next); err != nil {
				return nil, fmt.Errorf("lock file: an input of %q is no name", clip(name))
			}
			if _, ok := f.Nodes[next]; !ok {
				return nil, fmt.Errorf("lock file: no node %q, which %q names", clip(next), clip(name))
			}
			if !needed[next] {
				needed[next] = true
				todo = append(todo, next)
			}
		}
	}
	delete(needed, f.Root)
	return slices.Sorted(maps.Keys(needed)), nil
}

func clip(s string) string { return excerpt.Of(s, 200) }
