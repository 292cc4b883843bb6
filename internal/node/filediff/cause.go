package filediff

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"every.channel/ec-verify/pkg/excerpt"
)

// pattern recognizes the trace of a cause in a text: the last group of expr, in a place
// that shows its meaning.
type pattern struct {
	name  CauseName
	expr  *regexp.Regexp
	valid func(string) bool
}

const (
	days   = `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`
	months = `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`
	clock  = `(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d`
)

// buildRoots are the directories of builds, where nothing is installed.
const buildRoots = `(?:/build|/builds|/tmp|/var/tmp|/private/tmp|/nix/var/nix/builds|/home/[\w.-]+|/root|/workspace|/github/workspace|/Users/[\w.-]+)`

// patterns are compiled when they are needed, which takes as long as to start the
// program.
var patterns = sync.OnceValue(func() []pattern {
	return []pattern{
		{ContentHash, regexp.MustCompile(`Go build ID: "([\w./-]+)"`), nil},
		{RandomID, regexp.MustCompile(`\b([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})\b`), nil},
		{Dependency, regexp.MustCompile(`/nix/store/([0-9a-df-np-sv-z]{32})-`), nil},
		{Date, regexp.MustCompile(`\b((?:19[7-9]\d|20\d\d)-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[T ]` + clock + `(?:\.\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?)\b`), validDay},
		{Date, regexp.MustCompile(`\b((?:` + days + `,? )?(?:\d{1,2} ` + months + `|` + months + ` {1,2}\d{1,2})(?: ` + clock + `)?(?: [A-Z]{3,4})? \d{4}(?: ` + clock + `)?)\b`), nil},
		{Date, regexp.MustCompile(`\b(` + clock + `)\b`), nil},
		{Date, regexp.MustCompile(`(?i)(?:SOURCE_DATE_EPOCH|epoch|timestamp|build[-_ ]?(?:time|date)|mtime)["']?[ :=]{1,3}["']?(1\d{9})\b`), nil},
		{HostName, regexp.MustCompile(`(?i)(?:build[-_ ]?host(?:[-_ ]?name)?|nodename)["']?(?: ?[:=] ?| is )["']?([a-z0-9][\w.-]*)`), nil},
		{HostName, regexp.MustCompile(`(?i)built on ([a-z0-9][\w.-]*)`), nil},
		{HostName, regexp.MustCompile(`\([\w-]+@([\w.-]+)\) \((?:gcc|clang)`), nil},
		{CoreCount, regexp.MustCompile(`(?:NIX_BUILD_CORES|nproc|MAKEFLAGS)["']?[ :=]{1,3}["']?(?:-j ?)?(\d{1,4})\b`), nil},
		{BuildDir, regexp.MustCompile(`(` + buildRoots + `(?:/[\w.+@=~-]+)*)`), nil},
	}
})

func validDay(s string) bool {
	_, err := time.Parse(time.DateOnly, s[:len(time.DateOnly)])
	return err == nil
}

// token is a match of a pattern.
type token struct {
	name       CauseName
	start, end int
}

// tokens returns the matches of the patterns in s, in their order; if two overlap, the
// one that comes first in patterns counts.
func tokens(s string) []token {
	var found []token
	taken := make([]bool, len(s))
	for _, p := range patterns() {
		for _, m := range p.expr.FindAllStringSubmatchIndex(s, -1) {
			start, end := m[len(m)-2], m[len(m)-1]
			if taken[start] || taken[end-1] || p.valid != nil && !p.valid(s[start:end]) {
				continue
			}
			for i := start; i < end; i++ {
				taken[i] = true
			}
			found = append(found, token{p.name, start, end})
		}
	}
	slices.SortFunc(found, func(a, b token) int { return cmp.Compare(a.start, b.start) })
	return found
}

// maxLooked limits a text that is searched for causes, in bytes.
const maxLooked = 1 << 20

// directories are the pairs of directories in which a file was built.
type directories map[[2]string]bool

// knownDirectories returns the pairs that are known before the comparison.
func (c *comparison) knownDirectories() directories {
	known := make(directories)
	maps.Copy(known, c.built)
	return known
}

// sorted returns the pairs in order.
func (d directories) sorted() [][2]string {
	return slices.SortedFunc(maps.Keys(d), func(x, y [2]string) int { return slices.Compare(x[:], y[:]) })
}

// explainStrings returns the causes that account for all differences between a and b; ok
// is false if they do not.
func explainStrings(a, b string, known directories) (causes []Cause, ok bool) {
	if len(a) > maxLooked || len(b) > maxText {
		return nil, false
	}
	inA, inB := tokens(a), tokens(b)
	if len(inA) != len(inB) || len(inA) == 0 {
		return nil, false
	}
	atA, atB := 0, 0
	for i := range inA {
		x, y := inA[i], inB[i]
		if x.name != y.name || a[atA:x.start] != b[atB:y.start] {
			return nil, false
		}
		atA, atB = x.end, y.end
		textA, textB := a[x.start:x.end], b[y.start:y.end]
		if textA == textB {
			continue
		}
		if x.name == BuildDir {
			var same bool
			if textA, textB, same = builtIn(textA, textB, known); !same {
				return nil, false
			}
		}
		causes = append(causes, Cause{Name: x.name, A: excerpt.Raw(textA), B: excerpt.Raw(textB)})
	}
	return causes, a[atA:] == b[atB:]
}

// nixBuild matches Nix's build directories. In a text, which may be a setting, no other
// directory counts as one of a build.
var nixBuild = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:/build|/tmp/nix-build-[^/]+|/nix/var/nix/builds/[^/]+)(?:/|$)`)
})

var isSource = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(sourceSuffix + `$`) })

// rustSource matches a Rust source file with the directory before it. Rust's texts have
// no terminator: the next one follows at once and looks like part of the name.
var rustSource = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^.*?/src/[\w/-]+\.rs`) })

// sourceIn returns the source file that path is, or starts with; "" for none.
func sourceIn(path string) string {
	if isSource().MatchString(path) {
		return path
	}
	return rustSource().FindString(path)
}

// builtIn returns the two directories from which a and b name the same source file. Other
// paths prove nothing: any of them may have been changed.
func builtIn(a, b string, known directories) (dirA, dirB string, ok bool) {
	if known[[2]string{a, b}] {
		return a, b, true
	}
	partsA, partsB := strings.Split(a, "/"), strings.Split(b, "/")
	n := 0
	for n < min(len(partsA), len(partsB))-1 && partsA[len(partsA)-1-n] == partsB[len(partsB)-1-n] {
		n++
	}
	dirA, dirB = strings.Join(partsA[:len(partsA)-n], "/"), strings.Join(partsB[:len(partsB)-n], "/")
	if n > 0 && known[[2]string{dirA, dirB}] {
		return dirA, dirB, true
	}
	if n == 0 || sourceIn(a) == "" {
		return "", "", false
	}
	known[[2]string{dirA, dirB}] = true
	return dirA, dirB, true
}

// when returns a time in seconds since 1970 for people.
func when(seconds int64) string {
	if seconds < 0 || seconds > 1<<34 {
		return strconv.FormatInt(seconds, 10)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
