package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"every.channel/ec-verify/pkg/closure"
)

// ReferencesRequest says which paths to ask a store about.
type ReferencesRequest struct {
	// Store, Timeout and Temp are those of a [DumpRequest].
	Store   string
	Paths   []closure.StorePath // of one store directory
	Timeout time.Duration
	Temp    string
}

// References returns the references of paths according to a store, unchecked. Paths that
// the store lacks have no entry.
func (n *Nix) References(ctx context.Context, r ReferencesRequest) (map[closure.StorePath][]closure.StorePath, error) {
	v, err := n.Version(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"--extra-experimental-features", "nix-command", "path-info", "--json"}
	if v.AtLeast(2, 33) && !strings.HasPrefix(v.Vendor, "Lix") {
		args = append(args, "--json-format", "1")
	}
	var names strings.Builder
	for _, p := range r.Paths {
		names.WriteString(string(p) + "\n")
	}
	out, err := n.run(ctx, command{
		program: "nix", args: append(append(args, foreignStore(r.Store)...), "--stdin"),
		stdin: strings.NewReader(names.String()), timeout: r.Timeout, temp: r.Temp, memory: dumpMemory,
	})
	if err != nil {
		return nil, foreignError(fmt.Sprintf("ask %s which paths it has", r.Store), r.Store, err)
	}
	references, err := decodeReferences(out)
	if err != nil {
		return nil, fmt.Errorf("ask %s which paths it has: output of %s: %w", r.Store, v, err)
	}
	return references, nil
}

// pathInfo is what nix path-info --json prints of one path.
type pathInfo struct {
	Path       string   `json:"path"`
	Valid      *bool    `json:"valid"`
	References []string `json:"references"`
}

// decodeReferences reads the output of nix path-info --json: an object with the paths as
// names and null for one that is lacking; or, until Nix 2.18 and with Lix, an array.
func decodeReferences(out []byte) (map[closure.StorePath][]closure.StorePath, error) {
	var infos []pathInfo
	if bytes.HasPrefix(out, []byte("[")) {
		if err := json.Unmarshal(out, &infos); err != nil {
			return nil, errors.New("not a description of a store path")
		}
	} else {
		var named map[string]*pathInfo
		if err := json.Unmarshal(out, &named); err != nil {
			return nil, errors.New("not a description of a store path")
		}
		for name, info := range named {
			if info != nil {
				info.Path = name
				infos = append(infos, *info)
			}
		}
	}
	references := make(map[closure.StorePath][]closure.StorePath, len(infos))
	for _, info := range infos {
		if info.Valid != nil && !*info.Valid {
			continue
		}
		p, err := closure.ParseStorePath(info.Path)
		if err != nil {
			return nil, err
		}
		list := make([]closure.StorePath, len(info.References))
		for i, name := range info.References {
			if list[i], err = closure.ParseStorePath(name); err != nil {
				return nil, err
			}
		}
		references[p] = list
	}
	return references, nil
}
