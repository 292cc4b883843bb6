package attest

import (
	"cmp"
	"fmt"
	"slices"
)

// Break is a place where a machine's reports do not follow each other.
type Break struct {
	Machine string
	// After and Before are the sequence numbers on both sides of it.
	After, Before int64
	Detail        string
}

func (b Break) String() string {
	if b.After == b.Before {
		return fmt.Sprintf("machine %s, report %d: %s", cmp.Or(b.Machine, "without a name"), b.After, b.Detail)
	}
	return fmt.Sprintf("machine %s, reports %d and %d: %s", cmp.Or(b.Machine, "without a name"), b.After, b.Before, b.Detail)
}

// Shared returns where one key signed for several machines: each needs its own, so that
// no machine can sign reports of another. The statements must have a Key.
func Shared(all []*Statement) []Break {
	machines := make(map[string]*Statement)
	var out []Break
	for _, s := range all {
		first, known := machines[s.Key]
		switch {
		case s.Key == "":
		case !known:
			machines[s.Key] = s
		case first.Machine != s.Machine:
			out = append(out, Break{Machine: s.Machine, After: s.Sequence, Before: s.Sequence, Detail: fmt.Sprintf(
				"signed by the key %s, which signs for machine %s as well: one of the two is not what it says", s.Key, cmp.Or(first.Machine, "without a name"))})
		}
	}
	return out
}

// Breaks sorts statements by machine and sequence number, and returns where they do not
// follow each other: one is missing, two have the same number, or one does not name its
// predecessor. A duplicate of the same statement is no break. What precedes the first or
// follows the last statement of a machine is not judged.
func Breaks(all []*Statement) []Break {
	slices.SortStableFunc(all, func(a, b *Statement) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Sequence, b.Sequence))
	})
	var out []Break
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if a.Machine != b.Machine || a.Digest == b.Digest {
			continue
		}
		var detail string
		switch {
		case a.Sequence == b.Sequence:
			detail = "two reports with one number: the machine's memory was reset, or one of them is not its own"
		case b.Sequence == a.Sequence+2:
			detail = fmt.Sprintf("report %d is missing", a.Sequence+1)
		case b.Sequence > a.Sequence+1:
			detail = fmt.Sprintf("reports %d to %d are missing", a.Sequence+1, b.Sequence-1)
		case b.Previous == "":
			detail = "the later one names none before it: the earlier one was gone or unreadable on the machine"
		case b.Previous != a.Digest:
			detail = "the later one names another one before it: one of the two is not what the machine wrote then"
		default:
			continue
		}
		out = append(out, Break{Machine: a.Machine, After: a.Sequence, Before: b.Sequence, Detail: detail})
	}
	return out
}
