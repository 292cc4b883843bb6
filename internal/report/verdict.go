package report

// Verdict is the result of a run. The zero value is Unsettled: nothing is verified by
// default.
type Verdict uint8

// The verdicts.
const (
	// Unsettled: something that the policy asks for could not be checked.
	Unsettled Verdict = iota
	// Verified: everything that the policy asks for was checked and agrees.
	Verified
	// Drifted: at least one finding of class drift.
	Drifted
	// Refused: the release is untrusted, and nothing from it was used.
	Refused
)

// String returns the word in reports: "inconclusive", "verified", "drifted" or
// "untrusted".
func (v Verdict) String() string {
	return [...]string{"inconclusive", "verified", "drifted", "untrusted"}[v]
}

// MarshalText implements [encoding.TextMarshaler] with String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// judge returns the verdict for tiers and findings counted by class: untrusted before
// drifted before inconclusive before verified. Verified requires that every tier that was
// asked for is done and checked something, that at least one of them concerns the
// machine, and that all findings are notices.
func judge(tiers []Tier, counts map[Class]int) Verdict {
	switch {
	case counts[Untrusted] > 0:
		return Refused
	case counts[Drift] > 0:
		return Drifted
	case counts[Inconclusive] > 0:
		return Unsettled
	}
	compared := false
	for _, t := range tiers {
		if !t.Asked {
			continue
		}
		if t.Status != Done || t.Checked == 0 {
			return Unsettled
		}
		// A trusted release says nothing about the machine.
		compared = compared || t.Name != TierRelease
	}
	if !compared {
		return Unsettled
	}
	return Verified
}

// Verdict returns r's verdict.
func (r *Report) Verdict() Verdict { return judge(r.Tiers, r.Counts()) }
