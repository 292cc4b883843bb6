package closure

import (
	"encoding/base64"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"

	"every.channel/ec-verify/pkg/nar"
)

const (
	// ListingSchema is the only schemaVersion of listings that this package reads and
	// writes.
	ListingSchema = 1
	// ListingKind is the kind in every listing.
	ListingKind = "ec-closure-files"
	// MaxListingSize limits a listing after decompression, in bytes: some four million
	// files.
	MaxListingSize = 1 << 30

	// listingWindow is the compressor's window, in bytes, and so the memory for reading.
	listingWindow = 1 << 20
	// maxListedHeld limits the memory for the files of one store path, in bytes, because
	// they are kept together; the largest real ones (kernel sources, TeX) have 200,000
	// files and take some 50 MB.
	maxListedHeld = 128 << 20
	// maxListedFile limits the data on one file, in bytes: on Linux its name and target
	// may have 4,095 bytes, in a NAR more.
	maxListedFile = 1 << 20
)

// PathFiles is one store path with its files, in the order of its NAR. The
// first file is the root of the path, with the empty Path.
type PathFiles struct {
	Path    StorePath
	NarHash nar.Hash
	Files   []nar.Entry
}

// A listing is JSON, compressed with zstd: a header line, then a line for each
// store path in ascending order:
//
//	{"schemaVersion":1,"kind":"ec-closure-files","configuration":"…"}
//	{"path":"/nix/store/…","narHash":"sha256-…","files":[…]}
//
// Every file has "name" (relative to the store path, "" for its root) or,
// where the name is no valid UTF-8, "nameBase64"; "type"; and by type "size",
// "sha256" and "executable" (only where true), or "target" or "targetBase64".
// Members come in this order, files in the order of the NAR: a directory before
// what is in it, and names in one directory by their bytes.
type (
	listingHead struct {
		SchemaVersion int    `json:"schemaVersion"`
		Kind          string `json:"kind"`
		Configuration string `json:"configuration"`
	}
	listingPath struct {
		Path    StorePath     `json:"path"`
		NarHash nar.Hash      `json:"narHash"`
		Files   []listingFile `json:"files"`
	}
	listingFile struct {
		Name         *string   `json:"name,omitzero"`
		NameBase64   *string   `json:"nameBase64,omitzero"`
		Type         string    `json:"type"`
		Size         *int64    `json:"size,omitzero"`
		SHA256       *nar.Hash `json:"sha256,omitzero"`
		Executable   bool      `json:"executable,omitzero"`
		Target       *string   `json:"target,omitzero"`
		TargetBase64 *string   `json:"targetBase64,omitzero"`
	}
)

// ListingWriter writes a listing. The listing is complete only when Close returned nil.
type ListingWriter struct {
	w    io.WriteCloser // compresses
	last StorePath
}

// NewListingWriter begins the listing of configuration on w. The same calls write the
// same bytes.
func NewListingWriter(w io.Writer, configuration string) (*ListingWriter, error) {
	if err := CheckConfiguration(configuration); err != nil {
		return nil, fmt.Errorf("write listing: %w", err)
	}
	// One goroutine: with several, the output depends on their timing.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(listingWindow))
	if err != nil {
		return nil, fmt.Errorf("write listing: %w", err)
	}
	lw := &ListingWriter{w: z}
	return lw, lw.line(&listingHead{ListingSchema, ListingKind, configuration})
}

// Add appends the files of one store path. Paths must be in ascending order, and files in
// the order of their NAR.
func (lw *ListingWriter) Add(p PathFiles) error {
	if p.Path <= lw.last {
		return fmt.Errorf("write listing: %s does not come after %s", p.Path, lw.last)
	}
	if len(p.Files) == 0 || p.NarHash.IsZero() {
		return fmt.Errorf("write listing: %s has %d files and the hash %q", p.Path, len(p.Files), p.NarHash)
	}
	line := listingPath{Path: p.Path, NarHash: p.NarHash, Files: make([]listingFile, 0, len(p.Files))}
	var held heldFiles
	for i, f := range p.Files {
		if err := held.add(f); err != nil {
			return fmt.Errorf("write listing: %s: %w", p.Path, err)
		}
		if err := checkNext(p.Files[:i], f); err != nil {
			return fmt.Errorf("write listing: file %d of %s: %w", i, p.Path, err)
		}
		line.Files = append(line.Files, encodeFile(f))
	}
	lw.last = p.Path
	return lw.line(&line)
}

// heldFiles is the memory for the files of one store path, in bytes.
type heldFiles int64

// add counts e, and fails if the files now exceed what a listing may have.
func (h *heldFiles) add(e nar.Entry) error {
	const cost = 160 // of an Entry in a slice that grows
	if *h += heldFiles(cost + len(e.Path) + len(e.Target)); *h > maxListedHeld {
		return fmt.Errorf("the list of its files takes more than %d bytes of memory", int64(maxListedHeld))
	}
	return nil
}

// Close completes the listing; it does not close the underlying writer.
func (lw *ListingWriter) Close() error { return lw.w.Close() }

func (lw *ListingWriter) line(v any) error {
	if err := json.MarshalWrite(lw.w, v); err != nil {
		return fmt.Errorf("write listing: %w", err)
	}
	_, err := lw.w.Write([]byte{'\n'})
	return err
}

func encodeFile(e nar.Entry) listingFile {
	f := listingFile{Type: e.Type.String()}
	f.Name, f.NameBase64 = encodeBytes(e.Path)
	switch e.Type {
	case nar.Regular:
		f.Size, f.SHA256, f.Executable = &e.Size, &e.SHA256, e.Executable
	case nar.Symlink:
		f.Target, f.TargetBase64 = encodeBytes(e.Target)
	}
	return f
}

func encodeBytes(s string) (text, base *string) {
	if utf8.ValidString(s) {
		return &s, nil
	}
	b := base64.StdEncoding.EncodeToString([]byte(s))
	return nil, &b
}
