package terminal

import (
	"errors"

	"every.channel/ec-verify/internal/release"
	"every.channel/ec-verify/internal/report"
)

// refusal is what --output json prints if there is no result: because the release is not
// trusted, or because something failed.
type refusal struct {
	SchemaVersion int            `json:"schemaVersion"`
	Kind          string         `json:"kind"` // that of the command's result
	Verdict       string         `json:"verdict"`
	Tag           release.Tag    `json:"tag,omitzero"`
	Reason        release.Reason `json:"reason,omitzero"`
	Detail        string         `json:"detail"`
}

// Text implements [Result]. People read the error on standard error.
func (r *refusal) Text(Screen) string { return "" }

// Refused returns err, and with --output json prints it to standard output first, so that
// a program learns why there is no result. Errors of the command line or the
// configuration are for people alone.
func (t *Terminal) Refused(kind string, err error) error {
	own, ok := errors.AsType[exitError](err)
	if err == nil || t.ForPeople() || ok && (own.reported || own.code == ExitUsage || own.code == ExitConfig) {
		return err
	}
	r := refusal{SchemaVersion: 1, Kind: kind, Verdict: report.Unsettled.String(), Detail: err.Error()}
	if untrusted, ok := errors.AsType[*release.UntrustedError](err); ok {
		r.Verdict, r.Tag, r.Reason = report.Refused.String(), untrusted.Tag, untrusted.Reason
	}
	if own.code == ExitDrifted {
		r.Verdict = report.Drifted.String()
	}
	if printErr := t.Show(&r); printErr != nil {
		return printErr
	}
	return err
}
