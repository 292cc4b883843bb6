package netboot

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/release"
)

const (
	recordName   = "stage.json"
	recordSchema = 1
	maxRecord    = 64 << 10
)

// Record is a stage's stage.json: its origin. It does not list the files' checksums,
// because whoever changes the files could change it too. The checksums come from the
// signed release kept beside it.
type Record struct {
	SchemaVersion int         `json:"schemaVersion"` // 1
	Tag           release.Tag `json:"tag"`
	// Sums is the SHA-256 of the release's SHA256SUMS.txt, in hexadecimal.
	Sums string `json:"sums"`
	// Tarball is the asset with the files.
	Tarball string  `json:"tarball"`
	URL     BaseURL `json:"url"`
}

func (r Record) encode() ([]byte, error) {
	data, err := json.Marshal(&r, json.Deterministic(true), jsontext.WithIndent("  "))
	return append(data, '\n'), err
}

func parseRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true)); err != nil {
		return r, err
	}
	if r.SchemaVersion != recordSchema {
		return r, fmt.Errorf("schemaVersion is %d, this program reads %d", r.SchemaVersion, recordSchema)
	}
	if _, err := release.ParseTag(string(r.Tag)); err != nil {
		return r, err
	}
	if err := release.CheckAssetName(r.Tarball); err != nil {
		return r, err
	}
	if _, err := ParseBaseURL(string(r.URL)); err != nil {
		return r, err
	}
	return r, nil
}
