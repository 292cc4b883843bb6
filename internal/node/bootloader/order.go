package bootloader

import (
	"cmp"
	"strings"
)

// compareEntries orders entries as systemd-boot's menu does: those without tries
// last, those with a sort key first, by it and by the machine, and the newest
// version first.
func compareEntries(a, b *Entry) int {
	exhausted := func(e *Entry) int {
		if e.tries == 0 {
			return 1
		}
		return 0
	}
	if c := cmp.Compare(exhausted(a), exhausted(b)); c != 0 {
		return c
	}
	if (a.sortKey == "") != (b.sortKey == "") {
		if a.sortKey != "" {
			return -1
		}
		return 1
	}
	if a.sortKey != "" {
		if c := cmp.Or(strings.Compare(a.sortKey, b.sortKey), strings.Compare(a.machineID, b.machineID), -compareVersions(a.version, b.version)); c != 0 {
			return c
		}
	}
	return -compareVersions(a.id(), b.id())
}

// compareVersions is the order of the UAPI group's version format: runs of digits
// as numbers, runs of letters as text, "~" before the end and all else after it.
func compareVersions(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, separates), strings.TrimLeftFunc(b, separates)
		var order int
		if a, b, order = cutMark(a, b); order != 0 {
			return order
		}
		if a == "" || b == "" {
			return compareEnded(a, b)
		}
		class := isLetter
		number := isDigit(rune(a[0])) || isDigit(rune(b[0]))
		if number {
			class = isDigit
		}
		runA, runB := run(a, class), run(b, class)
		a, b = a[len(runA):], b[len(runB):]
		if number {
			runA, runB = strings.TrimLeft(runA, "0"), strings.TrimLeft(runB, "0")
			order = cmp.Compare(len(runA), len(runB))
		}
		if order = cmp.Or(order, strings.Compare(runA, runB)); order != 0 {
			return order
		}
		if runA == "" && !number {
			// A mark that the other has in another place.
			return strings.Compare(a, b)
		}
	}
}

// versionMarks are the marks of the format, in the order in which they are compared.
const versionMarks = "~-^."

// separates reports whether r is of no meaning in a version.
func separates(r rune) bool {
	return !isDigit(r) && !isLetter(r) && !strings.ContainsRune(versionMarks, r)
}

// cutMark removes the mark that both versions begin with. If one alone begins with a mark,
// it is before the other, and order says so.
func cutMark(a, b string) (restA, restB string, order int) {
	for _, r := range versionMarks {
		mark := string(r)
		if mark != "~" && (a == "" || b == "") {
			break
		}
		afterA, hasA := strings.CutPrefix(a, mark)
		afterB, hasB := strings.CutPrefix(b, mark)
		switch {
		case hasA && hasB:
			return afterA, afterB, 0
		case hasA:
			return a, b, -1
		case hasB:
			return a, b, 1
		}
	}
	return a, b, 0
}

// compareEnded compares two versions of which at least one has come to its end.
func compareEnded(a, b string) int {
	switch {
	case strings.HasPrefix(a, "~"):
		return -1
	case strings.HasPrefix(b, "~"):
		return 1
	}
	return cmp.Compare(len(a), len(b))
}

func isDigit(r rune) bool  { return '0' <= r && r <= '9' }
func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// run returns the beginning of s that is all of one class.
func run(s string, class func(rune) bool) string {
	return s[:len(s)-len(strings.TrimLeftFunc(s, class))]
}
