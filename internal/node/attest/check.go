package attest

import (
	"slices"

	"every.channel/ec-verify/internal/report"
)

// Opener returns the statement in a bundle that a trusted key signed, and the key's ID.
type Opener func(bundle []byte) (statement []byte, key string, err error)

// Check checks signed reports one by one, and together.
type Check struct {
	Open Opener
	// Machine and Nonce are those that every report must have; "" for any.
	Machine, Nonce string

	statements []*Statement
}

// Checked is one file with a signed report.
type Checked struct {
	File  string `json:"file"`
	Error string `json:"error,omitzero"` // why it is refused; "" if it is accepted
	Key   string `json:"key"`
	Place
	Digest string `json:"digest"`
	report.Summary
}

// Verified reports whether the machine itself is verified, by a run without weakening
// options.
func (c *Checked) Verified() bool {
	return c.Error == "" && c.Verdict == report.Verified && len(c.Unsafe) == 0 && c.StoreRoot == ""
}

// Add checks the bundle in the named file by itself.
func (c *Check) Add(file string, bundle []byte) Checked {
	out := Checked{File: file}
	statement, key, err := c.Open(bundle)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	s, err := Decode(statement)
	if err != nil {
		out.Error = "signed, but malformed: " + err.Error()
		return out
	}
	out = Checked{File: file, Key: key, Place: s.Place, Digest: s.Digest, Summary: *s.Summary}
	switch {
	case c.Machine != "" && s.Machine != c.Machine:
		out.Error = "signed by a key given, but of machine " + s.Machine
	case c.Nonce != "" && s.Nonce != c.Nonce:
		out.Error = "signed, but it does not answer to the nonce"
	default:
		s.Key = key
		s.Report = nil // the reports of a fleet need not be in memory at once
		c.statements = append(c.statements, s)
	}
	return out
}

// Breaks returns where the accepted reports do not follow each other, or where machines
// share a key.
func (c *Check) Breaks() []Break {
	return slices.Concat(Shared(c.statements), Breaks(c.statements))
}
