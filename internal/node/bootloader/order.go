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
	rest := func(s string) string {
		return strings.TrimLeftFunc(s, func(r rune) bool { return !isDigit(r) && !isLetter(r) && !strings.ContainsRune("~-^.", r) })
	}
	for {
		a, b = rest(a), rest(b)
		for _, mark := range "~-^." {
			m := string(mark)
			hasA, hasB := strings.HasPrefix(a, m), strings.HasPrefix(b, m)
			if mark != '~' && (a == "" || b == "") {
				return cmp.Compare(len(a), len(b))
			}
			if hasA != hasB {
				if hasA {
					return -1
				}
				return 1
			}
			if hasA {
				a, b = a[1:], b[1:]
				break
			}
		}
		if a == "" || b == "" {
			if a == "" && b == "" {
				return 0
			}
			if a == "" && b[0] == '~' {
				return 1
			}
			if b == "" && a[0] == '~' {
				return -1
			}
			return cmp.Compare(len(a), len(b))
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
			if c := cmp.Compare(len(runA), len(runB)); c != 0 {
				return c
			}
		}
		if c := strings.Compare(runA, runB); c != 0 {
			return c
		}
		if runA == "" && !number {
			// A mark that the other has in another place.
			return strings.Compare(a, b)
		}
	}
}

func isDigit(r rune) bool  { return '0' <= r && r <= '9' }
func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// run returns the beginning of s that is all of one class.
func run(s string, class func(rune) bool) string {
	return s[:len(s)-len(strings.TrimLeftFunc(s, class))]
}
