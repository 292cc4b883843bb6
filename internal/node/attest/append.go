package attest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"every.channel/ec-verify/internal/report"
)

// Signer signs with the key of this machine.
type Signer interface {
	// Sign returns a bundle with the signed statement.
	Sign(ctx context.Context, statement []byte) (bundle []byte, err error)
	// Signed reports whether a bundle is signed with this key.
	Signed(bundle []byte) bool
}

// Append signs r as the next report of this machine and returns the file that it wrote.
// If it sets files of others aside, r gets a finding about them, which is signed too.
func (d Dir) Append(ctx context.Context, r *report.Report, nonce string, key Signer) (string, error) {
	place := Place{Run: NewRun(), Nonce: nonce}
	var err error
	// A machine without a name is known by its key alone.
	if place.Machine, err = ThisMachine(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	end, err := d.Next(place.Machine, key.Signed)
	if err != nil {
		return "", err
	}
	place.Sequence, place.Previous = end.Sequence, end.Previous
	if n := len(end.Foreign); n > 0 {
		r.Findings = append(r.Findings, report.Finding{
			Tier: report.TierRelease, Cause: report.ForeignReport, Path: filepath.Join(d.Path, end.Foreign[0]),
			Detail: fmt.Sprintf("in all, with this one: %d", n),
		})
		r.Sort()
	}
	statement, err := Encode(place, r)
	if err != nil {
		return "", err
	}
	bundle, err := key.Sign(ctx, statement)
	if err != nil {
		return "", err
	}
	return d.Add(place.Sequence, bundle)
}
