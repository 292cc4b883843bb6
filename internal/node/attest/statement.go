package attest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"every.channel/ec-verify/internal/report"
)

const (
	// StatementType is the type of every statement; see
	// https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
	StatementType = "https://in-toto.io/Statement/v1"
	// PredicateType identifies the form of the predicate; see docs/monitoring.md.
	PredicateType = "https://every.channel/ec-verify/report/v1"

	// MaxReport limits the report in a statement, in bytes. A larger one keeps its
	// gravest findings.
	MaxReport = 4 << 20
	// maxStatement limits a statement that is read, in bytes.
	maxStatement = 8 << 20
	// MaxNonce limits a nonce, in bytes.
	MaxNonce = 128

	// The names of a statement's subjects.
	reportName = "ec-verify-report.json"
	sumsName   = "SHA256SUMS.txt"
)

// Statement is the report of one run, with its place among the runs of its machine.
type Statement struct {
	Place
	// Report is the report, in the JSON form of [report.Report.CompactJSON].
	Report jsontext.Value
	// Summary is an excerpt of the report.
	Summary *report.Summary
	// Digest is the statement's digest, as the next one names it.
	Digest string
	// Key identifies the key that signed it; "" if the signature was not checked.
	Key string
}

// Place is a report's place among those of its machine.
type Place struct {
	// Machine is the result of [Machine], or "" if the machine has no name.
	Machine string `json:"machine"`
	// Run identifies the run: systemd's invocation ID of the unit
	// (_SYSTEMD_INVOCATION_ID= in the journal), or a random number of that form.
	Run string `json:"run"`
	// Sequence counts the signed reports of the machine, from 1.
	Sequence int64 `json:"sequence"`
	// Previous is the SHA-256, in hexadecimal, of the statement with the previous
	// sequence number; "" if there is none, or no readable one.
	Previous string `json:"previous"`
	// Nonce is the operator's nonce for this run, if any: whoever just chose it knows
	// that the report is not older.
	Nonce string `json:"nonce"`
}

type (
	statement struct {
		Type          string    `json:"_type"`
		Subject       []subject `json:"subject"`
		PredicateType string    `json:"predicateType"`
		Predicate     predicate `json:"predicate"`
	}
	subject struct {
		Name   string `json:"name"`
		Digest digest `json:"digest"`
	}
	digest struct {
		SHA256 string `json:"sha256"`
	}
	predicate struct {
		Place
		Report jsontext.Value `json:"report"`
	}
)

// NewRun returns the identifier of a run that starts now.
func NewRun() string {
	if id := os.Getenv("INVOCATION_ID"); hex32().MatchString(id) {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// Encode returns the statement about a report at its place.
func Encode(p Place, r *report.Report) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	text, err := r.CompactJSON(MaxReport)
	if err != nil {
		return nil, err
	}
	summary, err := report.Decode(text)
	if err != nil {
		return nil, err
	}
	s := statement{
		Type: StatementType, Subject: subjects(text, summary), PredicateType: PredicateType,
		Predicate: predicate{Place: p, Report: text},
	}
	return json.Marshal(&s)
}

// subjects returns the subjects of a statement: the report itself, and the program that
// made it.
func subjects(text []byte, s *report.Summary) []subject {
	out := []subject{{reportName, digest{sum(text)}}}
	if s.Sums != "" {
		out = append(out, subject{sumsName, digest{s.Sums}})
	}
	if s.Manifest != "" {
		out = append(out, subject{"closure-" + s.Configuration + ".json", digest{s.Manifest}})
	}
	return out
}

func sum(data []byte) string {
	d := sha256.Sum256(data)
	return hex.EncodeToString(d[:])
}

// Decode decodes a statement with a valid signature and applies the rules: the report
// must be consistent, and the subjects must be those of the report.
func Decode(data []byte) (*Statement, error) {
	if len(data) > maxStatement {
		return nil, fmt.Errorf("the statement has %d bytes, at most %d are allowed", len(data), maxStatement)
	}
	var in statement
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("it is not a statement: %w", err)
	}
	if in.Type != StatementType {
		return nil, fmt.Errorf("the statement is of type %q, not %s", clip(in.Type), StatementType)
	}
	if in.PredicateType != PredicateType {
		return nil, fmt.Errorf("the statement is about something else: its predicateType is %q, not %s", clip(in.PredicateType), PredicateType)
	}
	place := in.Predicate.Place
	if err := place.check(); err != nil {
		return nil, err
	}
	summary, err := report.Decode(in.Predicate.Report)
	if err != nil {
		return nil, err
	}
	want := subjects(in.Predicate.Report, summary)
	if len(in.Subject) != len(want) {
		return nil, fmt.Errorf("the statement is about %d subjects, its report about %d", len(in.Subject), len(want))
	}
	for i := range want {
		if in.Subject[i] != want[i] {
			return nil, fmt.Errorf("subject %d is %q with SHA-256 %q, but that of the report is %q with %s",
				i+1, clip(in.Subject[i].Name), clip(in.Subject[i].Digest.SHA256), want[i].Name, want[i].Digest.SHA256)
		}
	}
	return &Statement{Place: place, Report: in.Predicate.Report, Summary: summary, Digest: sum(data)}, nil
}

var (
	hex32 = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A[0-9a-f]{32}\z`) })
	hex64 = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A[0-9a-f]{64}\z`) })
)

func (p *Place) check() error {
	switch {
	case p.Machine != "" && !hex32().MatchString(p.Machine):
		return fmt.Errorf("machine %q: want 32 hexadecimal digits", clip(p.Machine))
	case !hex32().MatchString(p.Run):
		return fmt.Errorf("run %q: want 32 hexadecimal digits", clip(p.Run))
	case p.Sequence < 1:
		return fmt.Errorf("sequence %d: want at least 1", p.Sequence)
	case p.Previous != "" && !hex64().MatchString(p.Previous):
		return fmt.Errorf("previous %q: want 64 hexadecimal digits", clip(p.Previous))
	case p.Previous != "" && p.Sequence == 1:
		return errors.New("the first report names a previous one")
	}
	return CheckNonce(p.Nonce)
}

// CheckNonce returns an error unless the nonce is at most [MaxNonce] bytes of printable
// text.
func CheckNonce(nonce string) error {
	if len(nonce) > MaxNonce || !utf8.ValidString(nonce) {
		return fmt.Errorf("nonce %q: want at most %d bytes of text", clip(nonce), MaxNonce)
	}
	for _, r := range nonce {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("nonce %q: want printable text", clip(nonce))
		}
	}
	return nil
}
