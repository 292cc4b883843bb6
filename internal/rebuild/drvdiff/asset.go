package drvdiff

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/internal/nixstore"
	"every.channel/ec-verify/pkg/closure"
)

const (
	// Schema is the only schemaVersion that this package reads and writes.
	Schema = 1
	// Kind is the kind that every asset states.
	Kind = "ec-closure-derivations"
	// MaxSize limits an asset after decompression, in bytes. The derivations of a desktop
	// system take about 100 MB.
	MaxSize = 1 << 30
	// MaxDerivationSize limits one derivation, in bytes. The largest embed a
	// configuration of some MB.
	MaxDerivationSize = 16 << 20

	window = 1 << 20
	// A line has a derivation, escaped or in base64, and some names.
	maxLine = 2*MaxDerivationSize + 4096
)

// The asset is JSON, compressed with zstd: a header line, then a line for each
// derivation in ascending order of their paths:
//
//	{"schemaVersion":1,"kind":"ec-closure-derivations","configuration":"…","toplevel":"/nix/store/….drv"}
//	{"path":"/nix/store/….drv","text":"Derive(…)"}
//
// "text" has the contents of the .drv file; "textBase64" replaces it if they are not
// valid UTF-8.
type head struct {
	SchemaVersion int               `json:"schemaVersion"`
	Kind          string            `json:"kind"`
	Configuration string            `json:"configuration"`
	Toplevel      closure.StorePath `json:"toplevel"`
}

type line struct {
	Path       closure.StorePath `json:"path"`
	Text       string            `json:"text,omitzero"`
	TextBase64 string            `json:"textBase64,omitzero"`
}

// Write writes the asset of configuration to w: the graph, which consists of toplevel and
// all derivations that it is built from, and is in store. The same derivations give the
// same bytes.
func Write(ctx context.Context, w io.Writer, store *nixstore.Store, graph nixstore.Graph, configuration string, toplevel closure.StorePath) error {
	// One goroutine: with several, the output depends on their timing.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return err
	}
	if err := writeLines(ctx, z, store, head{Schema, Kind, configuration, toplevel}, graph); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}

func writeLines(ctx context.Context, w io.Writer, store *nixstore.Store, h head, graph nixstore.Graph) error {
	var size int64
	put := func(v any) error {
		text, err := json.Marshal(v, json.Deterministic(true))
		if err != nil {
			return err
		}
		if size += int64(len(text)) + 1; size > MaxSize {
			return fmt.Errorf("the derivations of %s take more than %d bytes", h.Toplevel, MaxSize)
		}
		_, err = w.Write(append(text, '\n'))
		return err
	}
	if err := put(&h); err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(graph)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := store.ReadFile(p, "", MaxDerivationSize)
		if err != nil {
			return err
		}
		l := line{Path: p, Text: string(text)}
		if !utf8.Valid(text) {
			l.Text, l.TextBase64 = "", base64.StdEncoding.EncodeToString(text)
		}
		if err := put(&l); err != nil {
			return err
		}
	}
	return nil
}

// Read reads the asset of configuration, whose toplevel is the manifest's. Each
// derivation must have the path that it hashes to, so that toplevel vouches for the
// graph. A graph that lacks a derivation, or has one that toplevel does not need, is an
// error.
func Read(r io.Reader, configuration string, toplevel closure.StorePath) (nixstore.Graph, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(MaxSize))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	graph, err := readLines(z, configuration, toplevel)
	if err != nil {
		return nil, fmt.Errorf("derivations of configuration %q: %w", configuration, err)
	}
	return graph, nil
}

func readLines(r io.Reader, configuration string, toplevel closure.StorePath) (nixstore.Graph, error) {
	// One byte more than allowed, so that an excess is noticed.
	bounded := &io.LimitedReader{R: r, N: MaxSize + 1}
	in := bufio.NewReaderSize(bounded, 64<<10)
	next := func(v any) error {
		text, err := readLine(in)
		if bounded.N == 0 {
			return fmt.Errorf("more than %d bytes", MaxSize)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(text, v, json.RejectUnknownMembers(true))
	}
	var h head
	if err := next(&h); err != nil {
		return nil, fmt.Errorf("header: %w", noEOF(err))
	}
	if want := (head{Schema, Kind, configuration, toplevel}); h != want {
		return nil, fmt.Errorf("header: got %+v, want %+v", h, want)
	}
	graph := make(nixstore.Graph)
	var last closure.StorePath
	for n := 1; ; n++ {
		var l line
		if err := next(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("derivation %d: %w", n, err)
		}
		if l.Path <= last {
			return nil, fmt.Errorf("derivation %d: %s is not above %s", n, l.Path, last)
		}
		last = l.Path
		text := []byte(l.Text)
		if l.TextBase64 != "" {
			var err error
			if text, err = base64.StdEncoding.Strict().DecodeString(l.TextBase64); err != nil || l.Text != "" {
				return nil, fmt.Errorf("derivation %d: malformed text", n)
			}
		}
		d, err := nixstore.ParseDerivation(l.Path, text)
		if err != nil {
			return nil, err
		}
		graph[l.Path] = d
	}
	return graph, complete(graph, toplevel)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errLine = errors.New("a line is too long, or has no end")

// readLine returns the next line without its end, and io.EOF after the last.
func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(text, []byte("\n")), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(text) < maxLine:
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
			return nil, errLine
		default:
			return nil, err
		}
	}
}

// complete returns an error unless graph consists of exactly toplevel and its inputs, at any
// depth.
func complete(graph nixstore.Graph, toplevel closure.StorePath) error {
	seen := make(map[closure.StorePath]bool, len(graph))
	for todo := []closure.StorePath{toplevel}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[p] {
			continue
		}
		seen[p] = true
		d, ok := graph[p]
		if !ok {
			return fmt.Errorf("%s is missing", p)
		}
		todo = slices.AppendSeq(todo, maps.Keys(d.InputDerivations))
	}
	if len(seen) != len(graph) {
		return fmt.Errorf("%d derivations are not needed for %s", len(graph)-len(seen), toplevel)
	}
	return nil
}
