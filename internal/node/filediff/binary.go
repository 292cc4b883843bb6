package filediff

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	"every.channel/ec-verify/pkg/excerpt"
)

const (
	// maxTexts limits the texts of a file that are kept for the comparison: each takes
	// some 60 bytes of memory, however short it is.
	maxTexts = 1_000_000
	// maxRegions limits the places of a file for which a cause is sought.
	maxRegions = 2000
	// joined is how many equal bytes two differences of one place may be apart.
	joined = 8
	// around is how many bytes around a place are used to recognize it.
	around = 160
)

// binary compares bytes of an unknown format.
func (c *comparison) binary(r *Result, a, b []byte) {
	r.Window = window(a, b, r.First)
	if len(a) == len(b) {
		known := c.knownDirectories()
		// A directory alone is known only by the files that are seen in it.
		c.explainPlaces(known, a, b)
		var causes []Cause
		causes, r.Explained = c.explainPlaces(known, a, b)
		for _, cause := range causes {
			r.caused(cause)
		}
		if len(causes) == 0 && !r.Explained {
			// Padding can keep a size although the contents moved.
			onlyA, onlyB := onlyIn(a, b)
			c.explainSources(r, onlyA, onlyB)
		}
		return
	}
	c.explainMoved(r, a, b)
}

// explainPlaces looks for the causes of each place in which two files of equal size
// differ, and reports whether it found one for each.
func (c *comparison) explainPlaces(known directories, a, b []byte) (found []Cause, all bool) {
	all = true
	n := 0
	for at := 0; at < len(a); {
		skip := mismatch(a[at:], b[at:])
		if skip < 0 {
			break
		}
		start := at + skip
		end, last := start+1, start
		for end < len(a) && end-last <= joined {
			if a[end] != b[end] {
				last = end
			}
			end++
		}
		end = last + 1
		at = end
		if n++; n > maxRegions || c.ctx.Err() != nil {
			return found, false
		}
		from, to := textAround(a, b, start, end)
		causes, ok := explainStrings(string(a[from:to]), string(b[from:to]), known)
		if !ok {
			all = false
			continue
		}
		found = append(found, causes...)
		at = max(at, to)
	}
	return found, all
}

// mismatch returns the first index at which a and b, of equal length, differ; -1 for
// none.
func mismatch(a, b []byte) int {
	const step = 4096
	for at := 0; at < len(a); at += step {
		end := min(at+step, len(a))
		if bytes.Equal(a[at:end], b[at:end]) {
			continue
		}
		for i := at; i < end; i++ {
			if a[i] != b[i] {
				return i
			}
		}
	}
	return -1
}

// textAround extends [start, end) to the readable text around it on both sides.
func textAround(a, b []byte, start, end int) (from, to int) {
	from, to = start, end
	for from > 0 && start-from < around && printable(a[from-1]) && printable(b[from-1]) {
		from--
	}
	for to < len(a) && to-end < around && printable(a[to]) && printable(b[to]) {
		to++
	}
	return from, to
}

func printable(c byte) bool { return c >= ' ' && c < 0x7f || c == '\t' || c == '\n' }

// explainMoved looks for the causes of the texts in which two files of different sizes
// differ. The bytes between the texts have moved and cannot be accounted for.
func (c *comparison) explainMoved(r *Result, a, b []byte) {
	onlyA, onlyB := onlyIn(a, b)
	if len(onlyA) == len(onlyB) && len(onlyA) > 0 && len(onlyA) <= maxRegions && c.explainTexts(r, onlyA, onlyB) {
		return
	}
	c.explainSources(r, onlyA, onlyB)
}

// explainTexts looks for the causes of texts that are in the same order on both sides,
// and reports whether it found any.
func (c *comparison) explainTexts(r *Result, onlyA, onlyB []string) bool {
	known := c.knownDirectories()
	var found []Cause
	unexplained := 0
	for range 2 {
		found, unexplained = nil, 0
		for i := range onlyA {
			causes, ok := explainStrings(onlyA[i], onlyB[i], known)
			if !ok {
				unexplained++
				continue
			}
			found = append(found, causes...)
		}
	}
	for _, cause := range found {
		r.caused(cause)
	}
	if len(found) > 0 && unexplained == 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the cause accounts for all %d texts that differ; the bytes between them have moved and were not compared", len(onlyA)))
	}
	return len(found) > 0
}

// explainSources finds the two directories of a build by the source files below them that
// both sides mention, in the texts that only one side has. A text may begin and end with
// bytes that merely look like letters, so only the paths in it are compared.
func (c *comparison) explainSources(r *Result, onlyA, onlyB []string) {
	inA, inB := sourcePaths(onlyA), sourcePaths(onlyB)
	if len(inA) == 0 || len(inA) != len(inB) {
		return
	}
	known := c.knownDirectories()
	for i := range inA {
		dirA, dirB, ok := builtIn(inA[i], inB[i], known)
		if !ok {
			return
		}
		r.caused(Cause{Name: BuildDir, A: excerpt.Raw(dirA), B: excerpt.Raw(dirB)})
	}
}

// sourcePaths returns the source files below build directories that texts mention,
// without duplicates, ordered by what follows the last slash.
func sourcePaths(texts []string) []string {
	seen := make(map[string]bool)
	for _, text := range texts {
		if len(text) > maxLooked || len(seen) > maxRegions {
			return nil
		}
		for _, t := range tokens(text) {
			if t.name != BuildDir {
				continue
			}
			if source := sourceIn(text[t.start:t.end]); source != "" {
				seen[source] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(x, y string) int {
		return cmp.Or(cmp.Compare(path.Base(x), path.Base(y)), cmp.Compare(x, y))
	})
}

// onlyIn returns the texts of a that b lacks and those of b that a lacks, in their order.
func onlyIn(a, b []byte) (onlyA, onlyB []string) {
	textsA, textsB := texts(a), texts(b)
	if textsA == nil || textsB == nil {
		return nil, nil
	}
	count := make(map[string]int, len(textsA))
	for _, s := range textsA {
		count[s]++
	}
	for _, s := range textsB {
		if count[s] > 0 {
			count[s]--
			continue
		}
		onlyB = append(onlyB, s)
	}
	// The remaining ones of a, the last occurrences first.
	for i := len(textsA) - 1; i >= 0; i-- {
		if s := textsA[i]; count[s] > 0 {
			count[s]--
			onlyA = append(onlyA, s)
		}
	}
	for i, j := 0, len(onlyA)-1; i < j; i, j = i+1, j-1 {
		onlyA[i], onlyA[j] = onlyA[j], onlyA[i]
	}
	return onlyA, onlyB
}

// texts returns the readable text in data: runs of at least 6 characters; nil if there
// are too many.
func texts(data []byte) []string {
	const shortest = 6
	var out []string
	start := -1
	for i := 0; i <= len(data); i++ {
		if i < len(data) && printable(data[i]) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 && i-start >= shortest {
			if len(out) == maxTexts {
				return nil
			}
			out = append(out, string(data[start:i]))
		}
		start = -1
	}
	return out
}
